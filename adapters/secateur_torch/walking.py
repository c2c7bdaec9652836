"""The modules of a model, listed quickly: PyTorch hands each through a generator for each module around it."""

from __future__ import annotations

from torch import nn


def named_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """What ``model.named_modules()`` yields, in the same order: each module once, under its first path."""
    found: dict[nn.Module, str] = {}
    waiting: list[tuple[str, nn.Module]] = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if module in found:
            continue
        found[module] = path
        start = f"{path}." if path else ""
        children = [(start + name, child) for name, child in module._modules.items() if child is not None]
        waiting += reversed(children)
    return [(path, module) for module, path in found.items()]


def modules(model: nn.Module) -> list[nn.Module]:
    """What ``model.modules()`` yields."""
    return [module for _, module in named_modules(model)]
