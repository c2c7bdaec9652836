"""The tables of the report: records in, markup out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from secateur.report import formats
from secateur.report.blocks import table
from secateur.report.markup import Markup, element, join
from secateur.report.numbers import Coupled, Distribution, LayerRow, Removal, StageMetrics
from secateur.report.runs import SAME_ARRAYS, Agreement, RunNumbers
from secateur.report.words import first_of, together
from secateur.structure.coupling import Frozen

_QUANTITIES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "accuracy": ("Accuracy", lambda value: formats.percent(value, 2)),
    "precision": ("Precision", lambda value: formats.percent(value, 2)),
    "recall": ("Recall", lambda value: formats.percent(value, 2)),
    "f1": ("F1", lambda value: formats.percent(value, 2)),
    "parameters": ("Parameters", formats.count),
    "nonzero": ("Non-zero parameters", formats.count),
    "flops": ("FLOPs of one example", formats.count),
    "bytes": ("Size", formats.size),
    "latency_ms": ("Latency", formats.duration),
}


def stage_table(stages: Mapping[str, StageMetrics]) -> Markup:
    """One row a quantity, one column a stage, and the change from the first stage to the last."""
    rows = []
    for quantity, (name, written) in _QUANTITIES.items():
        values = [getattr(stage, quantity) for stage in stages.values()]
        if any(value is not None for value in values):
            rows.append([name, *map(written, values), _change(quantity, values[0], values[-1])])
    headings = ["", *(formats.STAGE_NAMES.get(name, name).capitalize() for name in stages), "Change"]
    return table(headings, rows)


def _change(quantity: str, first: Any, last: Any) -> str:
    if quantity in ("accuracy", "precision", "recall", "f1"):
        if first is None or last is None:
            return formats.MISSING
        return f"{formats.points(last - first)} points"
    return formats.change(first, last)


def arrow(before: str, after: str) -> str:
    """``before → after``, or once if both are written the same."""
    return before if before == after else f"{before} → {after}"


def layer_table(layers: Sequence[LayerRow]) -> Markup:
    """The layers with shapes, what is kept, and costs before and after."""
    headings = ("Layer", "Kind", "Kernel", "Kept weights", "Sparsity", "Parameters", "FLOPs")
    rows = [
        (
            row.layer,
            row.kind,
            arrow(formats.shape(row.shape_before), formats.shape_left(row.shape_after)),
            formats.count(row.kept),
            formats.percent(row.sparsity),
            arrow(formats.count(row.cost_before.parameters), formats.count(row.cost_after.parameters)),
            arrow(formats.count(row.cost_before.flops), formats.count(row.cost_after.flops)),
        )
        for row in layers
    ]
    return table(headings, rows, words=2, dense=True)


def fit_table(distributions: Sequence[Distribution]) -> Markup:
    """How far each fitted model is from the values; the nearest one of each row stands out."""
    families = list(dict.fromkeys(fit.family for item in distributions for fit in item.fits))
    rows = []
    for item in distributions:
        distances = {fit.family: fit.ks_distance for fit in item.fits}
        best = min(distances, key=distances.__getitem__, default=None)
        cells = [
            element("strong", f"{distances[name]:.3f}")
            if name == best
            else f"{distances[name]:.3f}"
            if name in distances
            else formats.MISSING
            for name in families
        ]
        spread = (formats.number(item.before.mean), formats.number(item.before.std))
        rows.append((item.parameter, item.label, *spread, *cells))
    headings = ("Parameter", "Values", "Mean", "Standard deviation", *(f"{name.capitalize()}" for name in families))
    return table(
        headings,
        rows if families else [],
        words=2,
        caption="Kolmogorov–Smirnov distance to the fitted models; smaller fits better.",
    )


def removal_table(removals: Sequence[Removal], with_reasons: bool = True) -> Markup:
    """What was removed from each layer, why (if the reasons differ), and what went with it (if anything did)."""
    columns: dict[str, Callable[[Removal], str]] = {"Layer": lambda item: item.layer}
    if with_reasons:
        columns["Because"] = lambda item: item.reason
    if any(item.follows for item in removals):
        columns["With it went"] = _followers
    numbers: dict[str, Callable[[Removal], str]] = {
        "Removed": lambda item: f"{formats.count(item.removed)} of {formats.count(item.total)} {item.what}",
        "Share": lambda item: formats.percent(item.removed / item.total if item.total else 0.0),
    }
    every = columns | numbers
    rows = [[written(item) for written in every.values()] for item in removals]
    return table(list(every), rows, words=len(columns))


def _followers(item: Removal) -> str:
    return "; ".join(f"{parameter}: {slices} along {axis}" for parameter, axis, slices in item.follows) or "nothing"


NAMES = 12  # so many names stand in a cell


def coupled_table(coupled: Sequence[Coupled]) -> Markup:
    """The units that can go, in sets of those that are alike, and what goes with each of them."""
    rows = [
        (
            f"{item.what} of {item.layer}",
            together(item.slices, NAMES),
            formats.count(item.total),
            formats.count(item.removed),
        )
        for item in coupled
    ]
    return table(("Units", "With each of them goes", "In all", "Go"), rows, words=2, dense=True)


def frozen_table(frozen: Sequence[Frozen]) -> Markup:
    """What had to stay, and which operation holds it."""
    rows = [(item.source, item.label, item.reason, first_of(item.parameters, NAMES)) for item in frozen]
    return table(("Where", "Operation", "Why it stays", "Parameters"), rows, words=4)


def runs_table(runs: Sequence[RunNumbers], keys: Sequence[str]) -> Markup:
    """One row a run, in percent; ``keys`` are the ids of the runs' details, to link to."""
    headings = (
        "Framework",
        *map(str.capitalize, formats.STAGE_NAMES.values()),
        "Change",
        *_LEFT.values(),
        "Largest error",
    )
    groups = (
        ("", 1),
        ("Accuracy (%)", len(formats.STAGE_NAMES) + 1),
        ("Left at the last stage (% of dense)", len(_LEFT)),
        ("", 1),
    )
    rows: list[list[object] | str] = []
    for name in dict.fromkeys(run.configuration for run in runs):
        rows.append(name)
        rows += [_run_row(run, key) for run, key in zip(runs, keys, strict=True) if run.configuration == name]
    return table(headings, rows, groups=groups, dense=True)


