"""What a call of a PyTorch function means in the graph's vocabulary.

Functions are known by name, each family has a module of small readers, and a reader that meets anything unusual gives
None: the call is then recorded as ``unknown``, which freezes what it touches and is never wrong.
"""

from __future__ import annotations

from secateur_torch.inference import tensors
from secateur_torch.operations import (
    attention,
    elementwise,
    indexing,
    layers,
    places,
    products,
    recurrence,
    reductions,
    views,
)
from secateur_torch.operations.aten import as_function
from secateur_torch.operations.calls import Call, Known, Reader, Step, Steps

__all__ = ["Call", "Known", "Step", "Steps", "describe", "does_nothing", "makes", "reads_values"]

READERS: dict[str, Reader] = {
    **layers.READERS,
    **products.READERS,
    **attention.READERS,
    **recurrence.READERS,
    **reductions.READERS,
    **elementwise.READERS,
    **views.READERS,
    **indexing.READERS,
    **places.READERS,
}

METADATA = frozenset(
    (
        *("size", "dim", "ndimension", "numel", "nelement", "len", "stride", "storage_offset", "element_size"),
        *("is_contiguous", "is_floating_point", "is_complex", "is_signed", "is_same_size", "is_inference"),
        *("get_device", "is_tensor", "is_pinned", "is_shared", "has_names", "is_conj", "is_neg", "result_type"),
        *("sym_size", "sym_stride", "sym_numel", "assert_scalar", "assert_tensor_metadata"),
        *("type", "repr", "format", "hash", "data_ptr", "register_hook", "can_cast"),
    )
)
"""Functions that give no tensor and read none of its numbers (printing aside)."""


def describe(call: Call, known: Known) -> Steps | None:
    """The steps of the graph that the call is, which give all tensors that it gives; None if it is none of them."""
    call = as_function(call)
    reader, results = READERS.get(call.name), tensors(call.result)
    if reader is None or not results:
        return None
    try:
        steps = reader(call, known)
    except (
        TypeError,
        ValueError,
        AttributeError,
        LookupError,
        ArithmeticError,
        RuntimeError,
    ):  # called in a way that no reader expects
        return None
    made = {id(tensor) for step in steps or () for tensor in step.outputs}
    return steps if all(id(tensor) in made for tensor in results) else None


def makes(call: Call) -> bool:
    """Whether the call makes a tensor of one number, which may depend on no other tensor."""
    return READERS.get(call.name) is elementwise.filled


def does_nothing(call: Call) -> bool:
    """Whether it is a cast or copy that was not needed, and gave the tensor itself."""
    return READERS.get(call.name) is elementwise.cast and call.result is call.argument(0, "input")


def reads_values(call: Call) -> bool:
    """Whether a call that gives no tensor depends on a tensor's numbers, and not on its shape or type alone."""
    return getattr(call.function, "__name__", "") != "__get__" and call.name not in METADATA
