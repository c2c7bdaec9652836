"""How large a pruned network is in a file: masks of one bit a weight and the weights that are left, nothing else."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
from safetensors.numpy import save

from secateur.masks import pack

Array = npt.NDArray[Any]


def sizes(arrays: Mapping[str, Array], masks: Mapping[str, Array]) -> dict[str, int]:
    """Bytes of safetensors files, each also as gzip makes it.

    Args:
        arrays: all of the network.
        masks: of some of them, True where a weight is kept.

    Returns:
        ``dense``: all arrays. ``pruned``: of masked arrays only packed masks and the weights that are left.
    """
    rest = {name: array for name, array in arrays.items() if name not in masks}
    packed = {f"{name}.mask": pack(mask) for name, mask in masks.items()}
    left = {f"{name}.left": arrays[name][mask] for name, mask in masks.items()}
    files = {"dense": save(dict(arrays)), "pruned": save({**rest, **packed, **left})}
    zipped = {f"{name}, gzip": len(gzip.compress(content, 9, mtime=0)) for name, content in files.items()}
    return {name: len(content) for name, content in files.items()} | zipped
