"""Sizes that modules keep as attributes (``self.num_heads``, ``self.split_size``): which are to change, and to what.

A ``forward`` that reads its sizes off attributes runs at any width, once these are set anew. Which attribute is a size
is not guessed by its name or value: during one forward pass each integer attribute knows where it came from, takes this
along through arithmetic, and is met again in a call (``x.view(b, n, 3, self.heads, self.width // self.heads)``). What
the result of the call is to become tells what the attribute must become.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from secateur.errors import EmptyLayerError, ExampleError, TraceError
from secateur.structure.graph import Graph, Operation
from secateur.structure.removal import Plan
from secateur_torch import tracing
from secateur_torch.correspondence import within
from secateur_torch.inference import tensors
from secateur_torch.masking import free_copy
from secateur_torch.operations import Call
from secateur_torch.parameters import Weight
from secateur_torch.recording import Recorder

Key = tuple[str, str, int | None]
"""Path of the module, name of the attribute (``heads``, ``config.heads``), position in it if it is a tuple or list."""

Values = Mapping[Key, int]
Demand = tuple["Size", int]


class Size(int):
    """An integer that knows which attributes it was computed from, and what it would be if they were others."""

    keys: frozenset[Key]
    under: Callable[[Values], int]
    is_read: bool = False

    def __hash__(self) -> int:
        """Another than that of a plain integer: what functions remember for that one (einops does) knows no names."""
        return hash((int(self), Size))

    @classmethod
    def read(cls, value: int, key: Key) -> Size:
        """The attribute itself."""
        size = cls.computed(value, frozenset([key]), lambda values: values.get(key, value))
        size.is_read = True
        return size

    @classmethod
    def computed(cls, value: int, keys: frozenset[Key], under: Callable[[Values], int]) -> Size:
        """From attributes."""
        size = cls(value)
        size.keys, size.under = keys, under
        return size


def _carried(name: str) -> Callable[[Size, Any], Any]:
    """An operator of ``int`` whose results are sizes too."""
    plain = getattr(int, name)

    def operate(self: Size, other: Any) -> Any:
        result = plain(self, other)
        if type(result) is not int:
            return result
        if not isinstance(other, Size):
            return Size.computed(result, self.keys, lambda values: plain(self.under(values), other))
        keys = self.keys | other.keys
        return Size.computed(result, keys, lambda values: plain(self.under(values), other.under(values)))

    return operate


for _name in ("add", "sub", "mul", "floordiv", "mod"):
    for _side in (f"__{_name}__", f"__r{_name}__"):
        setattr(Size, _side, _carried(_side))


def mend(small: nn.Module, model: nn.Module, graph: Graph, plan: Plan, example: Any) -> list[str]:
    """Set the attributes of ``small`` that are sizes to what they must be.

    Args:
        small: a copy of the model with smaller weights.
        model: the module that was traced.
        graph: its structure, perhaps for another example.
        plan: which indices of which weights stay.
        example: an input, as for :func:`secateur_torch.tracing.graph`.

    Returns:
        The names of the attributes that changed; none if no choice of them would do.
    """
    try:
        followed, originals = _following(model)
        reader, whole = tracing.record(followed, example, _Reader)
        own = plan if whole.tensors == graph.tensors else within(whole, plan)
    except (ExampleError, TraceError, EmptyLayerError, RuntimeError, TypeError):
        return []
    found = _solved([demand for site in reader.sites for demand in site.demands(whole, own)], originals)
    modules = dict(small.named_modules())
    for key, value in found.items():
        _set(modules[key[0]], key, value)
    return sorted({name for _, name, _ in found})


def _following(model: nn.Module) -> tuple[nn.Module, dict[Key, int]]:
    """A copy, on the same tensors, whose integer attributes are followed, and what these are.

    PyTorch's own modules have none that :mod:`secateur_torch.surgery` does not mend.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = free_copy(model, shared)
    originals: dict[Key, int] = {}
    for path, module in twin.named_modules():
        if not type(module).__module__.startswith("torch."):
            for prefix, held in _spaces(module):
                held.update({name: _followed(value, path, prefix + name, originals) for name, value in held.items()})
    return twin, originals


def _spaces(module: nn.Module) -> list[tuple[str, dict[str, Any]]]:
    """What it holds, and what the plain objects hold that it holds, as a configuration; each with its prefix."""
    plain = {
        name: value
        for name, value in vars(module).items()
        if hasattr(value, "__dict__") and not isinstance(value, nn.Module | Tensor) and not callable(value)
    }
    return [("", vars(module)), *((f"{name}.", vars(value)) for name, value in plain.items())]


def _followed(value: Any, path: str, name: str, originals: dict[Key, int]) -> Any:
    """The same, an integer or several ones as sizes."""
    if type(value) is int:
        originals[path, name, None] = value
        return Size.read(value, (path, name, None))
    if type(value) in (tuple, list) and value and all(type(item) is int for item in value):
        originals.update({(path, name, at): item for at, item in enumerate(value)})
        return type(value)(Size.read(item, (path, name, at)) for at, item in enumerate(value))
    return value


def _set(module: nn.Module, key: Key, value: int) -> None:
    _, path, position = key
    prefix, _, name = path.rpartition(".")
    held = vars(vars(module)[prefix] if prefix else module)
    if position is None:
        held[name] = value
    else:
        held[name] = type(held[name])(value if at == position else item for at, item in enumerate(held[name]))


