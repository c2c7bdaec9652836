"""The modules of a model, listed quickly: PyTorch hands each through a generator for each module around it."""

from __future__ import annotations

from torch import nn


def named_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """What ``model.named_modules()`` yields, in the same order: each module once, under its first path."""
    found: dict[nn.Module, str] = {model: ""}
    _walk(model, "", found)
    return [(path, module) for module, path in found.items()]


def modules(model: nn.Module) -> list[nn.Module]:
    """What ``model.modules()`` yields."""
    found: dict[nn.Module, str] = {model: ""}
    _walk(model, "", found)
    return list(found)


def _walk(module: nn.Module, start: str, found: dict[nn.Module, str]) -> None:
    for name, child in module._modules.items():
        if child is not None and child not in found:
            found[child] = path = start + name
            if child._modules:
                _walk(child, path + ".", found)
