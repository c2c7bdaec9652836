"""The parts that tell about one pruned model, shared by its own page and by the demo's."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from secateur.report import formats, plots, rails, tables
from secateur.report.blocks import capitalised, folded, grid, heading, notes, paragraph
from secateur.report.diagram import structure_diagram, unit_strip
from secateur.report.html import Page
from secateur.report.markup import Markup, element, join
from secateur.report.numbers import Curve, Details, Distribution, LayerRow, Removal

MANY, FEW = 12, 8  # from how many figures on they are folded, and how many then stay in sight

KINDS = {"weight": "Weights", "gradient": "Gradients", "score": "Scores"}


def structure_blocks(page: Page, layers: Sequence[LayerRow]) -> list[Markup]:
    """The silhouette, the layer table, sparsity and costs by layer."""
    if not layers:
        return []
    drawing = element("div", structure_diagram(layers), class_="scroll")
    chart = page.figure(plots.layers_figure(layers), "What is left of each layer", wide=True)
    return [drawing, chart, tables.layer_table(layers), *_gathered(_kept_maps(page, layers), "kernels")]


def _gathered(figures: Iterable[Markup], what: str) -> list[Markup]:
    """Figures in a grid; of many, all but the first few are folded away."""
    every = list(figures)
    if len(every) <= MANY:
        return [grid(every)]
    return [grid(every[:FEW]), folded(f"{len(every) - FEW} more {what}", grid(every[FEW:]))]


def _kept_maps(page: Page, layers: Sequence[LayerRow]) -> Iterator[Markup]:
    for row in layers:
        if row.kept_map:
            shape = formats.shape(row.shape_before)
            yield page.figure(plots.kept_map_figure(row), f"Kept weights of {row.layer}", f"kernel of {shape}")


def distribution_blocks(page: Page, distributions: Sequence[Distribution], kind: str) -> list[Markup]:
    """The histograms of one kind, and how well the fitted models match."""
    chosen = [item for item in distributions if item.kind == kind]
    figures = [
        page.figure(plots.distribution_figure(item), item.parameter, _about(item))
        for item in chosen
        if item.before.total
    ]
    empty = [f"{item.parameter} has no elements." for item in chosen if not item.before.total]
    return [*_gathered(figures, "parameters"), notes(empty), tables.fit_table(chosen)]


def _about(item: Distribution) -> str:
    total = item.before.total
    parts = [f"{formats.count(total)} values"]
    if item.before.zeros:
        parts.append(f"{formats.percent(item.before.zeros / total)} exactly zero before")
    if item.after is not None and item.after.zeros:
        parts.append(f"{formats.percent(item.after.zeros / item.after.total)} exactly zero after")
    outside = item.before.below + item.before.above
    if outside:
        parts.append(f"{formats.count(outside)} beyond the axis")
    if item.thresholds:
        parts.append(f"cut at {formats.number(max(item.thresholds))}")
    return ", ".join(parts)


def removal_blocks(page: Page, details: Details) -> list[Markup]:
    """What was removed from each layer and why; the units themselves where they are known."""
    reasons = {item.reason for item in details.removals}
    shared = paragraph(f"Everywhere because {reasons.pop()}.") if len(reasons) == 1 else Markup()
    units = [_units(page, item) for item in details.removals if item.units]
    if len(units) > MANY:
        units = [*units[:FEW], folded(f"{len(units) - FEW} more layers", *units[FEW:])]
    return [shared, tables.removal_table(details.removals, with_reasons=not shared), *units]


def _units(page: Page, item: Removal) -> Markup:
    title = f"{item.layer}: {len(item.units)} of {item.total} {item.what} removed"
    strip = element("div", unit_strip(item), class_="scroll")
    if not item.scores:
        return join((heading(title), strip))
    scores = page.figure(plots.unit_scores_figure(item), f"Scores of the {item.what} of {item.layer}")
    return join((heading(title), strip, scores))


def coupled_blocks(page: Page, details: Details) -> list[Markup]:
    """Which layers share units, drawn and told."""
    if not details.coupled:
        return []
    drawn = rails.coupling_figure(details.layers, details.coupled, details.frozen)
    told = tables.coupled_table(details.coupled)
    if len(details.coupled) > MANY:
        told = folded(f"All {len(details.coupled)} sets of units, and what goes with each of them", told)
    return [page.figure(drawn, "Which layers share units", _RAILS, wide=True), told]


_RAILS = (
    "One row a layer, one rail a set of units that go together; the thicker, the more of them. Filled dots make the "
    "units, open dots read them, diamonds mark layers of which something must stay. To the right, the features of each."
)


def frozen_blocks(details: Details) -> list[Markup]:
    """What stays by necessity, by operation."""
    return [tables.frozen_table(details.frozen)]


def curve_blocks(page: Page, curves: Sequence[Curve]) -> list[Markup]:
    """One chart for all curves of the same axis."""
    ordered = sorted((curve for curve in curves if curve.x), key=lambda curve: curve.y_label)
    groups = itertools.groupby(ordered, key=lambda curve: curve.y_label)
    return [grid([page.figure(plots.curves_figure(list(group)), capitalised(label)) for label, group in groups])]


def note_blocks(details: Details) -> list[Markup]:
    """Remarks that came with the numbers."""
    return [notes(details.notes)]


def run_blocks(page: Page, details: Details) -> list[Markup]:
    """All of the above under small headings, for one run among many."""
    parts = {
        "Structure before and after": structure_blocks(page, details.layers),
        "Weights before and after": distribution_blocks(page, details.distributions, "weight"),
        "Gradients before and after": distribution_blocks(page, details.distributions, "gradient"),
        "Scores": distribution_blocks(page, details.distributions, "score"),
        "What was removed, and why": removal_blocks(page, details),
        "What goes together": coupled_blocks(page, details),
        "What had to stay": frozen_blocks(details),
        "Training": curve_blocks(page, details.curves),
        "Notes": note_blocks(details),
    }
    filled = {title: [block for block in blocks if block] for title, blocks in parts.items()}
    return [join((heading(title), *blocks)) for title, blocks in filled.items() if blocks]
