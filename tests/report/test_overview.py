"""The table that a pruned model prints."""

from __future__ import annotations

import json

from report.samples import all_details
from secateur.report.overview import Overview


def test_it_tells_every_layer_and_the_total() -> None:
    told = all_details("neurons")
    written = str(Overview(told.layers, told.frozen))
    for part in ("fc1", "12×6 → 6×6", "36 of 72", "50.0 %", "84 → 42", "fc2", "4×12 → 4×6", "total", "60 of 120"):
        assert part in written, part
    assert "stays: fc2.weight" in written
    assert max(map(len, written.splitlines())) <= 120


def test_a_model_without_layers_has_a_table_too() -> None:
    assert "total" in str(Overview(()))


def test_it_is_plain_json() -> None:
    plain = Overview(all_details().layers).to_dict()
    assert json.loads(json.dumps(plain)) == plain
