"""A weight with its mask, wherever it lies: on any device, in any precision, whole or in shards.

A mask is kept as integers of the weight's size, -1 = kept and 0 = pruned: a bitwise and writes +0.0 in place of
whatever was there, and no other bit. A mask that changes is written into the tensor that was there before, so that
steps which were captured (CUDA graphs) go on with the new one.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from secateur.errors import HoldError

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(eq=False)
class MaskedWeight:
    """A weight, found through its module at each use: loading and sharding may put another tensor in its place."""

    module: weakref.ReferenceType[nn.Module]
    name: str
    bits: torch.Tensor

    @property
    def tensor(self) -> torch.Tensor | None:
        """The weight as it is now; None if it is gone."""
        return getattr(self.module(), self.name, None)

    @property
    def is_whole(self) -> bool:
        """Whether the weight is there, and all of it in this process."""
        return self.tensor is not None and self.tensor.shape == self.bits.shape

    def zero(self) -> None:
        """Keep every bit where ``bits`` is -1, write +0.0 where it is 0."""
        tensor = self.tensor
        if tensor is not None:
            self.bits = keep_only(tensor, self.bits)

    def replace(self, bits: torch.Tensor) -> None:
        """Take over another mask of the same weight."""
        if bits.shape == self.bits.shape:
            self.bits.copy_(bits)
        else:
            self.bits = bits

    def free(self) -> None:
        """Whatever was captured with this mask prunes nothing from now on."""
        self.bits.fill_(-1)


def bits(tensor: torch.Tensor, mask: npt.NDArray[np.bool_]) -> torch.Tensor:
    """A mask (PyTorch's layout) as integers that suit a weight; of a weight in shards, this process's part."""
    made = torch.tensor(mask, dtype=_BITS[tensor.element_size()], device=tensor.device).neg_()
    return _suited(made, tensor, local(tensor))


def keep_only(tensor: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Write +0.0 where ``bits`` is 0; the bits as they suit the tensor.

    Raises:
        HoldError: the tensor has another shape than its mask. Nothing was changed.
    """
    stored = local(tensor)
    suited = _suited(bits, tensor, stored)
    stored.view(suited.dtype).bitwise_and_(suited)
    return suited


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this process stores of a tensor: all of it, or its shard of a ``DTensor``."""
    detached: Any = tensor.detach()
    return detached.to_local() if hasattr(detached, "to_local") else detached


def _suited(bits: torch.Tensor, tensor: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
    if bits.shape != stored.shape:
        bits = _shard(bits, tensor)
        if bits.shape != stored.shape:
            raise HoldError(
                f"a weight has the shape {tuple(stored.shape)} now, its mask {tuple(bits.shape)}: something changed "
                "the model after it was pruned. Release the masks and prune it again; shard it by fully_shard (FSDP2), "
                "which keeps shapes, and not by FullyShardedDataParallel, which flattens them"
            )
    return bits.to(stored.device, _BITS[stored.element_size()])


def _shard(bits: torch.Tensor, tensor: Any) -> torch.Tensor:
    """This process's part of a mask, if the weight is a ``DTensor``: chunks along each sharded axis in turn."""
    for axis, placement in enumerate(getattr(tensor, "placements", ())):
        if placement.is_shard():
            chunks = bits.chunk(tensor.device_mesh.size(axis), placement.dim)
            rank = tensor.device_mesh.get_local_rank(axis)
            bits = chunks[rank] if rank < len(chunks) else bits.narrow(placement.dim, 0, 0)
    return bits.contiguous()
