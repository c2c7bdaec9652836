"""The sizes that operations of an exported graph carry as arguments, written anew for what a removal leaves."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import fx

from secateur.errors import TraceError

ATEN = torch.ops.aten
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Site:
    """One node of the graph, which is about to run.

    Args:
        module: the graph's module.
        node: the node.
        shapes: what its tensors are to be, in order.
        changes: the settings of its operation that the plan changes.
        value: what an argument is in this run.
    """

    module: fx.GraphModule
    node: fx.Node
    shapes: Sequence[Shape]
    changes: Mapping[str, Any]
    value: Callable[[Any], Any]

    @property
    def name(self) -> str:
        """``view``, ``conv2d``."""
        return str(getattr(self.node.target, "__name__", "")).partition(".")[0].strip("_")

    @property
    def input_shape(self) -> Shape:
        """The shape of the first argument in this run."""
        return tuple(self.value(self.node.args[0]).shape)

    def argument(self, position: int, default: Any = None) -> Any:
        """A positional argument."""
        return self.node.args[position] if len(self.node.args) > position else default

    def set(self, position: int, argument: Any) -> None:
        """Replace a positional argument; those before it that are missing keep their defaults."""
        arguments = list(self.node.args)
        schema = self.node.target._schema.arguments  # type: ignore[union-attr]
        while len(arguments) <= position:
            arguments.append(schema[len(arguments)].default_value)
        arguments[position] = argument
        self.node.args = tuple(arguments)

    def become(self, target: Any, *arguments: Any) -> None:
        """Another operation in its place."""
        self.node.target, self.node.args, self.node.kwargs = target, arguments, {}

    def constant(self, indices: Sequence[int]) -> fx.Node:
        """A tensor of indices, where the first argument is."""
        with self.module.graph.inserting_before(self.node):
            return self.module.graph.call_method(
                "new_tensor", (self.node.args[0], list(indices)), {"dtype": torch.int64}
            )


def rewrite(site: Site) -> None:
    """Mend the sizes among the arguments of a node, if it has any that do not fit."""
    writer = WRITERS.get(site.name)
    if writer is not None:
        writer(site)


def _sizes(position: int) -> Callable[[Site], None]:
    """A list of sizes that is the shape of the result."""

    def write(site: Site) -> None:
        given = list(site.argument(position))
        shape = site.shapes[0] if site.shapes else ()
        if len(given) == len(shape):
            site.set(position, [_size(site, *pair) for pair in zip(given, shape, strict=True)])

    return write


def _size(site: Site, given: Any, wanted: int) -> Any:
    """One size; what depends on the input (a batch, a batch of heads) stays in proportion to it."""
    value = site.value(given)
    if value in (-1, wanted):
        return given
    if not isinstance(given, fx.Node):
        return wanted
    ratio = Fraction(wanted, value)
    with site.module.graph.inserting_before(site.node):
        times = site.module.graph.call_function(operator.mul, (given, ratio.numerator))
        return site.module.graph.call_function(operator.floordiv, (times, ratio.denominator))


def _repeats(site: Site) -> None:
    """How often each axis comes, those in front included."""
    given = list(site.argument(1))
    sizes = (*(1,) * (len(given) - len(site.input_shape)), *site.input_shape)
    if site.shapes and all(size and not wanted % size for size, wanted in zip(sizes, site.shapes[0], strict=True)):
        wanted = (wanted // size for size, wanted in zip(sizes, site.shapes[0], strict=True))
        site.set(1, [_size(site, *pair) for pair in zip(given, wanted, strict=True)])


def _unflatten(site: Site) -> None:
    axis, given = site.argument(1), list(site.argument(2))
    axis %= len(site.input_shape)
    wanted = site.shapes[0][axis : axis + len(given)]
    site.set(2, [_size(site, *pair) for pair in zip(given, wanted, strict=True)])


def _split(site: Site) -> None:
    if "sizes" in site.changes:
        site.become(ATEN.split_with_sizes.default, site.node.args[0], site.changes["sizes"], site.argument(2, 0))


def _slice(site: Site) -> None:
    if "indices" in site.changes:
        _pick(site, site.argument(1, 0))
    elif "start" in site.changes:
        for position, key in enumerate(("start", "stop", "step"), 2):
            site.set(position, site.changes[key])


def _select(site: Site) -> None:
    if "start" in site.changes:
        site.set(2, site.changes["start"])


def _roll(site: Site) -> None:
    if "indices" in site.changes:
        axes = list(site.argument(2, ()))
        if len(axes) != 1:
            raise TraceError(f"{site.node.format_node()} rolls several axes, one of which is to shrink")
        _pick(site, axes[0])


def _index(site: Site) -> None:
    """One constant list of positions."""
    if "indices" not in site.changes:
        return
    axes = [axis for axis, index in enumerate(site.argument(1)) if index is not None]
    if len(axes) != 1 or site.value(site.argument(1)[axes[0]]).ndim != 1:
        raise TraceError(f"{site.node.format_node()} picks positions of an axis that is to shrink, in a way of its own")
    _pick(site, axes[0])


def _index_select(site: Site) -> None:
    if "indices" in site.changes:
        _pick(site, site.argument(1))


def _pick(site: Site, axis: int) -> None:
    site.become(ATEN.index_select.default, site.node.args[0], axis, site.constant(site.changes["indices"]))


def _as_many_groups(site: Site, position: int) -> None:
    """Those that are left to a kernel that is no layer's, each of which reads as many channels as the kernel has."""
    channels, taken = site.input_shape[1], site.value(site.node.args[1]).shape[1]
    if site.argument(position, 1) > 1 and not channels % taken:
        site.set(position, channels // taken)


def _groups(position: int) -> Callable[[Site], None]:
    def write(site: Site) -> None:
        if "groups" in site.changes:
            site.set(position, site.changes["groups"])
        elif site.name.startswith("conv") and not site.name.startswith("conv_t"):
            _as_many_groups(site, position)

    return write


def _normalized(site: Site) -> None:
    """The last axes of the input; a mean square's epsilon in proportion (see :mod:`secateur.structure.changes`)."""
    shape = site.input_shape
    site.set(1, list(shape[len(shape) - len(site.argument(1)) :]))
    if "rescale" in site.changes:
        epsilon = site.argument(3)
        dtype = site.value(site.node.args[0]).dtype
        site.set(3, (torch.finfo(dtype).eps if epsilon is None else epsilon) * site.changes["rescale"])


WRITERS: dict[str, Callable[[Site], None]] = {
    **dict.fromkeys(("view", "reshape", "unsafe_view", "expand", "broadcast_to"), _sizes(1)),
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty", "new_full"), _sizes(1)),
    **dict.fromkeys(("zeros", "ones", "empty", "full", "rand", "randn"), _sizes(0)),
    "unflatten": _unflatten,
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "unsafe_chunk", "unsafe_split"), _split),
    "slice": _slice,
    "select": _select,
    "roll": _roll,
    "index": _index,
    "index_select": _index_select,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _groups(6)),
    **{f"conv_transpose{n}d": _groups(6) for n in (1, 2, 3)},
    "group_norm": _groups(1),
    "repeat": _repeats,
    **dict.fromkeys(("layer_norm", "rms_norm"), _normalized),
}
