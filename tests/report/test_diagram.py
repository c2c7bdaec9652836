"""The drawings made without plotly: heights, squares and colours follow the numbers."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET

from report.samples import all_details
from secateur.report.diagram import CELL, structure_diagram, unit_strip
from secateur.report.numbers import LayerRow, Removal
from secateur.report.palette import PALETTE, dark_counterparts
from secateur.structure.cost import Cost

FREE = Cost(0, 0, 0)


def bars(rows: tuple[LayerRow, ...]) -> list[tuple[str, float]]:
    drawn = ET.fromstring(structure_diagram(rows))
    return [(bar.get("class", ""), float(bar.get("height", ""))) for bar in drawn.iter("rect")]


def test_bars_are_as_tall_as_layers_are_wide() -> None:
    # Input 6, then fc1 with 12 units before and 6 after, then fc2 with 4 of both.
    assert bars(all_details("neurons").layers) == [("is", 75.0), ("was", 150.0), ("is", 75.0), ("is", 50.0)]


def test_the_band_of_a_sparser_layer_is_paler_and_says_so() -> None:
    drawn = structure_diagram(all_details("weights").layers)
    first, second = [float(opacity) for opacity in re.findall(r'class="band" fill-opacity="([\d.]+)"', drawn)]
    rows = all_details("weights").layers
    assert (first < second) == (rows[0].sparsity > rows[1].sparsity)
    assert f"{100 * (1 - rows[0].sparsity):.0f} % of weights" in drawn


def test_recurrent_embedding_and_empty_layers_are_drawn_too() -> None:
    recurrent = LayerRow("rnn", "LSTM", (4, 8, 8), (4, 8, 8), 256, 256, 8, 8, FREE, FREE)
    empty = LayerRow("none", "Linear", (0, 8), (0, 8), 0, 0, 0, 0, FREE, FREE)
    assert bars((recurrent, empty)) == [("is", 0.0), ("is", 150.0), ("is", 0.0)]


def test_one_square_a_unit() -> None:
    removal = Removal("fc1", "neurons", 3, 70, "low", units=(0, 1, 65))
    drawn = ET.fromstring(unit_strip(removal))
    kept, gone = [path.get("d", "") for path in drawn.iter("path")]
    assert (kept.count("M"), gone.count("M")) == (67, 3)
    assert gone.startswith("M0 0") and f"M{CELL} {CELL}" in gone
    assert ET.fromstring(unit_strip(dataclasses.replace(removal, units=(), total=0))) is not None


def test_every_colour_has_its_own_counterpart() -> None:
    assert len(dark_counterparts()) == len(PALETTE)
