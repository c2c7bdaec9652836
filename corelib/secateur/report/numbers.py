"""What a report is made of: frozen, framework-free records that turn into JSON.

Whoever measured the numbers (the pruner, the demo, a user's own loop) fills these in; pages, pictures and event files
are drawn from them alone, so that everything shown can also be stored and drawn again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secateur.errors import ShapeMismatchError
from secateur.structure.cost import Cost
from secateur.structure.coupling import Frozen
from secateur.structure.sets import Slice

STAGES = ("dense", "pruned", "finetuned", "compact")
METRICS = ("accuracy", "precision", "recall", "f1")


class Record:
    """Base of the records: gives each the same JSON form."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain dictionaries, lists, strings and numbers; what JSON cannot hold (NaN, inf) is None."""
        return {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True, kw_only=True)
class StageMetrics(Record):
    """One model at one stage: how good it is and what it costs. None means not measured.

    Args:
        accuracy: share of right answers, 0 to 1; ``precision``, ``recall`` and ``f1`` likewise, averaged over classes.
        parameters: trainable numbers of the model, zeros included.
        nonzero: trainable numbers that are not zero.
        flops: floating-point operations of one example.
        bytes: size of the model's file or, where none was written, of its tensors.
        latency_ms: time of one forward pass in milliseconds, as measured.
    """

    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    parameters: int
    nonzero: int
    flops: int
    bytes: int
    latency_ms: float | None = None


@dataclass(frozen=True)
class Histogram(Record):
    """How the numbers of one tensor are spread. Exact zeros are counted apart, so that masks do not hide the rest.

    Args:
        edges: bin edges, ascending and evenly spaced, one more than ``counts``.
        counts: non-zero numbers in each bin; the last bin holds its right edge.
        zeros: numbers that are exactly zero.
        below, above: non-zero numbers outside the edges (the far tails).
        mean, std: of all numbers, zeros included; population standard deviation.
        minimum, maximum: of all numbers.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    zeros: int = 0
    below: int = 0
    above: int = 0
    mean: float = 0.0
    std: float = 0.0
    minimum: float = 0.0
    maximum: float = 0.0

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1:
            raise ShapeMismatchError(
                f"a histogram of {len(self.counts)} counts needs {len(self.counts) + 1} edges, not {len(self.edges)}"
            )

    @property
    def total(self) -> int:
        """All numbers: in the bins, outside them, and zeros."""
        return sum(self.counts) + self.zeros + self.below + self.above


@dataclass(frozen=True)
class FittedCurve(Record):
    """A fitted distribution model, ready to draw.

    Args:
        family: ``normal``, ``uniform``, ``exponential``, ``laplace``.
        x, density: points of the probability density.
        ks_distance: Kolmogorov-Smirnov distance between model and data, 0 (same) to 1.
    """

    family: str
    x: tuple[float, ...]
    density: tuple[float, ...]
    ks_distance: float


@dataclass(frozen=True)
class Distribution(Record):
    """The values of one parameter (or of many together) before and after pruning.

    Args:
        parameter: the parameter's name, or words such as ``all kernels``.
        kind: ``weight``, ``gradient`` or ``score``: what the values are; decides the heading they stand under.
        label: what the horizontal axis says (``weight``, ``mean |gradient|``).
        before, after: the histograms; ``after`` is None where nothing was measured again.
        fits: models fitted to the values before pruning.
        thresholds: values on the horizontal axis at which pruning cut (two, if the score is a magnitude).
    """

    parameter: str
    kind: str
    label: str
    before: Histogram
    after: Histogram | None = None
    fits: tuple[FittedCurve, ...] = ()
    thresholds: tuple[float, ...] = ()


@dataclass(frozen=True)
class LayerRow(Record):
    """One prunable layer, before and after.

    Args:
        layer: the layer's name.
        kind: what it is, in the framework's word (``Linear``, ``Conv2D``).
        shape_before, shape_after: canonical shape of its kernel, ``(out, in, *spatial)``; after removal of units.
        kept, total: weights of the kernel that the mask keeps, and all of them.
        units_before, units_after: output units (neurons, channels).
        cost_before, cost_after: parameters, FLOPs and bytes of the layer, dense and with its masked units removed.
        kept_map: share of kept weights in blocks of the kernel, rows = outputs, columns = inputs; see ``kept_map()``.
        parameter: the kernel's own name.
    """

    layer: str
    kind: str
    shape_before: tuple[int, ...]
    shape_after: tuple[int, ...]
    kept: int
    total: int
    units_before: int
    units_after: int
    cost_before: Cost
    cost_after: Cost
    kept_map: tuple[tuple[float, ...], ...] = ()
    parameter: str = ""

    @property
    def sparsity(self) -> float:
        """Share of the kernel's weights that are pruned; 0 for a kernel without elements."""
        return 1.0 - self.kept / self.total if self.total else 0.0