SHAPED = frozenset(
    (
        *("view", "reshape", "expand", "broadcast_to", "resize", "new_zeros", "new_ones", "new_empty", "new_full"),
        *("zeros", "ones", "empty", "full", "rand", "randn"),
    )
)
"""Functions that are given the shape of their result."""


def _solved(demands: Iterable[Demand], originals: Values) -> dict[Key, int]:
    """What must change; nothing if an attribute would have to be two numbers at once, or no number will do."""
    listed = list(demands)
    values: dict[Key, int] = {}
    for size, wanted in listed:
        if size.is_read and values.setdefault(next(iter(size.keys)), wanted) != wanted:
            return {}
    for size, wanted in listed:
        unknown = [key for key in size.keys if key not in values]
        if len(unknown) == 1 and size.under(values) != wanted:
            tried = range(1, originals[unknown[0]] + 1)
            fits = (number for number in tried if _gives(size, {**values, unknown[0]: number}, wanted))
            found = next(fits, None)
            if found is None:
                return {}
            values[unknown[0]] = found
    return {key: value for key, value in values.items() if value != originals[key]}


def _gives(size: Size, values: Values, wanted: int) -> bool:
    try:
        return size.under(values) == wanted
    except ZeroDivisionError:
        return False


@dataclass(frozen=True)
class _Site:
    """A call that was given sizes, the numbers of the tensors that it returned, and of all that it made."""

    call: Call
    returned: list[int | None]
    made: range

    def demands(self, whole: Graph, plan: Plan) -> Iterator[Demand]:
        """What these sizes must become."""
        shapes = [plan.shapes[number] for number in self.returned if number is not None]
        if len(shapes) != len(self.returned) or not shapes:
            return
        name = self.call.name
        if name in SHAPED:
            yield from _sizes_in(zip(_listed(self.call), shapes[0], strict=False))
        elif name == "unflatten":
            axis = self.call.args[1] % self.call.input.ndim
            yield from _sizes_in(zip(_listed(self.call), shapes[0][axis:], strict=False))
        elif name in ("split", "split_with_sizes"):
            axis = self.call.argument(2, "dim", 0)
            yield from _pieces(self.call.args[1], [shape[axis] for shape in shapes])
        elif name in ("layer_norm", "rms_norm"):
            listed = _listed(self.call)
            yield from _sizes_in(zip(listed, shapes[0][-len(listed) :], strict=True))
        else:
            yield from self._changed(whole, plan)

    def _changed(self, whole: Graph, plan: Plan) -> Iterator[Demand]:
        """Slices and numbers of groups, which are no shape of a result."""
        for index, operation in enumerate(whole.operations):
            if operation.outputs and operation.outputs[0] in self.made:
                after = {**operation.settings, **plan.settings.get(index, {})}
                if self.call.name == "__getitem__" and operation.kind == "slice" and "indices" not in after:
                    yield from _ends(self.call, operation, after)
                if "groups" in after:
                    yield from _sizes_in((item, after["groups"]) for item in _given(self.call))


class _Reader(Recorder):
    """Keeps the calls that were given sizes."""

    def __init__(self, known: Iterable[Weight], source: Callable[[], str]) -> None:
        super().__init__(known, source)
        self.sites: list[_Site] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """As usual."""
        before = len(self._shapes)
        result = super().__torch_function__(func, types, args, kwargs)
        call = Call(func, args, dict(kwargs or {}), result)
        if any(isinstance(item, Size) for item in _given(call)):
            returned = [self.number(tensor) for tensor in tensors(result)]
            self.sites.append(_Site(call, returned, range(before, len(self._shapes))))
        return result


def _given(call: Call) -> list[Any]:
    """All arguments, those in tuples, lists and slices too."""
    return list(_leaves((*call.args, *call.kwargs.values())))


def _leaves(given: Any) -> Iterator[Any]:
    if isinstance(given, slice):
        given = (given.start, given.stop, given.step)
    if isinstance(given, tuple | list):
        for item in given:
            yield from _leaves(item)
    else:
        yield given


def _listed(call: Call) -> list[Any]:
    """The shape among the arguments: the first list, or all numbers."""
    arguments = (*call.args, *call.kwargs.values())
    listed = [item for item in arguments if isinstance(item, tuple | list)]
    return list(listed[0]) if listed else [item for item in arguments if isinstance(item, int)]


def _sizes_in(pairs: Iterable[tuple[Any, int]]) -> Iterator[Demand]:
    return ((given, wanted) for given, wanted in pairs if isinstance(given, Size))


def _pieces(given: Any, wanted: Sequence[int]) -> Iterator[Demand]:
    """Of named sizes, or of one size that only the last need not have."""
    if isinstance(given, tuple | list):
        yield from _sizes_in(zip(given, wanted, strict=True))
    elif isinstance(given, Size):
        yield from ((given, size) for size in wanted[:-1] or wanted)


def _ends(call: Call, operation: Operation, after: Mapping[str, Any]) -> Iterator[Demand]:
    """Where the slices of an index begin and end: those that are the operation's."""
    indices = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    for item in indices:
        if isinstance(item, slice) and (item.start or 0) == operation.settings["start"]:
            yield from _sizes_in(((item.start, after["start"]), (item.stop, after["stop"])))
