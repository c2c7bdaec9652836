"""Random numbers of the user's own, left as they were by what builds models behind the user's back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute

_GENERATOR, _SEED = "global_seed_generator", "global_random_seed"


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Put back the global random states at the end: Python's, NumPy's and Keras's.

    Each new layer draws seeds from Python's; layers and initializers of the user's own may draw from the others.
    """
    python, numpy, generator = random.getstate(), np.random.get_state(), get_global_attribute(_GENERATOR)
    state = None if generator is None else keras.ops.convert_to_numpy(generator.state).copy()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        set_global_attribute(_GENERATOR, generator)
        if generator is not None:
            generator.state.assign(state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A block in which all that Keras and its backend draw is that of a seed; afterwards all is as it was.

    But for TensorFlow's own seed, which can be set and not be read.
    """
    before = get_global_attribute(_SEED)
    with untouched_randomness(), _torch_states():
        keras.utils.set_random_seed(seed)
        try:
            yield
        finally:
            set_global_attribute(_SEED, before)


def _torch_states() -> Any:
    """A block after which the torch backend's random states are as before; nothing on other backends."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.random.fork_rng(range(torch.cuda.device_count()))
