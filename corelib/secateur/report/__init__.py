"""Reports: one self-contained HTML page, a static picture, and TensorBoard event files, drawn from plain records."""

from __future__ import annotations

from secateur.report.demo_page import write_demo_report
from secateur.report.numbers import (
    METRICS,
    STAGES,
    Agreement,
    Curve,
    DemoReport,
    DemoRun,
    Details,
    Distribution,
    FittedCurve,
    Histogram,
    LayerRow,
    PruningReport,
    Removal,
    RunNumbers,
    StageMetrics,
)
from secateur.report.pruning_page import write_report

__all__ = [
    "METRICS",
    "STAGES",
    "Agreement",
    "Curve",
    "DemoReport",
    "DemoRun",
    "Details",
    "Distribution",
    "FittedCurve",
    "Histogram",
    "LayerRow",
    "PruningReport",
    "Removal",
    "RunNumbers",
    "StageMetrics",
    "write_demo_report",
    "write_report",
]
