"""Layouts: views without a copy, exact inverses, and masks that must fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import NoMatchError, ShapeMismatchError
from secateur.layout import Layout, masks_to_canonical, masks_to_native


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    split = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    order = tuple(draw(st.permutations(range(len(split)))))
    merged = draw(st.integers(0, max(0, len(split) - 1)))
    native = (int(np.prod(split[: merged + 1])), *split[merged + 1 :]) if split else ()
    return Layout("kernel", tuple("abcd"[: len(split)]), native, split, order)


@given(layouts(), st.randoms())
def test_there_and_back(layout: Layout, random) -> None:  # type: ignore[no-untyped-def]
    size = int(np.prod(layout.native))
    native = np.array([random.random() for _ in range(size)]).reshape(layout.native)
    canonical = layout.to_canonical(native)
    assert canonical.shape == layout.shape
    assert not size or np.shares_memory(canonical, native)
    np.testing.assert_array_equal(layout.to_native(canonical), native)
    mask = native > 0.5
    masks = masks_to_canonical({"w": layout}, {"w": mask})
    back = masks_to_native({"w": layout}, masks)["w"]
    assert back.flags.c_contiguous
    assert back.shape == layout.native
    np.testing.assert_array_equal(back, mask)


def test_masks_must_fit() -> None:
    layout = Layout("kernel", ("out", "in"), (2, 3), (2, 3), (1, 0))
    with pytest.raises(NoMatchError, match="no weight named v"):
        masks_to_native({"w": layout}, {"v": np.ones((3, 2), bool)})
    with pytest.raises(ShapeMismatchError, match=r"shape \(2, 3\), expected \(3, 2\)"):
        masks_to_native({"w": layout}, {"w": np.ones((2, 3), bool)})
