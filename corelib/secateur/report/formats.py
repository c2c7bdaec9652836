"""How numbers are written for people: grouped, rounded to what matters, with their units.

Every function takes None for "not measured" and then gives an en dash.
"""

from __future__ import annotations

import math

MISSING = "–"
STAGE_NAMES = {"dense": "dense", "pruned": "pruned", "finetuned": "fine-tuned", "compact": "compact"}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def count(value: int | None) -> str:
    """A whole number with its thousands grouped: ``9,610``; from ten million on in short: ``25.6 M``."""
    if value is None:
        return MISSING
    if abs(value) < 10_000_000:
        return f"{value:,}".replace("-", "−")
    return _scaled(float(value), (("G", 1e9), ("M", 1e6)))


def size(value: int | None) -> str:
    """Bytes in powers of a thousand: ``38.4 kB``."""
    if value is None:
        return MISSING
    if abs(value) < 1000:
        return f"{value} B"
    return _scaled(float(value), (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)))


def duration(milliseconds: float | None) -> str:
    """A time in the unit that suits it: ``35.1 µs``, ``1.25 ms``, ``2.40 s``."""
    if milliseconds is None or not math.isfinite(milliseconds):
        return MISSING
    return _scaled(milliseconds, (("s", 1e3), ("ms", 1.0), ("µs", 1e-3)))


def percent(share: float | None, digits: int = 1, unit: str = " %") -> str:
    """A share of one as a percentage: ``50.0 %``, or without the sign where a heading has it."""
    if share is None or not math.isfinite(share):
        return MISSING
    return f"{100 * share:.{digits}f}{unit}".replace("-", "−")


def points(difference: float | None) -> str:
    """A difference of two shares in percentage points, signed: ``−0.6``."""
    if difference is None or not math.isfinite(difference):
        return MISSING
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def number(value: float | None) -> str:
    """Any real number with three digits that count: ``0.0123``, ``1.2 × 10⁻⁷``, ``0``."""
    if value is None or not math.isfinite(value):
        return MISSING if value is None or math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e5:
        return f"{value:.3g}".replace("-", "−")
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.replace('-', '−')} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def change(before: float | None, after: float | None) -> str:
    """How much a quantity shrank or grew: ``−50.0 %``; a dash where there was nothing before."""
    if before is None or after is None or not before:
        return MISSING
    text = f"{100 * (after / before - 1):+.1f}"
    return "0.0 %" if text in ("+0.0", "-0.0") else f"{text.replace('-', '−')} %"


def shape(sizes: tuple[int, ...]) -> str:
    """A tensor's shape: ``128×64``; ``scalar`` without axes."""
    return "×".join(str(size) for size in sizes) or "scalar"


def shape_left(sizes: tuple[int, ...]) -> str:
    """As :func:`shape`; ``removed`` where no axis is left."""
    return "removed" if sizes and not any(sizes) else shape(sizes)


def shortened(name: str, limit: int = 30) -> str:
    """A name that fits on an axis: the middle of a long one is left out."""
    if len(name) <= limit:
        return name
    tail = (limit - 1) * 2 // 3
    return f"{name[: limit - 1 - tail]}…{name[-tail:]}"


def _scaled(value: float, units: tuple[tuple[str, float], ...]) -> str:
    name, scale = next((unit for unit in units if abs(value) >= unit[1]), units[-1])
    scaled = value / scale
    digits = 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
    return f"{scaled:.{digits}f} {name}".replace("-", "−")
