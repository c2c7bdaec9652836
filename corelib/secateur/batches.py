"""One way to read a data set, whatever the framework it comes from.

Both adapters gather statistics over the batches that this module yields, so the same data gives the same batches, and
tell in the same words which batch a model or its loss refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from secateur.errors import MissingDataError, SecateurError, ShapeMismatchError

BATCH_SIZE = 32


def batches(data: Any, size: int = BATCH_SIZE) -> Iterator[tuple[Any, Any]]:
    """Yield ``(inputs, labels)`` batches.

    Args:
        data: a tuple ``(x, y)`` of arrays or tensors, which is cut into batches of ``size``; or any iterable of batches
            ``(x, y)`` or ``(x, y, sample_weight)``: a PyTorch ``DataLoader``, a ``tf.data.Dataset``, a generator,
            a list.
        size: examples a batch when arrays are given; iterables bring their own batches.

    Raises:
        MissingDataError: no data, no batches, or batches without labels.
        ShapeMismatchError: inputs and labels of different length.
    """
    if data is None:
        raise MissingDataError(
            "this score is computed from gradients and needs data: pass data=(x, y) or a data loader"
        )
    yielded = False
    for batch in _slices(data, size) if _is_pair_of_arrays(data) else _labelled(data):
        yielded = True
        yield batch
    if not yielded:
        raise MissingDataError(
            "data holds no batch (an exhausted generator?): pass arrays, a data loader or a fresh generator"
        )


def _is_pair_of_arrays(data: Any) -> bool:
    return isinstance(data, tuple) and len(data) == 2 and all(hasattr(part, "shape") for part in data)


def _slices(data: tuple[Any, Any], size: int) -> Iterator[tuple[Any, Any]]:
    inputs, labels = data
    if len(inputs) != len(labels):
        raise ShapeMismatchError(f"data has {len(inputs)} inputs but {len(labels)} labels; give one label an input")
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size], labels[start : start + size]


def _labelled(data: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    if hasattr(data, "shape") or isinstance(data, dict) or not hasattr(data, "__iter__"):
        raise MissingDataError(
            f"data is a single {type(data).__name__} without labels, but gradients need a loss: pass data=(x, y)"
        )
    for number, batch in enumerate(data):
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise MissingDataError(
                f"batch {number} of data is a {type(batch).__name__} without labels, but gradients need a loss: "
                "yield (inputs, labels)"
            )
        yield batch[0], batch[1]


@contextmanager
def explained(number: int, inputs: Any, labels: Any) -> Iterator[None]:
    """Whatever a framework raises in the block, as a MissingDataError that names the batch and what it holds."""
    try:
        yield
    except SecateurError:
        raise
    except Exception as error:
        raise MissingDataError(
            f"the model or the loss does not accept batch {number}, inputs ({describe(inputs)}) with labels "
            f"({describe(labels)}): give labels as this loss takes them ({type(error).__name__}: {error})"
        ) from error


def describe(batch: Any) -> str:
    """The types and shapes of the arrays in nested tuples, lists and mappings, for messages."""
    if isinstance(batch, Mapping):
        return ", ".join(f"{name}: {describe(item)}" for name, item in batch.items())
    if isinstance(batch, (tuple, list)):
        return ", ".join(map(describe, batch))
    shape, dtype = getattr(batch, "shape", None), getattr(batch, "dtype", "")
    return type(batch).__name__ if shape is None else f"{getattr(dtype, 'name', dtype)} {tuple(shape)}".strip()


def is_repeatable(data: Any) -> bool:
    """Whether ``data`` can be read a second time: arrays, lists and loaders can, a generator cannot."""
    return data is not None and (_is_pair_of_arrays(data) or iter(data) is not data)


def first_inputs(data: Any, size: int = BATCH_SIZE) -> Any | None:
    """The inputs of the first batch, to serve as an example; None if reading them would use up a generator."""
    return next(batches(data, size))[0] if is_repeatable(data) else None