_LEFT = {"nonzero": "Non-zero", "parameters": "Parameters", "flops": "FLOPs", "bytes": "Size", "latency_ms": "Latency"}


def _run_row(run: RunNumbers, key: str) -> list[object]:
    last = run.last
    accuracies = [run.stages[stage].accuracy if stage in run.stages else None for stage in formats.STAGE_NAMES]
    drop = None if last.accuracy is None or run.dense.accuracy is None else last.accuracy - run.dense.accuracy
    left = [_ratio(getattr(run.dense, quantity), getattr(last, quantity)) for quantity in _LEFT]
    return [
        element("a", run.platform, href=f"#{key}"),
        *(formats.percent(value, unit="") for value in accuracies),
        formats.points(drop),
        *(formats.percent(value, unit="") for value in left),
        formats.number(run.max_error),
    ]


def _ratio(before: float | None, after: float | None) -> float | None:
    return after / before if before and after is not None else None


def agreement_table(runs: Sequence[RunNumbers], pairs: Sequence[Agreement]) -> Markup:
    """For each configuration what both runs started from, and pairs of platforms across: how many mask bits differ."""
    columns = list(dict.fromkeys(_platforms(runs, pair) for pair in pairs))
    groups: dict[str, dict[str, dict[tuple[str, str], Markup]]] = {}
    for pair in pairs:
        run = runs[pair.first]
        lines = groups.setdefault(f"{run.model}: {run.configuration}", {})
        lines.setdefault(pair.inputs, {})[_platforms(runs, pair)] = _cell(pair)
    rows: list[list[object] | str] = []
    for name, lines in groups.items():
        rows.append(name)
        rows += [
            [inputs, *(cells.get(column, formats.MISSING) for column in columns)] for inputs, cells in lines.items()
        ]
    return table(("Starting from", *(f"{first} and {second}" for first, second in columns)), rows, dense=True)


def _platforms(runs: Sequence[RunNumbers], pair: Agreement) -> tuple[str, str]:
    return runs[pair.first].platform, runs[pair.second].platform


def _cell(pair: Agreement) -> Markup:
    """Only runs that started from the same arrays must agree; of others a difference is told, but no alarm."""
    if not pair.different:
        return join((element("span", "same", class_="same"), element("small", f" {formats.count(pair.bits)} bits")))
    alarm = "differs" if pair.inputs == SAME_ARRAYS else None
    differing = element("span", f"{formats.count(pair.different)} differ", class_=alarm)
    return join((differing, element("small", f" of {formats.count(pair.bits)} bits")))
