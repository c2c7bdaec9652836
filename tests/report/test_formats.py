"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from secateur.report import formats


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.count(9610), "9,610"),
        (formats.count(-3), "−3"),
        (formats.count(25_557_032), "25.6 M"),
        (formats.count(4_100_000_000), "4.10 G"),
        (formats.size(999), "999 B"),
        (formats.size(38_440), "38.4 kB"),
        (formats.size(102_230_000), "102 MB"),
        (formats.size(2_500_000_000), "2.50 GB"),
        (formats.duration(0.0351), "35.1 µs"),
        (formats.duration(1.25), "1.25 ms"),
        (formats.duration(2400), "2.40 s"),
        (formats.percent(0.5), "50.0 %"),
        (formats.percent(-0.012, 2), "−1.20 %"),
        (formats.percent(0.123, unit=""), "12.3"),
        (formats.points(-0.0064), "−0.6"),
        (formats.points(0.01), "+1.0"),
        (formats.points(-0.0001), "0.0"),
        (formats.number(0), "0"),
        (formats.number(0.012345), "0.0123"),
        (formats.number(-9.1049), "−9.1"),
        (formats.number(2.4e-7), "2.4 × 10⁻⁷"),
        (formats.number(1.5e12), "1.5 × 10¹²"),
        (formats.number(math.inf), "∞"),
        (formats.number(-math.inf), "−∞"),
        (formats.change(9610, 4810), "−49.9 %"),
        (formats.change(10, 10), "0.0 %"),
        (formats.change(10, 12), "+20.0 %"),
        (formats.shape((128, 64)), "128×64"),
        (formats.shape(()), "scalar"),
    ],
)
def test_numbers(written: str, expected: str) -> None:
    assert written == expected


def test_what_was_not_measured_is_a_dash() -> None:
    functions = (formats.count, formats.size, formats.duration, formats.percent, formats.points, formats.number)
    assert {function(None) for function in functions} == {formats.MISSING}
    assert {function(math.nan) for function in functions[2:]} == {formats.MISSING}
    assert formats.change(None, 3) == formats.change(3, None) == formats.change(0, 3) == formats.MISSING


def test_long_names_lose_their_middle() -> None:
    name = "encoder.layers.11.self_attention.output.dense"
    short = formats.shortened(name, 20)
    assert len(short) == 20
    assert name.startswith(short.split("…")[0]) and name.endswith(short.split("…")[1])
    assert formats.shortened("fc1", 20) == "fc1"
