"""A weight with its mask, wherever it lies: on any device, in any precision, whole or in shards.

A mask is kept as integers of the weight's size, -1 = kept and 0 = pruned: a bitwise and writes +0.0 in place of
whatever was there, and no other bit. A mask that changes is written into the tensor that was there before, so that
steps which were captured (CUDA graphs) go on with the new one.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from secateur.errors import HoldError
from secateur.masks import apply as write_zeros
from secateur_torch.arrays import array

BoolArray = npt.NDArray[np.bool_]

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_MANY = 1 << 14
"""From so many numbers on, the core's own loop is faster, which takes longer to call."""


class MaskedWeight:
    """A weight, found through its module at each use: loading and sharding may put another tensor in its place.

    Args:
        module: where it lives.
        name: what it is called there.
        mask: in PyTorch's layout, of the whole weight; True = kept.
    """

    def __init__(self, module: weakref.ReferenceType[nn.Module], name: str, mask: BoolArray) -> None:
        self.module, self.name = module, name
        self._mask = mask
        self._bits: torch.Tensor | None = None

    @property
    def tensor(self) -> torch.Tensor | None:
        """The weight as it is now; None if it is gone."""
        return getattr(self.module(), self.name, None)

    @property
    def origin(self) -> int:
        """Equal for the owners of one weight, which were given one mask. Weights that are tied later bring several."""
        return id(self._mask)

    @property
    def is_made(self) -> bool:
        """Whether there are :attr:`bits` yet."""
        return self._bits is not None

    @property
    def bits(self) -> torch.Tensor:
        """The mask as integers, made when they are first asked for: only training needs them."""
        if self._bits is None:
            tensor = self.tensor
            made = torch.from_numpy(self._mask).to(torch.int8).neg_()
            self._bits = made if tensor is None else _suited(made, tensor, local(tensor))
        return self._bits

    @property
    def mask(self) -> BoolArray:
        """In PyTorch's layout, of what this process stores once there are bits."""
        return self._mask if self._bits is None else self._bits.cpu().numpy() != 0

    def begin(self) -> None:
        """As :meth:`zero`; without integers as large as the weight where it is large and lies in plain memory."""
        tensor = self.tensor
        if tensor is None:
            return
        is_plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.is_cpu and not tensor.is_inference()
        if self.is_made or not is_plain or tensor.shape != self._mask.shape:
            self.zero()
        elif tensor.numel() < _MANY:
            tensor.detach().masked_fill_(torch.from_numpy(~self._mask), 0.0)
        else:
            torch.autograd.graph.increment_version(tensor.detach())
            write_zeros(array(tensor), self._mask)

    @property
    def is_whole(self) -> bool:
        """Whether the weight is there, and all of it in this process."""
        tensor = self.tensor
        return tensor is not None and tensor.shape == (self._mask if self._bits is None else self._bits).shape

    def zero(self) -> None:
        """Keep every bit where the mask is True, write +0.0 where it is False."""
        tensor = self.tensor
        if tensor is not None:
            self._bits = keep_only(tensor, self.bits)

    def twin(self, module: nn.Module) -> MaskedWeight:
        """The same mask of the same weight in a copy of the module."""
        made = MaskedWeight(weakref.ref(module), self.name, self._mask)
        made._bits = None if self._bits is None else self._bits.clone()
        return made

    def replace(self, bits: torch.Tensor) -> None:
        """Take over another mask of the same weight."""
        if bits.shape == self.bits.shape:
            self.bits.copy_(bits)
        else:
            self._bits = bits

    def free(self) -> None:
        """Whatever was captured with this mask prunes nothing from now on."""
        if self._bits is not None:
            self._bits.fill_(-1)


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
