"""The page of one pruned model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from secateur.report import formats, sections, tables
from secateur.report.blocks import facts_list, key_figures
from secateur.report.files import write_text
from secateur.report.html import Page
from secateur.report.markup import Markup
from secateur.report.numbers import PruningReport, StageMetrics


def write_report(path: str | os.PathLike[str], report: PruningReport) -> Path:
    """Write the page of one pruned model: a single HTML file that loads nothing.

    Args:
        path: the file; missing folders are made, an existing file is replaced whole.
        report: the numbers; empty parts are left out.

    Returns:
        The path written.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    return write_text(path, pruning_page(report).render())


def pruning_page(report: PruningReport) -> Page:
    """The page of one pruned model."""
    details = report.details
    page = Page(report.title, (report.model, _platform(report.framework, report.backend)))
    page.add(
        "Summary",
        key_figures(_key_figures(report)),
        facts_list({**report.recipe, **({} if report.form is None else {"smaller model": report.form})}),
        *sections.note_blocks(details),
    )
    page.add("Cost and quality", tables.stage_table(report.stages) if report.stages else Markup(), lead=_COST_LEAD)
    page.add("Structure before and after", *sections.structure_blocks(page, details.layers), lead=_STRUCTURE_LEAD)
    for kind, title in sections.KINDS.items():
        blocks = sections.distribution_blocks(page, details.distributions, kind)
        page.add(f"{title} before and after" if kind != "score" else title, *blocks, lead=_DISTRIBUTION_LEADS[kind])
    page.add("What was removed, and why", *sections.removal_blocks(page, details), lead=_REMOVAL_LEAD)
    page.add("What goes together", *sections.coupled_blocks(page, details), lead=_COUPLED_LEAD)
    page.add("What had to stay", *sections.frozen_blocks(details), lead=_FROZEN_LEAD)
    page.add("Training", *sections.curve_blocks(page, details.curves))
    return page


_COST_LEAD = (
    "The same model at each stage. Masked weights are still stored and computed until the model is made compact."
)
_STRUCTURE_LEAD = "Grey is the dense network, blue what is left; the paler a band, the fewer of its weights are kept."
_REMOVAL_LEAD = "Things with the lowest scores went first; equal scores are taken in order of position."
_COUPLED_LEAD = "A unit goes with everything that it touches: what makes it, what reads it, and what lies between."
_FROZEN_LEAD = (
    "These cannot be removed without changing what the network computes; the operation that ties them is named."
)
_DISTRIBUTION_LEADS = {
    "weight": "Exact zeros are not drawn: grey that shows behind blue is what went. Models are fitted to what was.",
    "gradient": "What the loss feels of each weight, averaged over batches. Models are fitted to the values before.",
    "score": "What decided: the lowest scores were pruned.",
}


def _platform(framework: str, backend: str) -> str:
    return framework if framework == backend else f"{framework} on {backend}"


def _key_figures(report: PruningReport) -> dict[str, tuple[str, str]]:
    figures: dict[str, tuple[str, str]] = {}
    kept = sum(row.kept for row in report.details.layers)
    total = sum(row.total for row in report.details.layers)
    if total:
        figures["Weights kept"] = (formats.percent(kept / total), f"{formats.count(kept)} of {formats.count(total)}")
    stages = list(report.stages.values())
    if len(stages) > 1:
        figures.update(_changes(stages[0], stages[-1]))
    if report.max_error is not None:
        figures["Largest error"] = (formats.number(report.max_error), "of an output, masked against compact")
    return figures


def _changes(first: StageMetrics, last: StageMetrics) -> dict[str, tuple[str, str]]:
    figures: dict[str, tuple[str, str]] = {}
    if first.accuracy is not None and last.accuracy is not None:
        difference = f"{formats.points(last.accuracy - first.accuracy)} points"
        figures["Accuracy"] = (formats.percent(last.accuracy), difference)
    for name, quantity, written in _COSTS:
        before, after = getattr(first, quantity), getattr(last, quantity)
        figures[name] = (formats.change(before, after), tables.arrow(written(before), written(after)))
    return figures


_COSTS: tuple[tuple[str, str, Callable[[int], str]], ...] = (
    ("Parameters", "parameters", formats.count),
    ("FLOPs", "flops", formats.count),
    ("Size", "bytes", formats.size),
)
