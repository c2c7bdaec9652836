"""One way to read a data set, whatever the framework it comes from.

Both adapters gather statistics over the batches that this module yields, so the same data gives the same batches, and
tell in the same words which batch a model or its loss refuses. Both read inside of :func:`undisturbed`, so that a
training that reads the same data goes on as if nobody had.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from secateur.errors import MissingDataError, SecateurError, ShapeMismatchError

BATCH_SIZE = 32


def batches(data: Any, size: int = BATCH_SIZE, labelled: bool = True) -> Iterator[tuple[Any, Any]]:
    """Yield ``(inputs, labels)`` batches.

    Args:
        data: a tuple ``(x, y)`` of arrays or tensors, which is cut into batches of ``size``; or any iterable of batches
            ``(x, y)`` or ``(x, y, sample_weight)``: a PyTorch ``DataLoader``, a ``tf.data.Dataset``, a generator,
            a list.
        size: examples a batch when arrays are given; iterables bring their own batches.
        labelled: whether labels are needed. If not, ``data`` may also be the inputs alone: an array, a mapping of name
            to array, or an iterable of these; labels are then None. Tuples and lists of two or three are still taken
            for inputs with labels.

    Raises:
        MissingDataError: no data, no batches, or batches without labels where they are needed.
        ShapeMismatchError: inputs and labels, or several inputs, of different length.
    """
    if data is None:
        raise MissingDataError("statistics are gathered from data: pass data=(x, y) or a data loader")
    yielded = False
    for batch in _any_batches(data, size, labelled):
        yielded = True
        yield batch
    if not yielded:
        raise MissingDataError(
            "data holds no batch (an exhausted generator?): pass arrays, a data loader or a fresh generator"
        )


def _any_batches(data: Any, size: int, labelled: bool) -> Iterator[tuple[Any, Any]]:
    if _is_pair_of_arrays(data):
        yield from _slices(data, size)
    elif labelled:
        yield from _labelled(data)
    elif hasattr(data, "shape") or isinstance(data, Mapping):
        yield from ((inputs, None) for inputs in _cut(data, size))
    elif hasattr(data, "__iter__"):
        yield from (_inputs_first(batch) for batch in data)
    else:
        raise MissingDataError(f"data is a {type(data).__name__}: pass an array of inputs, data=(x, y) or a loader")


def _cut(inputs: Any, size: int) -> Iterator[Any]:
    """An array, or a mapping of arrays of one length, in batches."""
    if not isinstance(inputs, Mapping):
        yield from (inputs[start : start + size] for start in range(0, len(inputs), size))
        return
    lengths = {name: len(part) for name, part in inputs.items()}
    if len(set(lengths.values())) > 1:
        raise ShapeMismatchError(f"data has inputs of different length ({lengths}); give as many rows of each")
    for start in range(0, max(lengths.values(), default=0), size):
        yield {name: part[start : start + size] for name, part in inputs.items()}


def _inputs_first(batch: Any) -> tuple[Any, Any]:
    """A batch with its labels, if it has some."""
    is_pair = isinstance(batch, (tuple, list)) and len(batch) in (2, 3)
    return (batch[0], batch[1]) if is_pair else (batch, None)


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
        cause = f"({type(error).__name__}: {error})"
        if labels is None:
            raise MissingDataError(
                f"the model does not accept batch {number}, inputs ({describe(inputs)}): give inputs as it takes them "
                f"{cause}"
            ) from error
        raise MissingDataError(
            f"the model or the loss does not accept batch {number}, inputs ({describe(inputs)}) with labels "
            f"({describe(labels)}): give labels as this loss takes them {cause}"
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
    """Whether ``data`` can be read a second time: arrays, lists and loaders can, a generator cannot.

    Nothing is asked of the data: a loader that begins to read draws random numbers, and restarts workers that it keeps.
    """
    return data is not None and not isinstance(data, Iterator)


def first_inputs(data: Any, size: int = BATCH_SIZE) -> Any | None:
    """The inputs of the first batch, to serve as an example; None if reading them would use up a generator."""
    return next(batches(data, size, labelled=False))[0] if is_repeatable(data) else None


@contextmanager
def undisturbed(data: Any = None) -> Iterator[None]:
    """Random states are after the block as they were before it: Python's, NumPy's, and those that ``data`` draws from.

    Args:
        data: any; of a loader the generators that it, its samplers and its data set have as attributes are restored.
    """
    found = [random, np.random, *(value for owner in _owners(data) for value in vars(owner).values())]
    restorers = [restore for item in found if (restore := _restorer(item)) is not None]
    try:
        yield
    finally:
        for restore in restorers:
            restore()


def _owners(data: Any) -> list[Any]:
    """The object, its samplers and its data set, and theirs; those that have attributes at all."""
    owners: list[Any] = []
    waiting = [data]
    while waiting:
        owner = waiting.pop()
        if hasattr(owner, "__dict__") and all(owner is not known for known in owners):
            owners.append(owner)
            waiting += [vars(owner)[name] for name in ("sampler", "batch_sampler", "dataset") if name in vars(owner)]
    return owners


def _restorer(item: Any) -> Callable[[], Any] | None:
    """What puts a random generator back to where it is now; None if it is no generator."""
    is_global = item is random or item is np.random
    if not is_global and type(item).__name__ not in ("Generator", "Random", "RandomState"):
        return None
    if isinstance(item, np.random.Generator):
        return partial(setattr, item.bit_generator, "state", item.bit_generator.state)
    for get, put in (("getstate", "setstate"), ("get_state", "set_state")):  # random.Random; NumPy's older, PyTorch's
        if hasattr(item, get) and hasattr(item, put):
            return partial(getattr(item, put), getattr(item, get)())
    return None
