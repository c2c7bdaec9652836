"""Records that went to JSON come back as they were."""

from __future__ import annotations

import json

import pytest

from secateur.demo.records import decode
from secateur.report import Curve, Details, Distribution, FittedCurve, Histogram, LayerRow, Removal
from secateur.structure.cost import Cost
from secateur.structure.coupling import Frozen

HISTOGRAM = Histogram((0.0, 0.5, 1.0), (3, 4), zeros=1, mean=0.5)
DETAILS = Details(
    layers=(
        LayerRow(
            "fc", "Linear", (4, 2), (2, 2), 4, 8, 4, 2, Cost(8, 16, 32), Cost(4, 8, 16), ((0.5, 1.0), (0.0, 0.25))
        ),
    ),
    distributions=(
        Distribution(
            "fc.weight",
            "weight",
            "weight",
            HISTOGRAM,
            None,
            (FittedCurve("normal", (0.0,), (1.0,), 0.25),),
            (-1.0, 1.0),
        ),
        Distribution("fc.weight", "gradient", "mean |gradient|", HISTOGRAM, HISTOGRAM),
    ),
    removals=(Removal("fc", "neurons", 2, 4, "lowest", None, (0, 3), (0.1, 0.2), (("out.weight", "in", 2),)),),
    frozen=(Frozen(source="here", label="add", reason="output", parameters=("out.weight",)),),
    curves=(Curve("validation", (1.0, 2.0), (0.5, 0.25)),),
    notes=("a note",),
)


def test_details_survive_json() -> None:
    assert decode(Details, json.loads(json.dumps(DETAILS.to_dict()))) == DETAILS


def test_a_field_that_is_missing_or_unknown_is_refused() -> None:
    with pytest.raises(TypeError):
        decode(Curve, {"name": "validation"})
    with pytest.raises(KeyError):
        decode(Curve, {"name": "validation", "x": [], "y": [], "colour": "red"})
