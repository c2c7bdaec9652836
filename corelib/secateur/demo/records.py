"""Plain JSON values back into the report's records, which the worker processes send as text."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def decode(kind: type[T], values: Mapping[str, Any]) -> T:
    """The inverse of ``to_dict()`` of a frozen record: nested records and tuples take the types of their fields.

    Args:
        kind: the record's class.
        values: field name -> plain value; all fields without a default must be there.
    """
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value) for name, value in values.items()})


def _value(hint: Any, value: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _value(next(item for item in arguments if item is not type(None)), value)
    if origin is tuple:
        return _tuple(arguments, value)
    return decode(hint, value) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else value


def _tuple(arguments: tuple[Any, ...], values: list[Any]) -> tuple[Any, ...]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_value(arguments[0], value) for value in values)
    return tuple(_value(hint, value) for hint, value in zip(arguments, values, strict=True))
