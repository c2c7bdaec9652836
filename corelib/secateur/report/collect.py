"""From the core's objects to a report's details: what a pruner knows, layer by layer, as plain records.

:func:`measured` is called on the dense model, :func:`details` whenever a report is wanted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.adapter import Masks, Parameter, prunable
from secateur.recipe import Gradient, Layers, Magnitude, Recipe, Structured
from secateur.report.measure import distribution, kept_map, with_after
from secateur.report.numbers import Coupled, Curve, Details, Distribution, LayerRow, Removal
from secateur.report.training_plots import schedule_curve
from secateur.report.words import reason, what
from secateur.schedules import OneShot
from secateur.structure.branches import closed, closing, find, kernels
from secateur.structure.bypassing import Branch
from secateur.structure.cost import Cost, layer_costs
from secateur.structure.coupling import Coupling, Frozen
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan, parameter_shapes, removable
from secateur.structure.sets import MAKES, Slice, unit_sets

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Statistics = Mapping[str, Mapping[str, Array]]

WEIGHT_FAMILIES = ("normal", "uniform")
# Statistic -> (axis label, families): magnitudes start at zero, signed gradients lie around it.
GRADIENTS = {
    "mean_abs_gradient": ("mean |gradient|", ("normal", "exponential")),
    "mean_gradient": ("mean gradient", ("normal", "laplace")),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a pruner knows when it is asked for a report. All arrays are in canonical layout.

    Args:
        recipe: the recipe that was followed.
        parameters: the model's parameters as they are now.
        masks: masks by parameter name.
        before: what :func:`measured` gave for the dense model; empty to show no distributions.
        kept: for each layer that competed, which of its elements stay: weights, or removable units.
        scores: the scores of these elements, in the same shapes, as of the last pruning.
        thresholds: the largest pruned score of each competition: key ``model``, or a layer's key in ``kept``.
        statistics: gradients of the pruned model; empty if they were not gathered again.
        graph: the structure; without it costs are those of the kernels alone.
        coupling: its units, to tell what goes with a unit and what had to stay.
        plan: what compacting removes.
        notes: remarks for the reader.
    """

    recipe: Recipe
    parameters: Sequence[Parameter]
    masks: Masks
    before: Sequence[Distribution] = ()
    kept: Mapping[str, BoolArray] = field(default_factory=dict)
    scores: Mapping[str, Array] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)
    graph: Graph | None = None
    coupling: Coupling | None = None
    plan: Plan | None = None
    notes: Sequence[str] = ()

    @property
    def by_units(self) -> bool:
        """Whether whole units or branches were pruned, not single weights."""
        return isinstance(self.recipe.granularity, Structured)

    @property
    def by_branches(self) -> bool:
        """Whether what goes are residual branches, so that units tell nothing."""
        return isinstance(self.recipe.granularity, Layers)

    def threshold(self, layer: str) -> float | None:
        """The score up to which elements of a layer were pruned; None if none was."""
        value = self.thresholds.get(layer, self.thresholds.get("model"))
        return value if value is not None and np.isfinite(value) else None


def sampled(parameters: Sequence[Parameter], limit: int = 1 << 14) -> list[Parameter]:
    """The kernels with at most ``limit`` evenly spaced elements of each, copied: enough to draw, cheap to keep."""
    return [dataclasses.replace(item, view=_spread(item.view, limit)) for item in prunable(parameters)]


