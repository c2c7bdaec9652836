"""Building HTML and SVG from parts, with everything escaped that is not markup by type.

A plain string is text and is escaped wherever it is put in; only a :class:`Markup` goes in as it is, and only
:func:`element` and :func:`join` make one. So a layer named ``<script>`` is a name, and nothing else.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta", "wbr"})


class Markup(str):
    """Text that is known to be well-formed HTML or SVG."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """``value`` as markup: unchanged if it is one, else its text, escaped."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """The parts one after the other, each escaped unless it is markup."""
    return Markup(escape(between).join(escape(part) for part in parts))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """``<tag attributes>children</tag>``.

    Args:
        tag: the element's name.
        children: text (escaped) or markup.
        attributes: their names with ``_`` for ``-``, and a trailing ``_`` where Python reserves the word (``class_``).
            False and None leave an attribute out, True writes it without a value.
    """
    opening = f"<{tag}{''.join(_attribute(name, value) for name, value in attributes.items())}>"
    if tag in VOID:
        return Markup(opening)
    return Markup(f"{opening}{join(children)}</{tag}>")


def raw(text: str) -> Markup:
    """Vouch for ``text``: for what this package itself wrote (style sheets, scripts), never for input."""
    return Markup(text)


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    written = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {written}"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f' {written}="{html.escape(text)}"'
