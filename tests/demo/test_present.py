"""What the terminal shows: six steps by name, what was skipped, every run, and whether the masks agree."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from secateur.demo import data
from secateur.demo.plan import STEPS, Choice
from secateur.demo.platforms import Platform
from secateur.demo.present import Terminal, agreement_lines, show_report
from secateur.demo.results import Outcome
from secateur.report import Agreement, DemoReport, DemoRun, Details, RunNumbers, StageMetrics

TORCH, KERAS = Platform("torch", "torch"), Platform("keras", "jax")
CHOICE = Choice("neurons", "magnitude", "percentile", "static")


def stage(accuracy: float, parameters: int, nonzero: int) -> StageMetrics:
    return StageMetrics(
        accuracy=accuracy,
        parameters=parameters,
        nonzero=nonzero,
        flops=2 * nonzero,
        bytes=4 * parameters,
        latency_ms=0.25,
    )


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200, color_system=None)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_six_steps_are_announced_in_their_order(console: Console) -> None:
    with Terminal(console) as terminal:
        terminal.began(data.load("digits", 0), {TORCH: 10, KERAS: 10})
        terminal.happened(TORCH, {"event": "step", "step": "train", "text": "mlp: up to [10] epochs"})
    text = printed(console)
    positions = [text.index(f"{number} {step}") for number, step in enumerate(STEPS, start=1)]
    assert positions == sorted(positions)
    assert "torch 2 train  mlp: up to [10] epochs" in text
    assert "data set digits" in text


def test_a_framework_that_is_missing_is_named(console: Console) -> None:
    Terminal(console).skipped("secateur_torch needs PyTorch: pip install 'secateur[torch]'")
    assert "skipped: secateur_torch needs PyTorch: pip install 'secateur[torch]'" in printed(console)


def test_every_run_tells_what_its_steps_came_to(console: Console) -> None:
    outcome = Outcome(
        {"pruned": stage(0.5, 200, 100), "finetuned": stage(0.97, 200, 100), "compact": stage(0.97, 100, 100)},
        1.5e-7,
        Details(),
    )
    with Terminal(console) as terminal:
        terminal.ran(KERAS, "mlp", CHOICE, {"accuracy": 0.98}, outcome)
    text = " ".join(printed(console).split())
    assert "keras/jax mlp · neurons · magnitude · percentile 50 · static" in text
    for part in (
        "3 score",
        "4 remove 50.0 % of all parameters, biases too, stay, accuracy 50.0 %",
        "5 fine-tune 97.0 % (dense 98.0 %)",
        "6 evaluate",
        "1.5e-07",
    ):
        assert part in text


def test_the_table_sets_frameworks_side_by_side(console: Console) -> None:
    runs = tuple(
        DemoRun(
            RunNumbers(
                framework=platform.framework,
                backend=platform.backend,
                model="mlp",
                granularity="neurons",
                score="magnitude",
                target="percentile 50",
                schedule="static",
                dense=stage(0.98, 9610, 9610),
                pruned=stage(0.5, 9610, 4800),
                finetuned=stage(0.97, 9610, 4800),
                compact=stage(0.97, 4810, 4800),
                max_error=0.0,
            )
        )
        for platform in (TORCH, KERAS)
    )
    report = DemoReport(runs=runs, agreement=(Agreement(0, 1, "same arrays", 9610, 0),))
    show_report(console, report, Path("folder"), 61.4)
    text = printed(console)
    assert text.count("neurons · magnitude") == text.count("percentile 50 · static") == 1
    assert text.count("9,610  ") >= 4
    assert text.count("4,810") == 2
    assert "0 of 9,610 bits differ in 1 pair of runs" in text
    assert "folder/report.html" in text
    assert "61 s" in text


def test_differing_bits_are_added_up_by_what_the_masks_came_from() -> None:
    pairs = [
        Agreement(0, 1, "same arrays", 10, 0),
        Agreement(2, 3, "same arrays", 10, 0),
        Agreement(2, 3, "own gradients", 10, 3, "rounding"),
        Agreement(4, 5, "own gradients", 10, 0),
    ]
    same, own, reason = agreement_lines(pairs)
    assert "same arrays" in same and "0 of 20 bits differ" in same and "2 pairs" in same
    assert "own gradients" in own and "3 of 20 bits differ" in own
    assert "rounding" in reason
    assert agreement_lines([]) == ["only one framework ran, so there is nothing to compare its masks with"]
