"""Which inputs an exported graph takes: it is that of one path through the model's code, and of some sizes alone.

``torch.export`` tells what it took for granted: sizes that the code fixes, and what the code asked of the others, as
in ``if x.shape[1] % 7``. A graph that runs on other inputs might give something else than the code would.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import SYMPY_INTERP

from secateur_torch.inference import tensors

Shapes = Sequence[Sequence[int | None]]


class Sizes(nn.Module):
    """Refuses inputs of sizes for which the graph was not written.

    Args:
        shapes: the shape of each input; None stands for any size.
        conditions: what else must be true of the shapes ``sizes``, as Python, and in words.
    """

    def __init__(self, shapes: Shapes, conditions: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.shapes = [tuple(shape) for shape in shapes]
        self.conditions = list(conditions)
        self._checks = [_compiled(code) for code, _ in conditions]

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled, which no pickle can hold."""
        return {**vars(self), "_checks": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Compiled again."""
        super().__setstate__(state)
        self._checks = [_compiled(code) for code, _ in self.conditions]

    def forward(self, *inputs: torch.Tensor) -> None:
        """Raises ValueError."""
        for number, (given, shape) in enumerate(zip(inputs, self.shapes, strict=True)):
            pairs = zip(shape, given.shape, strict=False)
            if given.ndim != len(shape) or any(fixed not in (None, size) for fixed, size in pairs):
                wanted = ", ".join("any" if fixed is None else str(fixed) for fixed in shape)
                raise ValueError(
                    f"input {number} of this smaller model has shape {tuple(given.shape)}: its graph was written for "
                    f"({wanted}), since the original's code depends on these sizes; prune it again on an example of "
                    "the size that you need"
                )
        sizes = [given.shape for given in inputs]
        for check, (_, told) in zip(self._checks, self.conditions, strict=True):
            if not check(sizes):
                raise ValueError(
                    f"this smaller model takes no inputs of shapes {[tuple(size) for size in sizes]}: its graph was "
                    f"written for those of which {told}, since the original's code asked for that; prune it again on "
                    "an example of the size that you need"
                )


def _compiled(code: str) -> Callable[[Any], Any]:
    return eval(f"lambda sizes: {code}", {**SYMPY_INTERP, "math": math})


def check_sizes(
    written: fx.GraphModule,
    program: ExportedProgram,
    model: nn.Module,
    positional: tuple[Any, ...],
    named: Mapping[str, Any],
) -> None:
    """Let ``written``, made of ``program``, begin with a check of its inputs."""
    placeholders = [node for node in written.graph.nodes if node.op == "placeholder"]
    given = [node for node in placeholders if isinstance(node.meta.get("val"), torch.Tensor)]
    shapes = [[_fixed(size) for size in node.meta["val"].shape] for node in given]
    conditions = _conditions(program, model, positional, named)
    if conditions or any(size is not None for shape in shapes for size in shape):
        written.add_submodule("_sizes", Sizes(shapes, conditions))
        with written.graph.inserting_after(placeholders[-1]):
            written.graph.call_module("_sizes", tuple(given))


def _fixed(size: int | torch.SymInt) -> int | None:
    """A size that is not open; None for one that is."""
    return size if isinstance(size, int) else size.node.maybe_as_int()


def _conditions(
    program: ExportedProgram, model: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """What torch.export took for granted, in terms of the sizes of the tensors among the arguments."""
    bound = dict(inspect.signature(model.forward).bind(*positional, **named).arguments)
    numbers = {id(tensor): number for number, tensor in enumerate(tensors([positional, dict(named)]))}
    paths, _ = torch.utils._pytree.tree_flatten_with_path(bound)
    keys = {torch.utils._pytree.keystr(path): leaf for path, leaf in paths if isinstance(leaf, torch.Tensor)}
    found = []
    for guard in getattr(program, "_guards_code", ()):
        code, told = guard, guard
        for key, leaf in keys.items():
            code = code.replace(f"L{key}.size()", f"sizes[{numbers[id(leaf)]}]")
            told = told.replace(f"L{key}", key.replace("['", "", 1).replace("']", "", 1))
        if "L[" not in code:
            found.append((code, told))
    return found
