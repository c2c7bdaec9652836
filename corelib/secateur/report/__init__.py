"""Reports: one self-contained HTML page, a static picture, and TensorBoard event files, drawn from plain records."""

from __future__ import annotations

from secateur.report.collect import Outcome, details, measured
from secateur.report.demo_page import write_demo_report
from secateur.report.numbers import (
    METRICS,
    STAGES,
    Coupled,
    Curve,
    Details,
    Distribution,
    FittedCurve,
    Histogram,
    LayerRow,
    PruningReport,
    Removal,
    StageMetrics,
)
from secateur.report.picture import read_runs, write_picture
from secateur.report.pruning_page import write_report
from secateur.report.runs import Agreement, DemoReport, DemoRun, RunNumbers
from secateur.report.stability_plots import stability_figure
from secateur.report.tensorboard import write_events
from secateur.report.training_plots import schedule_figure, sensitivity_figure
from secateur.report.words import recipe_words

__all__ = [
    "METRICS",
    "STAGES",
    "Agreement",
    "Coupled",
    "Curve",
    "DemoReport",
    "DemoRun",
    "Details",
    "Distribution",
    "FittedCurve",
    "Histogram",
    "LayerRow",
    "Outcome",
    "PruningReport",
    "Removal",
    "RunNumbers",
    "StageMetrics",
    "details",
    "measured",
    "read_runs",
    "recipe_words",
    "schedule_figure",
    "sensitivity_figure",
    "stability_figure",
    "write_demo_report",
    "write_events",
    "write_picture",
    "write_report",
]