@dataclass(frozen=True)
class Removal(Record):
    """What was taken from one layer, and why.

    Args:
        layer: the layer's name.
        what: ``neurons``, ``channels``, ``weights``: what was removed as one.
        removed, total: how many of how many.
        reason: one sentence, e.g. ``score of 0.012 or less: the 50th percentile of mean |gradient|``.
        threshold: the score up to which things were removed, if there is one.
        units: indices of the removed units, ascending; empty for single weights.
        scores: one score a unit of the layer, in the layer's order; empty if not known or for single weights.
        follows: what went with them: ``(parameter, axis, slices)``, e.g. ``("fc2.weight", "in", 64)``.
    """

    layer: str
    what: str
    removed: int
    total: int
    reason: str
    threshold: float | None = None
    units: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    follows: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True)
class Coupled(Record):
    """Units that are alike, and what goes with each of them.

    Args:
        layer: the layer that makes them first.
        what: what they are called: ``neurons``, ``channels``, ``heads``, ``recurrent units``, ``features``.
        total, removed: how many there are, and how many of them go.
        slices: for each axis that they lie along, what one of them has of it.
    """

    layer: str
    what: str
    total: int
    removed: int
    slices: tuple[Slice, ...]

    def parameters(self, *uses: str) -> tuple[str, ...]:
        """The parameters that make, read or carry them, in execution order."""
        return tuple(dict.fromkeys(each.parameter for each in self.slices if each.use in uses))


@dataclass(frozen=True)
class Curve(Record):
    """A number that was followed through training. Curves with the same ``y_label`` share one chart.

    Args:
        name: the legend's entry (``validation``).
        x, y: the points.
        x_label, y_label: what they are, with units (``epoch``, ``loss (nats)``).
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    x_label: str = "epoch"
    y_label: str = "loss"

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ShapeMismatchError(f"curve {self.name!r} has {len(self.x)} x values but {len(self.y)} y values")


@dataclass(frozen=True)
class Details(Record):
    """All that is known about one pruned model, layer by layer. Empty parts are left out of the report."""

    layers: tuple[LayerRow, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    removals: tuple[Removal, ...] = ()
    frozen: tuple[Frozen, ...] = ()
    curves: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()
    coupled: tuple[Coupled, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PruningReport(Record):
    """One pruned model, for :func:`secateur.report.write_report`.

    Args:
        model: the model's name or class.
        framework, backend: as in :class:`RunNumbers`.
        recipe: the recipe in words: ``{"granularity": "neurons", "target": "percentile 50", ...}``.
        stages: figures by stage, keys from :data:`STAGES`.
        details: layers, distributions, what was removed and frozen.
        max_error: largest difference between the outputs of the masked and of the compact model, relative to the
            largest output; None if it was not verified.
        form: in words, what the compact model is; None if none was made.
        title: the page's heading.
    """

    model: str
    framework: str
    backend: str
    recipe: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, StageMetrics] = field(default_factory=dict)
    details: Details = field(default_factory=Details)
    max_error: float | None = None
    form: str | None = None
    title: str = "Pruning report"
