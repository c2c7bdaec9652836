"""Frozen dataclasses to JSON-able dictionaries and back, by the name of their class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from secateur.errors import FileFormatError, SecateurError

PARTS = "parts"
"""The field of what is made of others of its kind, which its class takes one by one."""


def encode(part: Any) -> dict[str, Any]:
    """``Cubic(begin=0, end=100)`` -> ``{"kind": "Cubic", "begin": 0, "end": 100, ...}``."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    values = {name: encode(value) if is_dataclass(value) else value for name, value in values.items()}
    if PARTS in values:
        values[PARTS] = [encode(each) for each in values[PARTS]]
    return {"kind": type(part).__name__, **values}


def decode(document: Any, kinds: Mapping[str, type], what: str) -> Any:
    """The inverse of :func:`encode`; only the classes in ``kinds`` can be made.

    Raises:
        FileFormatError: an unknown kind, an unknown field or a value that the class refuses.
    """
    kind = document.get("kind") if isinstance(document, dict) else document
    if not isinstance(document, dict) or not isinstance(kind, str) or kind not in kinds:
        raise FileFormatError(f"unknown {what} {kind!r}; this version knows {', '.join(sorted(kinds))}")
    values = {key: value for key, value in document.items() if key != "kind"}
    try:
        parts = [decode(each, kinds, what) for each in values.pop(PARTS, ())]
        return kinds[kind](*parts, **values)
    except (TypeError, SecateurError) as error:
        raise FileFormatError(f"{what} {kind} cannot be read: {error}") from error
