"""One row tells as much as all of them where shapes follow from weights, and where every tensor has rows."""

from __future__ import annotations

import numpy as np

from secateur.structure.forced import first_row, is_forced
from secateur.structure.graph import Graph, Operation, ParameterShape

KERNEL = {"dense": ParameterShape((3, 4), ("out", "in"), "kernel")}


def graph(*tensors: tuple[int, ...], kind: str = "linear") -> Graph:
    operation = Operation(kind, (0,), (1,), {"kernel": "dense"}, {"axis": 1, "shape": tensors[1]})
    return Graph(tensors, (operation,), (0,), (1,), KERNEL)


def test_the_first_row_keeps_the_form_of_the_example() -> None:
    rows, dense = np.arange(8.0).reshape(2, 4), graph((2, 4), (2, 3))
    assert np.array_equal(first_row(dense, rows), rows[:1])
    assert np.array_equal(first_row(dense, (rows,))[0], rows[:1])
    assert np.array_equal(first_row(dense, {"x": rows})["x"], rows[:1])


def test_there_is_none_where_rows_may_depend_on_one_another() -> None:
    rows = np.zeros((2, 4))
    assert first_row(graph((2, 4), (3,)), rows) is None
    assert first_row(graph((2, 4), (2, 3)), (rows, np.zeros((5, 4)))) is None
    assert first_row(graph((2, 4), (2, 3)), [rows, 7]) is None
    assert first_row(graph((1, 4), (1, 3)), rows[:1]) is None


def test_only_a_reshape_that_flattens_is_forced() -> None:
    assert is_forced(graph((2, 2, 2), (2, 4), kind="reshape"))
    assert not is_forced(graph((2, 4), (4, 2), kind="reshape"))
    assert first_row(graph((2, 4), (2, 2, 2), kind="reshape"), np.zeros((2, 4))) is None
