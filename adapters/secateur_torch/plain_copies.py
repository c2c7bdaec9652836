"""Deep copies of modules, quickly: half of the time of PyTorch's own goes into copying empty dictionaries."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from secateur_torch.walking import modules

_ATOMS = frozenset((bool, int, float, str, type(None)))
_HOLDERS = frozenset((dict, OrderedDict, set, list))


def copy_plain_modules(model: nn.Module, memo: dict[int, Any], without: str = "") -> None:
    """Do for modules that are copied as PyTorch copies any what ``copy.deepcopy`` does, without its many small calls.

    A module holds a dozen empty dictionaries of hooks, and its settings are numbers and words. Copies lack the
    attribute ``without``.
    """
    found = modules(model)
    kinds = {kind for kind in map(type, found) if _is_copied_plainly(kind)}
    plain = [module for module in found if type(module) in kinds and id(module) not in memo]
    memo.update((id(module), type(module).__new__(type(module))) for module in plain)
    for module in plain:
        own = vars(memo[id(module)])
        for name, item in vars(module).items():
            kind = type(item)
            if kind in _ATOMS:
                own[name] = item
            elif name != without:
                own[name] = memo.setdefault(id(item), kind()) if kind in _HOLDERS and not item else _copied(item, memo)


def _copied(item: Any, memo: dict[int, Any]) -> Any:
    """A deep copy; what a module holds lives as long as it, so the memo need not keep it."""
    kind = type(item)
    if id(item) in memo:
        return memo[id(item)]
    if kind in _HOLDERS and not item:
        return memo.setdefault(id(item), kind())
    if kind is tuple and all(type(part) in _ATOMS for part in item):
        return item
    if kind is dict and all(type(key) is str for key in item):
        twin = memo[id(item)] = {}
        for key, part in item.items():
            twin[key] = part if type(part) in _ATOMS else _copied(part, memo)
        return twin
    return copy.deepcopy(item, memo)


def _is_copied_plainly(kind: type[nn.Module]) -> bool:
    """Whether a class says nothing about copies of its own; convolutions only mend what older versions have saved."""
    told = ("__reduce_ex__", "__reduce__", "__getstate__", "__new__")
    return (
        all(getattr(kind, name, None) == getattr(nn.Module, name, None) for name in told)
        and kind.__setstate__ in (nn.Module.__setstate__, _ConvNd.__setstate__)
        and not (hasattr(kind, "__deepcopy__") or hasattr(kind, "__slots__"))
    )
