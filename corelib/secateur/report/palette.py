"""The colours of every chart, diagram and page, each with its counterpart for dark backgrounds.

The chart colours are Okabe and Ito's (2008), chosen to be told apart with any kind of colour vision; the dark ones are
the same hues, lighter. Meaning is never carried by colour alone: lines also differ in dash, points in symbol.
"""

from __future__ import annotations

PALETTE: dict[str, tuple[str, str]] = {
    "page": ("#fcfcfb", "#14171c"),
    "panel": ("#f4f5f5", "#1c2127"),
    "ink": ("#1d2530", "#e4e8ec"),
    "muted": ("#5a6472", "#9aa5b1"),
    "rule": ("#dfe3e7", "#323a43"),
    "before": ("#b9c0c8", "#56606b"),
    "blue": ("#0072b2", "#56b4e9"),
    "green": ("#009e73", "#2fc79b"),
    "vermillion": ("#d55e00", "#ff8f45"),
    "orange": ("#e69f00", "#f2bf4c"),
    "purple": ("#aa4a86", "#dd94c0"),
}

STAGE_COLOURS = {"dense": "muted", "pruned": "orange", "finetuned": "blue", "compact": "green"}
FAMILY_COLOURS = {"normal": "vermillion", "exponential": "purple", "uniform": "orange", "laplace": "green"}


def light(name: str) -> str:
    """The colour as it is written into figures; the page swaps in the dark one where the reader prefers it."""
    return PALETTE[name][0]


def dark_counterparts() -> dict[str, str]:
    """Light colour -> dark colour."""
    return dict(PALETTE.values())


def style_sheet(media: str = "screen and (prefers-color-scheme: dark)") -> str:
    """The palette as CSS custom properties (``--ink``, ...), with the dark values for ``media``."""
    sides = [";".join(f"--{name}:{colours[side]}" for name, colours in PALETTE.items()) for side in (0, 1)]
    return f":root{{color-scheme:light dark;{sides[0]}}}@media {media}{{:root{{{sides[1]}}}}}"
