"""How the demo looks in a terminal: the six steps announced, a bar for each framework, a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from secateur.demo.data import DataSet
from secateur.demo.plan import STEPS, Choice
from secateur.demo.platforms import Platform
from secateur.demo.results import Outcome
from secateur.report import Agreement, DemoReport, RunNumbers, StageMetrics
from secateur.report.formats import count, duration, percent, size

NUMBERS = {step: number for number, step in enumerate(STEPS, start=1)}


class Terminal:
    """Shows a demo while it runs: an :class:`~secateur.demo.session.Audience`, and a context manager for its bars.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars: dict[Platform, TaskID] = {}
        self._progress = Progress(
            TextColumn("[bold]{task.fields[platform]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Terminal:
        self.console.print("[bold]Importance-score pruning in six steps[/bold]")
        for step, text in STEPS.items():
            self.console.print(f"  {NUMBERS[step]} [bold]{step:<10}[/bold]{text}")
        self.console.print("Starting the frameworks, each in a process of its own ...")
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def skipped(self, reason: str) -> None:
        """A platform is not installed."""
        self.console.print(f"[yellow]skipped:[/yellow] {escape(reason)}")

    def began(self, data: DataSet, epochs: Mapping[Platform, int]) -> None:
        """The data are loaded."""
        self.console.print(", ".join(f"{name} {value}" for name, value in data.facts().items()))
        width = max(len(platform.name) for platform in epochs)
        for platform, total in epochs.items():
            name = f"{platform.name:<{width}}"
            self._bars[platform] = self._progress.add_task("", total=total, platform=name)

    def happened(self, platform: Platform, event: Mapping[str, Any]) -> None:
        """A step begins, or an epoch has ended."""
        if event["event"] == "tick":
            self._progress.advance(self._bars[platform])
            return
        step, text = event["step"], escape(event["text"])
        number = NUMBERS.get(step, "=")
        self._progress.update(self._bars[platform], description=f"{number} {step}: {text}")
        if step in ("build", "train", "compare"):
            self._say(platform, f"{number} [bold]{step}[/bold]  {text}")

    def trained(self, platform: Platform, model: str, result: Mapping[str, Any]) -> None:
        """A network is trained."""
        accuracy = percent(result["dense"]["accuracy"])
        self._say(platform, f"  {model}: accuracy {accuracy}, loss on the validation part {result['losses'][-1]:.3f}")

    def ran(self, platform: Platform, model: str, choice: Choice, dense: Mapping[str, Any], outcome: Outcome) -> None:
        """A run is done: what each of its steps came to."""
        pruned, tuned, small = (outcome.stages[name] for name in ("pruned", "finetuned", "compact"))
        left = percent(pruned.nonzero / pruned.parameters)
        self._say(
            platform,
            f"{model} · {choice.label}\n"
            f"    [bold]3 score[/bold] {choice.granularity} by {choice.score} → [bold]4 remove[/bold] {left} of all "
            f"parameters, biases too, stay, accuracy {percent(pruned.accuracy)} → [bold]5 fine-tune[/bold] "
            f"{percent(tuned.accuracy)} (dense {percent(dense['accuracy'])}) → [bold]6 evaluate[/bold] compact: "
            f"{count(small.parameters)} parameters, off by {outcome.max_error:.1e}",
        )

    def timing(self, platform: Platform) -> None:
        """Latencies are being measured."""
        self._progress.update(self._bars[platform], description="6 evaluate: latency, with nothing else running")

    def _say(self, platform: Platform, text: str) -> None:
        self._progress.console.print(f"[cyan]{platform.name}[/cyan] {text}", highlight=False)


def show_report(console: Console, report: DemoReport, out: Path, seconds: float) -> None:
    """The final table, whether the frameworks agree, and where the files are."""
    for model in dict.fromkeys(run.numbers.model for run in report.runs):
        runs = [run.numbers for run in report.runs if run.numbers.model == model]
        console.print(_table(model, runs, console.width))
    for line in agreement_lines(report.agreement):
        console.print(line, highlight=False)
    console.print(f"[bold]{out / 'report.html'}[/bold] tells all of it, {out / 'results.json'} holds the numbers,")
    console.print(f"tensorboard --logdir {out / 'events'} shows the events. ({seconds:.0f} s)")


# Heading -> what of a stage it shows; only the first two where the terminal is narrow.
_COSTS: dict[str, Callable[[StageMetrics], str]] = {
    "non-zero": lambda stage: count(stage.nonzero),
    "latency": lambda stage: duration(stage.latency_ms),
    "parameters": lambda stage: count(stage.parameters),
    "FLOPs": lambda stage: count(stage.flops),
    "file": lambda stage: size(stage.bytes),
}
_WIDE = 105


def _table(model: str, runs: Sequence[RunNumbers], width: int) -> Table:
    """The dense network first, then each recipe: accuracies on its way, costs at its end; one line a framework."""
    costs = list(_COSTS)[: None if width >= _WIDE else 2]
    title = f"{model}: accuracy on the test part, and what the compact model costs"
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("recipe", "framework"):
        table.add_column(heading, no_wrap=True)
    for heading in ("pruned", "tuned", *costs):
        table.add_column(heading, justify="right", no_wrap=True)
    groups = {label: [run for run in runs if run.configuration == label] for label in _labels(runs)}
    first = next(iter(groups.values()))
    table.add_row(
        "dense", *_lines([[run.platform, "", *_accuracy(run.dense), *_cost(run.dense, costs)] for run in first])
    )
    for group in groups.values():
        name = f"{group[0].granularity} · {group[0].score}\n{group[0].target} · {group[0].schedule}"
        lines = [
            [run.platform, *_accuracy(run.pruned), *_accuracy(run.finetuned), *_cost(run.last, costs)] for run in group
        ]
        table.add_row(name, *_lines(lines))
    return table


def _labels(runs: Sequence[RunNumbers]) -> list[str]:
    return list(dict.fromkeys(run.configuration for run in runs))


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells of several lines from lines of several cells."""
    return ["\n".join(cells) for cells in zip(*rows, strict=True)]


def _accuracy(stage: StageMetrics | None) -> list[str]:
    return [percent(None if stage is None else stage.accuracy)]


def _cost(stage: StageMetrics, headings: Sequence[str]) -> list[str]:
    return [_COSTS[heading](stage) for heading in headings]


def agreement_lines(pairs: Sequence[Agreement]) -> list[str]:
    """For each kind of comparison how many pairs, mask bits and differing bits there are, and why."""
    lines = []
    for inputs in dict.fromkeys(pair.inputs for pair in pairs):
        chosen = [pair for pair in pairs if pair.inputs == inputs]
        different, bits = sum(pair.different for pair in chosen), sum(pair.bits for pair in chosen)
        colour = "green" if different == 0 else "yellow"
        lines.append(
            f"masks from [bold]{inputs}[/bold]: [{colour}]{count(different)} of {count(bits)} bits differ[/{colour}] "
            f"in {len(chosen)} {'pair' if len(chosen) == 1 else 'pairs'} of runs"
        )
        reason = max(chosen, key=lambda pair: pair.different).reason
        lines += [f"  [dim]{reason}[/dim]"] if reason else []
    return lines or ["only one framework ran, so there is nothing to compare its masks with"]
