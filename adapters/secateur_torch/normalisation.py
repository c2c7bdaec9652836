"""Modules of the user's that normalise by the mean square: known not by their code but by what they do.

Every library of language models writes its own RMSNorm. A module with one vector of weights and an epsilon is compared,
on the input that it gets, with ``x / sqrt(mean(x ** 2) + epsilon) * weight`` over the last axis; if that is what it
computes, it is one ``standardize``, and the operations inside it are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from secateur.structure.graph import Graph
from secateur_torch.operations import Step
from secateur_torch.recording import Mark, Recorder

EPSILONS = ("eps", "epsilon", "variance_epsilon", "norm_eps")


@dataclass(frozen=True)
class Began:
    """What a module that may be one got, and how far the recording had come."""

    x: torch.Tensor
    number: int
    mark: Mark


def epsilon_name(module: nn.Module) -> str | None:
    """The attribute that is the epsilon; None if the module has none, or other weights than one vector."""
    if isinstance(module, nn.RMSNorm):
        return "eps"
    if next(module.children(), None) is not None:
        return None
    weights = list(module.parameters())
    if len(weights) != 1 or weights[0].ndim != 1:
        return None
    return next((name for name in EPSILONS if isinstance(getattr(module, name, None), float)), None)


def begin(module: nn.Module, arguments: Any, recorder: Recorder) -> Began | None:
    """Before the forward of a module; None if it is surely something else."""
    if epsilon_name(module) is None or len(arguments) != 1 or not isinstance(arguments[0], torch.Tensor):
        return None
    number = recorder.number(arguments[0])
    return None if number is None else Began(arguments[0], number, recorder.mark())


def end(module: nn.Module, began: Began, result: Any, recorder: Recorder) -> None:
    """After it: record the module as one operation if it computed that."""
    if not isinstance(result, torch.Tensor) or recorder.number(began.x) != began.number:
        return
    (weight,) = module.parameters()
    recorder.inside = True
    try:
        if _is_normalised(module, began.x, weight, result):
            settings = {"axes": (-1,), "rms": True}
            recorder.instead(
                began.mark, Step("standardize", [began.x], [result], settings, {"scale": weight}), "rms_norm"
            )
    finally:
        recorder.inside = False


def _is_normalised(module: nn.Module, x: torch.Tensor, weight: torch.Tensor, result: torch.Tensor) -> bool:
    with torch._C.DisableTorchFunction():
        if x.shape != result.shape or x.shape[-1:] != weight.shape or not x.is_floating_point():
            return False
        epsilon = getattr(module, epsilon_name(module) or "")
        wide = x.detach().double()
        expected = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon) * weight.detach().double()
        # a model of 64-bit numbers whose norm computes in 32 would not give the same once its norm is rescaled
        tolerance = 16 * max(torch.finfo(x.dtype).eps, torch.finfo(weight.dtype).eps)
        scale = float(expected.abs().max()) if expected.numel() else 0.0
        return scale > 0 and bool(torch.allclose(result.double(), expected, rtol=tolerance, atol=tolerance * scale))


def write_plainly(model: nn.Module, graph: Graph) -> None:
    """Let the modules that were recognised call PyTorch's own function, which an exported graph keeps as a whole."""
    modules = dict(model.named_modules())
    for operation in graph.operations:
        module = modules.get(operation.source.partition(" (")[0])
        if operation.label == "rms_norm" and module is not None and not isinstance(module, nn.RMSNorm):
            module.forward = partial(_plain, module)


def _plain(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    (weight,) = module.parameters()
    return functional.rms_norm(x, weight.shape, weight, getattr(module, epsilon_name(module) or ""))
