"""Masks of bool and packed ones: one becomes the other, and both are compared alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import naive
import strategies
from secateur import masks
from secateur.errors import EmptyInputError, OutOfRangeError, RecipeError, ShapeMismatchError, UnsupportedDtypeError

bool_arrays = hnp.arrays(np.bool_, strategies.shapes())


@st.composite
def pairs(draw):
    """Two masks of one shape, in layouts of their own."""
    mask = draw(bool_arrays)
    return mask, draw(strategies.laid_out(draw(hnp.arrays(np.bool_, mask.shape))))


@given(st.data(), strategies.cuts)
def test_packing_is_by_bits_in_c_order_and_can_be_undone(data, cut):
    mask = data.draw(strategies.laid_out(data.draw(bool_arrays)))
    with strategies.cut(*cut):
        bits = masks.pack(mask)
    assert bits.dtype == np.uint8 and bits.tolist() == naive.packed(mask)
    found = masks.unpack(data.draw(strategies.laid_out(bits)), mask.shape)
    assert found.dtype == np.bool_ and np.array_equal(found, mask)


def test_unpacking_needs_bits_that_fit_the_shape():
    for bits, shape in [
        (np.zeros(2, np.uint8), (8,)),
        (np.zeros(8, np.bool_), (8,)),
        (np.zeros((1, 1), np.uint8), (8,)),
    ]:
        with pytest.raises(ShapeMismatchError):
            masks.unpack(bits, shape)
    for bits in (np.zeros(1, np.int64), None, [1], "bits"):
        with pytest.raises(UnsupportedDtypeError):
            masks.unpack(bits, (8,))


BITS = masks.pack(np.ones(12, bool))


@pytest.mark.parametrize(
    "call",
    [
        lambda shape: masks.unpack(BITS, shape),
        lambda shape: masks.sparsity(BITS, shape),
        lambda shape: masks.sparsity(np.ones(12, bool), shape),
        lambda shape: masks.sparsity([BITS, BITS], [(12,), shape]),
        lambda shape: masks.overlap(BITS, BITS, shape),
        lambda shape: masks.blocks(np.ones(12), shape, keep=1),
    ],
)
def test_a_shape_is_a_sequence_of_whole_numbers(call):
    for shape in (12, 1.5, "12", (12.0,), ("12",), (None,), (True,)):
        with pytest.raises(RecipeError, match=r" is .*: give (a whole number|its sides)"):
            call(shape)
    for shape in ((-12,), (-3, -4), (12, -1)):
        with pytest.raises(OutOfRangeError, match=r"has the side -\d+: give sides from [01]"):
            call(shape)
    assert call([np.int64(12)]) is not None


def test_shapes_of_several_masks_come_in_a_list():
    for shape in (12, 1.5):
        with pytest.raises(RecipeError, match="give a list of the shapes"):
            masks.sparsity([BITS], shape)


def test_the_absence_of_a_shape_is_an_error_for_unpacking():
    for call in (lambda: masks.unpack(BITS, None), lambda: masks.blocks(np.ones(12), None, keep=1)):
        with pytest.raises(RecipeError, match="is None, a NoneType: give its sides"):
            call()


@pytest.mark.parametrize("nothing", [None, 3, "mask"])
@pytest.mark.parametrize("compare", [masks.hamming, masks.union, masks.intersection, masks.overlap])
def test_what_is_no_mask_is_named(compare, nothing):
    mask = np.ones(3, bool)
    for pair, which in (((nothing, mask), "first"), ((mask, nothing), "second"), ((nothing, nothing), "first")):
        with pytest.raises(UnsupportedDtypeError, match=f"the {which} mask is {nothing!r}, .*: give a mask, or a list"):
            compare(*pair)
    with pytest.raises(UnsupportedDtypeError, match="give a mask, or a list"):
        masks.sparsity(nothing)
    assert masks.sparsity(mask for _ in range(2)) == 0.0


@given(st.lists(bool_arrays, min_size=1, max_size=3))
def test_sparsity_is_the_share_of_false(several):
    flat = np.concatenate([mask.ravel() for mask in several])
    if flat.size == 0:
        with pytest.raises(EmptyInputError):
            masks.sparsity(several)
    else:
        assert masks.sparsity(several) == np.count_nonzero(~flat) / flat.size
        assert masks.sparsity(flat) == masks.sparsity(several)


@given(st.data())
def test_overlap_is_intersection_over_union_of_what_is_pruned(data):
    a = data.draw(bool_arrays)
    b = data.draw(hnp.arrays(np.bool_, a.shape))
    pruned_by_a, pruned_by_b = ({i for i, kept in enumerate(mask.ravel()) if not kept} for mask in (a, b))
    union = pruned_by_a | pruned_by_b
    assert masks.overlap(a, b) == (len(pruned_by_a & pruned_by_b) / len(union) if union else 1.0)
    assert masks.overlap([a, b], [b, a]) == masks.overlap(a, b)


def test_overlap_of_nothing_pruned_is_complete():
    assert masks.overlap(np.ones(3, bool), np.ones(3, bool)) == 1.0
    assert masks.overlap(np.ones(3, bool), np.array([True, True, False])) == 0.0
    with pytest.raises(ShapeMismatchError):
        masks.overlap(np.ones(3, bool), np.ones(4, bool))


@given(pairs(), strategies.cuts)
def test_both_forms_are_compared_and_joined_alike(pair, cut):
    a, b = pair
    packed = masks.pack(a), masks.pack(b)
    with strategies.cut(*cut):
        assert masks.hamming(a, b) == masks.hamming(*packed) == int((a != b).sum())
        assert masks.hamming([a, b], [b, b]) == masks.hamming(a, b)
        assert np.array_equal(masks.intersection(a, b), a & b) and np.array_equal(masks.union(a, b), a | b)
        assert masks.intersection(*packed).tolist() == naive.packed(a & b)
        assert masks.union([packed[0]], [packed[1]])[0].tolist() == naive.packed(a | b)
        assert masks.overlap(*packed, a.shape) == masks.overlap([a], [b])
        if a.size:
            assert masks.sparsity(packed[0], a.shape) == masks.sparsity([a]) == np.count_nonzero(~a) / a.size
            assert masks.sparsity(list(packed), [a.shape, b.shape]) == masks.sparsity([a, b])
    assert masks.union(a, b).dtype == np.bool_ and masks.union(*packed).dtype == np.uint8


def test_large_masks_are_compared_by_words():
    a, b = np.random.default_rng(0).random((2, 1001)) > 0.3
    assert masks.hamming(masks.pack(a), masks.pack(b)) == masks.hamming(a, b) == int((a != b).sum())
    assert masks.overlap(masks.pack(a), masks.pack(b), a.shape) == (~a & ~b).sum() / (~a | ~b).sum()


def test_masks_that_cannot_be_compared_are_refused():
    a, packed = np.ones(12, bool), masks.pack(np.ones(12, bool))
    for call, message in [
        (lambda: masks.union(a, packed), "the second mask is packed, the other is not"),
        (lambda: masks.hamming(packed, packed[:1]), r"first mask has shape \(2,\), the second mask \(1,\)"),
        (lambda: masks.intersection([a], a), "give two, or two lists"),
        (lambda: masks.intersection([a], [a, a]), "1 masks cannot be compared with 2"),
        (lambda: masks.sparsity(packed), "packed, so it does not tell its number of elements: give shape="),
        (lambda: masks.overlap([packed], [packed]), "give shape="),
        (lambda: masks.sparsity([packed], [(12,), (3,)]), "1 masks but 2 shapes"),
        (lambda: masks.sparsity(packed, (3, 6)), r"uint8\[3\]"),
        (lambda: masks.sparsity(packed, (11,)), "bits beyond its 11 elements"),
        (lambda: masks.sparsity(a, (3, 4)), r"has shape \(12,\), not \(3, 4\)"),
        (lambda: masks.apply(np.ones((3, 3)), packed), "bits beyond its 9 elements"),
        (lambda: masks.apply(np.ones((5, 5)), packed), r"uint8\(2,\), but a mask of shape \(5, 5\)"),
    ]:
        with pytest.raises(ShapeMismatchError, match=message):
            call()
    with pytest.raises(UnsupportedDtypeError):
        masks.hamming(np.ones(3), np.ones(3))


@given(hnp.arrays(np.uint8, strategies.shapes()), st.data(), strategies.cuts)
def test_any_byte_but_0_is_true(one, data, cut):
    """As in masks that come from memory of other programs; NumPy's own operations give 0 and 1."""
    other = data.draw(hnp.arrays(np.uint8, one.shape))
    one, other = (data.draw(strategies.laid_out(each)) for each in (one, other))
    odd, plain = (one.view(np.bool_), other.view(np.bool_)), (one != 0, other != 0)
    with strategies.cut(*cut):
        for compare in (masks.hamming, masks.overlap, *([masks.sparsity] if one.size else [])):
            taken = 1 if compare is masks.sparsity else 2
            assert compare(*odd[:taken]) == compare(*plain[:taken])
        for combine in (masks.union, masks.intersection):
            assert np.array_equal(combine(*odd).view(np.uint8), combine(*plain).view(np.uint8))
        assert np.array_equal(masks.pack(odd[0]), masks.pack(plain[0]))
        weight = np.full(one.shape, 1.7, np.float32)
        assert np.array_equal(masks.apply(weight, odd[0]), np.where(plain[0], np.float32(1.7), np.float32(0)))