def _spread(view: Array, limit: int) -> Array:
    """A copy of evenly spaced elements, in C order."""
    elements = view.reshape(-1) if view.flags.c_contiguous else view.flat
    spread: Array = elements[:: max(1, -(-view.size // limit))].copy()
    return spread


def measured(parameters: Sequence[Parameter], statistics: Statistics) -> tuple[Distribution, ...]:
    """How weights and gradients are spread before pruning.

    Args:
        parameters: all parameters of the dense model; only kernels, recurrent kernels and embeddings are measured.
        statistics: statistic -> parameter name -> array; those in :data:`GRADIENTS` are measured, if given.
    """
    kernels = prunable(parameters)
    weights = [distribution(kernel.name, kernel.view, families=WEIGHT_FAMILIES) for kernel in kernels]
    gradients = [
        distribution(kernel.name, statistics[key][kernel.name], kind="gradient", label=label, families=families)
        for key, (label, families) in GRADIENTS.items()
        for kernel in kernels
        if kernel.name in statistics.get(key, {})
    ]
    return (*weights, *gradients)


def details(outcome: Outcome) -> Details:
    """What is known about a pruned model, as records."""
    return Details(
        layers=_layer_rows(outcome),
        distributions=tuple(_measured_again(outcome)),
        removals=tuple(_removal(outcome, layer) for layer in outcome.kept),
        frozen=(*_held_back(outcome), *_never_run(outcome)),
        notes=tuple(outcome.notes),
        coupled=_coupled(outcome),
        curves=_planned(outcome),
    )


def _planned(outcome: Outcome) -> tuple[Curve, ...]:
    """When a training prunes; nothing for what was pruned at once."""
    if outcome.recipe.schedule == OneShot():
        return ()
    size = sum(flags.size for flags in outcome.kept.values())
    gone = sum(int(np.count_nonzero(~flags)) for flags in outcome.kept.values())
    return (schedule_curve(outcome.recipe.schedule, gone / max(1, size)),)


def _coupled(outcome: Outcome) -> tuple[Coupled, ...]:
    graph, coupling = outcome.graph, outcome.coupling
    if graph is None or coupling is None or not outcome.by_units:
        return ()
    if outcome.by_branches:
        return tuple(_branch_row(outcome, graph, branch) for branch in _branches(outcome, graph))
    gone = removable(graph, coupling, outcome.masks)
    return tuple(
        Coupled(
            layer=_display_name(outcome, each.layer),
            what=each.what,
            total=each.members.size,
            removed=int(gone[each.members].sum()),
            slices=each.slices,
        )
        for each in unit_sets(graph, coupling)
    )


def _branches(outcome: Outcome, graph: Graph) -> list[Branch]:
    """The residual branches that competed: those of which the masks know every parameter."""
    return [branch for branch in find(graph) if closing(graph, [branch]).keys() <= outcome.masks.keys()]


def _branch_row(outcome: Outcome, graph: Graph, branch: Branch) -> Coupled:
    """A branch as a set of one, with all that goes with it."""
    return Coupled(
        layer=_display_name(outcome, kernels(graph, branch)[0]),
        what="branch",
        total=1,
        removed=len(closed(graph, [branch], outcome.masks)),
        slices=tuple(Slice(name, "", 1, MAKES) for name in branch.parameters),
    )


def _held_back(outcome: Outcome) -> tuple[Frozen, ...]:
    if outcome.by_branches and outcome.graph is not None:
        return _without_a_branch(outcome, outcome.graph)
    return outcome.coupling.frozen if outcome.coupling is not None and outcome.by_units else ()


def _without_a_branch(outcome: Outcome, graph: Graph) -> tuple[Frozen, ...]:
    """The kernels of no branch that competed."""
    inside = {name for branch in _branches(outcome, graph) for name in branch.parameters}
    known = (item.name for item in prunable(outcome.parameters) if item.name in graph.parameters)
    names = tuple(name for name in known if name not in inside)
    return (Frozen("", "model", "in no residual branch that may go", names),) if names else ()


def _never_run(outcome: Outcome) -> tuple[Frozen, ...]:
    """Layers of which the trace knows nothing: they stay whole, also if what they read, when they do run, shrinks."""
    known = None if outcome.graph is None else outcome.graph.parameters
    idle = [item for item in prunable(outcome.parameters) if known is not None and item.name not in known]
    names = tuple(item.name for item in idle if not item.refusal)
    return (Frozen("", "model", "never run for the example", names),) if names else ()


def _layer_rows(outcome: Outcome) -> tuple[LayerRow, ...]:
    """One row for each kernel, in the model's order."""
    graph, plan = outcome.graph, outcome.plan
    shapes = parameter_shapes(graph, plan) if graph else {}
    costs = (layer_costs(graph), layer_costs(graph, plan)) if graph else ({}, {})
    kinds = _labels(graph)
    return tuple(
        _layer_row(outcome, kernel, kinds.get(kernel.name, kernel.role), _shape_after(graph, kernel, shapes), costs)
        for kernel in prunable(outcome.parameters)
    )


def _shape_after(graph: Graph | None, kernel: Parameter, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """That of a kernel of which nothing is left has zeros; one that the structure does not know stays as it is."""
    if graph is None or kernel.name not in graph.parameters:
        return kernel.view.shape
    return shapes.get(kernel.name, (0,) * kernel.view.ndim)


def _layer_row(
    outcome: Outcome,
    kernel: Parameter,
    kind: str,
    shape_after: tuple[int, ...],
    costs: tuple[dict[str, Cost], dict[str, Cost]],
) -> LayerRow:
    view, mask = kernel.view, outcome.masks.get(kernel.name)
    alone = Cost(view.size, 0, view.nbytes)
    axis = kernel.producing_axis or 0
    return LayerRow(
        layer=_display_name(outcome, kernel.name),
        kind=kind,
        shape_before=view.shape,
        shape_after=shape_after,
        kept=view.size if mask is None else int(np.count_nonzero(mask)),
        total=view.size,
        units_before=view.shape[axis],
        units_after=shape_after[axis],
        cost_before=costs[0].get(kernel.name, alone),
        cost_after=costs[1].get(kernel.name, alone),
        kept_map=() if mask is None or outcome.by_units else kept_map(mask),
        parameter=kernel.name,
    )


def _display_name(outcome: Outcome, name: str) -> str:
    """The name of the layer that owns a kernel, where it has no other; else the kernel's own."""
    kernels = prunable(outcome.parameters)
    layer = next((kernel.layer for kernel in kernels if kernel.name == name), "")
    return layer if layer and sum(kernel.layer == layer for kernel in kernels) == 1 else name


def _labels(graph: Graph | None) -> dict[str, str]:
    """Kernel -> the framework's name of the operation that uses it first."""
    labels: dict[str, str] = {}
    for operation in graph.operations if graph else ():
        kernel = operation.parameters.get("kernel")
        if kernel is not None:
            labels.setdefault(kernel, operation.label or operation.kind)
    return labels


def _measured_again(outcome: Outcome) -> list[Distribution]:
    weights = {kernel.name: kernel.view for kernel in prunable(outcome.parameters)}
    gradients = {label: outcome.statistics.get(key, {}) for key, (label, _) in GRADIENTS.items()}
    return [
        with_after(
            item,
            (weights if item.kind == "weight" else gradients[item.label]).get(item.parameter),
            _cuts(outcome, item),
        )
        for item in outcome.before
    ]


def _cuts(outcome: Outcome, item: Distribution) -> tuple[float, ...]:
    """Where pruning cut on this axis: known only where single weights were scored by the very values that are drawn."""
    threshold, score = outcome.threshold(item.parameter), outcome.recipe.score
    if threshold is None or outcome.by_units:
        return ()
    if item.kind == "weight" and score == Magnitude():
        return (-threshold, threshold)
    if item.label == GRADIENTS["mean_abs_gradient"][0] and isinstance(score, Gradient):
        return (threshold,)
    return ()


def _removal(outcome: Outcome, layer: str) -> Removal:
    stays, threshold = outcome.kept[layer], outcome.threshold(layer)
    scores = outcome.scores.get(layer)
    return Removal(
        layer=_display_name(outcome, layer),
        what=what(outcome.recipe),
        removed=stays.size - int(np.count_nonzero(stays)),
        total=stays.size,
        reason=reason(outcome.recipe, threshold),
        threshold=threshold,
        units=tuple(np.flatnonzero(~stays).tolist()) if outcome.by_units else (),
        scores=tuple(scores.tolist()) if outcome.by_units and scores is not None else (),
        follows=_follows(outcome, layer) if outcome.by_units else (),
    )


def _follows(outcome: Outcome, layer: str) -> tuple[tuple[str, str, int], ...]:
    """Slices of parameters that go with the removed units of a layer, or with branches: (parameter, axis, how many)."""
    coupling, graph = outcome.coupling, outcome.graph
    if graph is not None and outcome.by_branches:
        gone = () if outcome.plan is None else outcome.plan.branches
        names = dict.fromkeys(name for branch in gone for name in kernels(graph, branch))
        shapes = ((name, graph.parameters[name]) for name in names)
        return tuple((name, kernel.axes[0], kernel.shape[0]) for name, kernel in shapes)
    if coupling is None or graph is None:
        return ()
    members = np.flatnonzero(coupling.layers == coupling.layer_names.index(layer))
    marked = np.zeros(coupling.count + 1, np.bool_)  # one more, for the -1 of indices that stay
    marked[members[~outcome.kept[layer]]] = True
    found = ((name, graph.parameters[name].axes[axis], marked[units]) for (name, axis), units in coupling.units.items())
    return tuple((name, axis, int(slices.sum())) for name, axis, slices in found if slices.any() and name != layer)
