"""From arrays to what is drawn of them: histograms, fitted curves, maps of what a mask keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import distributions
from secateur.report.numbers import Distribution, FittedCurve, Histogram

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

BINS = 60
CURVE_POINTS = 181
TAIL = 0.001
SAMPLE = 1 << 20
MAP_SIDE = 128


def histogram(values: Array, like: Histogram | None = None) -> Histogram:
    """Count the values of one array in 60 bins; exact zeros and the far tails are counted apart.

    Args:
        values: floats of any shape and layout.
        like: a histogram whose bins are used, so that before and after can be compared; else the bins reach from the
            0.1 % to the 99.9 % quantile of what is not zero (read off at most 2**20 evenly spaced values).

    Raises:
        InvalidTensorError: there is a NaN.
    """
    if not values.size:
        return Histogram(like.edges if like else (0.0, 1.0), (0,) * (len(like.counts) if like else 1))
    summary = distributions.summarize(values)
    flat = _plain(values)
    nonzero = flat[flat != 0.0]
    edges = np.array(like.edges) if like else _edges(nonzero[np.isfinite(nonzero)])
    counts, _ = np.histogram(nonzero, edges)
    return Histogram(
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        zeros=summary.zeros,
        below=int(np.count_nonzero(nonzero < edges[0])),
        above=int(np.count_nonzero(nonzero > edges[-1])),
        mean=summary.mean,
        std=summary.std,
        minimum=summary.minimum,
        maximum=summary.maximum,
    )


def _plain(values: Array) -> Array:
    """One axis, in a dtype that NumPy's own functions know (the 16-bit types become float32, exactly)."""
    flat = np.asarray(values).reshape(-1)
    return flat if flat.dtype in (np.float32, np.float64) else flat.astype(np.float32)


def _edges(values: Array) -> Floats:
    """Even bins over the bulk of the values; around a single value, a little to either side of it."""
    if not values.size:
        return np.linspace(-1.0, 1.0, BINS + 1)
    sample = values[:: max(1, -(-values.size // SAMPLE))].astype(np.float64)
    low, high = np.quantile(sample, (TAIL, 1.0 - TAIL))
    room = 0.5 * abs(low) if high - low <= 1e-9 * abs(low) else 0.0
    return np.linspace(low - room, high + room, BINS + 1)


def distribution(
    parameter: str, values: Array, *, kind: str = "weight", label: str = "weight", families: Sequence[str] = ()
) -> Distribution:
    """Measure values before pruning; :func:`with_after` completes the record.

    Args:
        parameter: the parameter's name.
        values: its weights, gradients or scores, of any shape.
        kind: ``weight``, ``gradient`` or ``score``.
        label: what the values are, for the axis.
        families: models to fit (keys of ``distributions.FAMILIES``); one that cannot be fitted is left out.
    """
    before = histogram(values)
    return Distribution(parameter, kind, label, before, fits=fitted_curves(values, before, families))


def with_after(before: Distribution, values: Array | None, thresholds: Sequence[float] = ()) -> Distribution:
    """The record of :func:`distribution` with the values after pruning, if there are any, and where pruning cut."""
    after = None if values is None else histogram(values, before.before)
    return dataclasses.replace(before, after=after, thresholds=tuple(thresholds))


def fitted_curves(values: Array, drawn: Histogram, families: Sequence[str]) -> tuple[FittedCurve, ...]:
    """Models fitted to all values, as curves over the bins of ``drawn``, in the order of ``families``.

    The distance is exact up to 2**20 values and the lower bound that the values' summary gives above.
    """
    summary = distributions.summarize(values) if values.size else None
    if summary is None or not summary.is_finite:
        return ()
    compared = distributions.compare(values if values.size <= SAMPLE else summary, families)
    x = np.linspace(drawn.edges[0], drawn.edges[-1], CURVE_POINTS)
    curves = [
        FittedCurve(model.family, tuple(x.tolist()), tuple(np.asarray(model.pdf(x)).tolist()), distance)
        for model, distance in compared
    ]
    return tuple(sorted(curves, key=lambda curve: families.index(curve.family)))


def kept_map(mask: npt.NDArray[np.bool_], side: int = MAP_SIDE) -> tuple[tuple[float, ...], ...]:
    """Share of kept weights in at most ``side`` times ``side`` blocks of a kernel's mask (canonical layout).

    Rows are outputs, columns all other axes together; a mask of fewer than two axes has no map.
    """
    if mask.ndim < 2 or not mask.size:
        return ()
    share = mask.reshape(mask.shape[0], -1).astype(np.float64)
    for axis in (0, 1):
        share = _block_means(np.moveaxis(share, axis, 0), side)
        share = np.moveaxis(share, 0, axis)
    return tuple(tuple(round(value, 4) for value in row) for row in share.tolist())


def _block_means(rows: Floats, limit: int) -> Floats:
    size = -(-len(rows) // limit)
    starts = np.arange(0, len(rows), size)
    lengths = np.diff(np.append(starts, len(rows)))
    return np.asarray(np.add.reduceat(rows, starts, axis=0) / lengths[:, None])
