"""The page of a whole demo: all runs side by side, then each by itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from secateur.report import demo_plots, formats, tables
from secateur.report.blocks import facts_list, folded, grid, heading, key_figures, notes, tabs
from secateur.report.files import write_text
from secateur.report.html import Page
from secateur.report.markup import Markup, element, join
from secateur.report.numbers import METRICS
from secateur.report.runs import SAME_ARRAYS, Agreement, DemoReport, DemoRun, RunNumbers
from secateur.report.sections import run_blocks

METRIC_NAMES = {"accuracy": "Accuracy", "precision": "Precision", "recall": "Recall", "f1": "F1"}


def write_demo_report(path: str | os.PathLike[str], demo: DemoReport) -> Path:
    """Write the page of a whole demo: a single HTML file that loads nothing.

    Args:
        path: the file; missing folders are made, an existing file is replaced whole.
        demo: the numbers; empty parts are left out.

    Returns:
        The path written.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    return write_text(path, demo_page(demo).render())


def demo_page(demo: DemoReport) -> Page:
    """The page of a whole demo."""
    runs = [run.numbers for run in demo.runs]
    keys = [f"run-{number}" for number in range(1, len(runs) + 1)]
    page = Page(demo.title, list(dict.fromkeys(run.platform for run in runs)))
    sections = {
        "Summary": [key_figures(_key_figures(demo)), facts_list(demo.data)],
        "All runs": _runs_tables(runs, keys),
        "Quality at each stage": [_quality(page, runs)],
        "Accuracy against size": [grid(_sizes(page, runs))],
        "What is left of the cost": _costs(page, runs),
        "Do the frameworks agree?": _agreement(demo.agreement, runs),
        "Each run in detail": _details(page, demo.runs, keys),
        "Where this was made": [facts_list(demo.environment)],
    }
    for title, blocks in sections.items():
        page.add(title, *blocks, lead=_LEADS.get(title, ""))
    return page


_LEADS = {
    "All runs": "On the test split, which no choice has seen. The framework's name leads to the details of the run.",
    "Quality at each stage": "Colour is the stage, the symbol the framework.",
    "Accuracy against size": "Left and high is good: small, and still right.",
    "What is left of the cost": "The last stage of each run against its dense model.",
    "Do the frameworks agree?": "Mask bits, compared one by one. What starts from the same arrays must be the same.",
}


def _key_figures(demo: DemoReport) -> dict[str, tuple[str, str]]:
    runs = [run.numbers for run in demo.runs]
    figures = {"Runs": (str(len(runs)), "of " + ", ".join(_models(runs)))}
    alike = [pair for pair in demo.agreement if pair.inputs == SAME_ARRAYS]
    if alike:
        differing = sum(pair.different for pair in alike)
        figures["Differing mask bits"] = (formats.count(differing), f"in {len(alike)} pairs that start alike")
    changes = [(run.last.accuracy, run.dense.accuracy) for run in runs]
    drops = [last - dense for last, dense in changes if last is not None and dense is not None]
    if drops:
        figures["Accuracy, worst and best"] = (
            f"{formats.points(min(drops))} to {formats.points(max(drops))}",
            "points, dense to last stage",
        )
    errors = [run.max_error for run in runs if run.max_error is not None]
    if errors:
        figures["Largest error"] = (formats.number(max(errors)), "of an output, masked against compact")
    return figures


def _runs_tables(runs: Sequence[RunNumbers], keys: Sequence[str]) -> list[Markup]:
    keyed = list(zip(runs, keys, strict=True))
    blocks = []
    for model in _models(runs):
        chosen = [(run, key) for run, key in keyed if run.model == model]
        blocks += [heading(model), tables.runs_table([run for run, _ in chosen], [key for _, key in chosen])]
    return blocks


def _models(runs: Sequence[RunNumbers]) -> dict[str, list[RunNumbers]]:
    names = dict.fromkeys(run.model for run in runs)
    return {name: [run for run in runs if run.model == name] for name in names}


def _quality(page: Page, runs: Sequence[RunNumbers]) -> Markup:
    parts = {}
    for metric in METRICS:
        measured = [run for run in runs if getattr(run.dense, metric) is not None]
        charts = [
            page.figure(
                demo_plots.stage_figure(chosen, metric),
                f"{METRIC_NAMES[metric]}, {model}",
                demo_plots.symbols(chosen),
                wide=True,
            )
            for model, chosen in _models(measured).items()
        ]
        if charts:
            parts[METRIC_NAMES[metric]] = join(charts)
    return tabs("metric", parts) if parts else Markup()


def _sizes(page: Page, runs: Sequence[RunNumbers]) -> list[Markup]:
    titles = {"nonzero": "non-zero parameters", "bytes": "size"}
    measured = [run for run in runs if run.last.accuracy is not None]
    return [
        page.figure(
            demo_plots.size_figure(chosen, size), f"{model}: accuracy against {title}", demo_plots.symbols(chosen)
        )
        for model, chosen in _models(measured).items()
        for size, title in titles.items()
    ]


def _costs(page: Page, runs: Sequence[RunNumbers]) -> list[Markup]:
    return [
        page.figure(demo_plots.cost_figure(chosen), model, demo_plots.symbols(chosen), wide=True)
        for model, chosen in _models(runs).items()
    ]


def _agreement(pairs: Sequence[Agreement], runs: Sequence[RunNumbers]) -> list[Markup]:
    reasons = dict.fromkeys(pair.reason for pair in pairs if pair.different and pair.reason)
    return [tables.agreement_table(runs, pairs), notes(reasons)] if pairs else []


def _details(page: Page, runs: Sequence[DemoRun], keys: Sequence[str]) -> list[Markup]:
    return [
        folded(
            join((run.numbers.configuration, element("small", f"{run.numbers.model}, {run.numbers.platform}"))),
            tables.stage_table(run.numbers.stages),
            *run_blocks(page, run.details),
            key=key,
        )
        for run, key in zip(runs, keys, strict=True)
    ]
