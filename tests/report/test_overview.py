"""The table that a pruned model prints."""

from __future__ import annotations

import json

from report.samples import all_details
from secateur.report.overview import Overview
from secateur.structure.coupling import Frozen


def test_it_tells_every_layer_and_the_total() -> None:
    told = all_details("neurons")
    written = str(Overview(told.layers, told.frozen))
    for part in ("fc1", "12×6 → 6×6", "36 of 72", "50.0 %", "84 → 42", "fc2", "4×12 → 4×6", "total", "60 of 120"):
        assert part in written, part
    assert "stays: fc2.weight" in written
    assert max(map(len, written.splitlines())) <= 120


def test_it_tells_the_units_what_goes_with_them_and_the_form() -> None:
    told = all_details("neurons")
    written = str(Overview(told.layers, told.frozen, told.notes, told.coupled, "your own module"))
    for part in ("neurons of fc1", "6 of 12", "fc1.weight out, bias1, fc2.weight in", "smaller model: your own module"):
        assert part in written, part
    assert "with each of them" not in str(Overview(told.layers))


def test_many_operations_that_hold_the_same_are_told_in_one_line() -> None:
    kernels = tuple(f"{number}.weight" for number in range(20))
    frozen = [Frozen("", f"norm{number}", "it normalises over this axis", kernels) for number in range(9)]
    lines = str(Overview((), (*frozen, Frozen("net.py:3", "sort", "it sorts", ("0.weight",))))).splitlines()
    assert sum(line.startswith("stays: ") for line in lines) == 2
    assert "stays: 0.weight: net.py:3 sort: it sorts" in lines
    assert "12 more" in "".join(lines) and "1 more: it normalises" in "".join(lines)


def test_a_model_without_layers_has_a_table_too() -> None:
    assert "total" in str(Overview(()))


def test_it_is_plain_json() -> None:
    plain = Overview(all_details().layers).to_dict()
    assert json.loads(json.dumps(plain)) == plain
