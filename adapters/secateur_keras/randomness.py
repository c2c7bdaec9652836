"""Random numbers of the user's own, left as they were by what builds models behind the user's back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute

_GENERATOR = "global_seed_generator"


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
