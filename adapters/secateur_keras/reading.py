"""Reading a data set that a training reads too, without disturbing it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from secateur.batches import undisturbed


@contextmanager
def reading(data: Any) -> Iterator[None]:
    """A block in which data may be read: the random states of Python, NumPy and PyTorch are restored after it.

    Keras trains on PyTorch's loaders on every backend. A ``tf.data.Dataset`` that shuffles anew each time counts its
    readings inside of itself, and goes on from there.
    """
    torch = sys.modules.get("torch")
    with undisturbed(data), torch.random.fork_rng([]) if torch is not None else nullcontext():
        yield
