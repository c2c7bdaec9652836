"""Scores that are taken several times for one pruning: what goes first, and the model as it then is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from secateur.adapter import Masks, Parameter


def shares(iterations: int, elements: int, pruned: float) -> list[float]:
    """Which shares of what is to be pruned go before the last scoring, so that what stays falls exponentially.

    After i of n iterations ``left ** (i / n)`` stays, ``left`` being what stays in the end (Tanaka et al. 2020).

    Args:
        iterations: n; there are n - 1 shares.
        elements: how many there are.
        pruned: how many are to go.
    """
    if pruned <= 0:
        return []
    left = 1.0 - pruned / elements
    return [(1.0 - left ** (index / iterations)) / (1.0 - left) for index in range(1, iterations)]


def masked(parameters: Sequence[Parameter], masks: Masks) -> list[Parameter]:
    """The parameters with zeros where masks are False; the model's own numbers are not touched."""
    return [
        dataclasses.replace(each, view=np.where(masks[each.name], each.view, each.view.dtype.type(0)))
        if each.name in masks
        else each
        for each in parameters
    ]
