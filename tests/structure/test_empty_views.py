"""Reshapes of tensors without elements, as an expert gets that no token of the example was sent to."""

from __future__ import annotations

import pytest

from secateur.structure.coupling import couple
from structure.building import GraphBuilder


@pytest.mark.parametrize(
    ("middle", "units"), [((0, 6), 6), ((0, 1, 6), 6), ((0, 2, 3), 0), ((0,), 0), ((6, 0), 0), ((3, 0, 2), 0)]
)
def test_an_axis_that_stays_one_axis_is_carried(middle: tuple[int, ...], units: int) -> None:
    """What is joined to others or divided stays, for nothing tells how."""
    builder = GraphBuilder()
    wide = builder.linear(builder.input(2, 0, 4), 6)
    back = builder.reshape(builder.activation(builder.reshape(wide, *middle)), 2, 0, 6)
    graph = builder.build(builder.linear(back, 3))
    assert couple(graph).count == units
