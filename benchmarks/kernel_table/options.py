"""What both scripts take on the command line."""

from __future__ import annotations

import argparse
import re

SIZES = (25_000_000, 100_000_000)
"""Numbers of elements, if no others are asked for."""


def elements(text: str) -> int:
    """A number of elements: 20000, 25M."""
    found = re.fullmatch(r"(\d+)([kM]?)", text)
    if not found or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of elements: give one such as 20000 or 25M")
    return int(found[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[found[2]]
