"""The parts that a page is made of, as markup: tables, grids of figures, key figures, facts, folded parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from secateur.report.markup import Markup, element, join, raw


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object] | str],
    words: int = 1,
    caption: str = "",
    groups: Sequence[tuple[str, int]] = (),
    dense: bool = False,
) -> Markup:
    """A table; one without rows is nothing.

    Args:
        headings: one a column.
        rows: cells, each text or markup; a string instead is a heading over the rows that follow.
        words: so many first columns hold words and stand left; the others hold numbers and stand right.
        caption: a line above the table.
        groups: (heading, number of columns) of a row above the headings.
        dense: set smaller, for many columns.
    """
    sides = ["word" if column < words else None for column in range(len(headings))]
    head = element(
        "tr", *(element("th", name, scope="col", class_=side) for name, side in zip(headings, sides, strict=True))
    )
    lines = [_row(row, sides) for row in rows]
    if not lines:
        return Markup()
    title = element("caption", caption) if caption else ""
    above = [
        element("th", name, scope="colgroup", colspan=span, class_="group" if name else None) for name, span in groups
    ]
    heads = element("thead", element("tr", *above) if above else "", head)
    body = element("table", title, heads, element("tbody", *lines), class_="dense" if dense else None)
    return element("div", body, class_="scroll")


def _row(row: Sequence[object] | str, sides: Sequence[str | None]) -> Markup:
    if isinstance(row, str):
        return element("tr", element("th", row, scope="rowgroup", colspan=len(sides), class_="word"))
    return element("tr", *(_cell(cell, side) for cell, side in zip(row, sides, strict=True)))


def _cell(content: object, side: str | None) -> Markup:
    """A cell; long names in it may break after a dot, slash or underscore."""
    if side and not isinstance(content, Markup):
        content = _breakable(str(content))
    return element("td", content, class_=side)


def _breakable(name: str) -> Markup:
    return join(re.split(r"(?<=[./_])(?=\w)", name), raw("<wbr>"))


def grid(figures: Iterable[Markup]) -> Markup:
    """Figures side by side where there is room, else below one another."""
    every = tuple(figures)
    return element("div", *every, class_="grid") if every else Markup()


def key_figures(values: Mapping[str, tuple[str, str]]) -> Markup:
    """A row of big numbers: label -> (number, remark)."""
    cells = [
        element("div", element("dt", label), element("dd", value, note and element("small", note)))
        for label, (value, note) in values.items()
    ]
    return element("dl", *cells, class_="key") if cells else Markup()


def facts_list(facts: Mapping[str, str]) -> Markup:
    """Facts as a list of names and values."""
    items = [element("div", element("dt", capitalised(name)), element("dd", value)) for name, value in facts.items()]
    return element("dl", *items, class_="list") if items else Markup()


def capitalised(text: str) -> str:
    """The text with its first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


def folded(summary: object, *blocks: object, key: str | None = None) -> Markup:
    """A part that the reader opens; ``key`` is its id, to link to."""
    return element("details", element("summary", summary), *blocks, id=key)


def paragraph(text: str) -> Markup:
    """A paragraph of plain text; nothing if there is none."""
    return element("p", text) if text else Markup()


def heading(text: str) -> Markup:
    """A heading inside a section."""
    return element("h3", text)


def notes(lines: Iterable[str]) -> Markup:
    """Remarks as a list; nothing if there are none."""
    items = [element("li", line) for line in lines]
    return element("ul", *items, class_="notes") if items else Markup()


def tabs(name: str, parts: Mapping[str, Markup]) -> Markup:
    """Up to four parts of which the reader sees one at a time; works without a script."""
    choices = [
        join(
            (
                element("input", type="radio", name=name, id=f"{name}-{number}", checked=number == 0),
                element("label", label, for_=f"{name}-{number}"),
            )
        )
        for number, label in enumerate(parts)
    ]
    return element("div", *choices, *(element("div", part) for part in parts.values()), class_="tabs")
