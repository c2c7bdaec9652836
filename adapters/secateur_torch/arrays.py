"""The numbers of PyTorch's tensors, as NumPy arrays, and back."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch


def array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """The numbers of a tensor as NumPy array, sharing memory with one on the CPU."""
    detached = tensor.detach().cpu()
    if detached.dtype == torch.bfloat16:
        return detached.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return detached.numpy()


def from_array(numbers: npt.NDArray[Any]) -> torch.Tensor:
    """The inverse: a tensor on the CPU, sharing memory with a writable array."""
    if numbers.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(numbers.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(numbers)
