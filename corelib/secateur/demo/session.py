"""The demo from beginning to end: start the processes, hand out the work, collect the results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from secateur.demo import data as data_sets
from secateur.demo import plan
from secateur.demo.agreement import Made, MaskComparison
from secateur.demo.data import DataSet
from secateur.demo.exchange import Exchange
from secateur.demo.networks import Network, initial_weights
from secateur.demo.plan import Choice, Options
from secateur.demo.platforms import Platform, platforms
from secateur.demo.process import Worker
from secateur.demo.results import Outcome, Results, demo_run, environment
from secateur.errors import DataNotFoundError, MissingDependencyError, WorkerError
from secateur.report import DemoReport


class Audience(Protocol):
    """Who is told how the demo goes on. Called from several threads, one a platform."""

    def skipped(self, reason: str) -> None:
        """A platform is not installed."""

    def began(self, data: DataSet, epochs: Mapping[Platform, int]) -> None:
        """The data are loaded; ``epochs`` is what each platform has before it."""

    def happened(self, platform: Platform, event: Mapping[str, Any]) -> None:
        """A process tells of a step or of the end of an epoch."""

    def trained(self, platform: Platform, model: str, result: Mapping[str, Any]) -> None:
        """A network is trained: its ``dense`` figures, and the validation ``losses`` of its epochs."""

    def ran(self, platform: Platform, model: str, choice: Choice, dense: Mapping[str, Any], outcome: Outcome) -> None:
        """A run is done."""

    def timing(self, platform: Platform) -> None:
        """Latencies are being measured, on a quiet machine."""


def conduct(options: Options, audience: Audience) -> DemoReport:
    """Run the whole demo.

    Raises:
        MissingDependencyError: no framework is installed.
        DataNotFoundError: the data set cannot be found.
        WorkerError: a process failed.
    """
    wanted = platforms(options.frameworks, options.backends)
    with tempfile.TemporaryDirectory(prefix="secateur-demo-") as name, ExitStack() as stack:
        folder = Path(name)
        started = [stack.enter_context(Worker(platform, options, folder, audience.happened)) for platform in wanted]
        return Session(options, audience, Exchange(folder), _ready(started, audience)).perform()


def _ready(workers: Sequence[Worker], audience: Audience) -> list[Worker]:
    """The workers whose framework is installed."""
    ready = []
    for worker in workers:
        try:
            worker.wait_ready()
            ready.append(worker)
        except MissingDependencyError as error:
            audience.skipped(str(error))
    if not ready:
        raise MissingDependencyError(
            "the demo needs at least one framework: pip install 'secateur[torch]' or pip install 'secateur[keras]'"
        )
    return ready


class Session:
    """One demo, with its processes running.

    Args:
        options: what the user asked for.
        audience: who is told.
        exchange: where arrays are exchanged.
        workers: one process a platform; the first one's weights and statistics are what all masks are compared on.
    """

    def __init__(self, options: Options, audience: Audience, exchange: Exchange, workers: Sequence[Worker]) -> None:
        self.options = options
        self.audience = audience
        self.exchange = exchange
        self.workers = workers
        self.reference = workers[0].platform.name
        self.results = Results()

    def perform(self) -> DemoReport:
        """All steps, in every framework at the same time; latencies at the end, one framework after the other."""
        data = data_sets.load(self.options.data, self.options.seed, self._download)
        self.exchange.write_data(data)
        for model in self.options.models:
            weights = initial_weights(Network(model, data.image), self.options.seed)
            self.exchange.write("initial", model, weights)
        self.audience.began(data, {worker.platform: self._epochs() for worker in self.workers})
        for work in (self._train, self._compare, self._run):
            self._everywhere(work)
        for worker in self.workers:
            self.audience.timing(worker.platform)
            self.results.latencies[worker.platform] = worker.ask("time")
        return self._report(data)

    def _train(self, worker: Worker) -> None:
        for model in self.options.models:
            result = worker.ask("train", model=model)
            self.results.dense[worker.platform, model] = result["dense"]
            self.audience.trained(worker.platform, model, result)

    def _compare(self, worker: Worker) -> None:
        for model in self.options.models:
            worker.ask("compare", model=model, reference=self.reference)

    def _run(self, worker: Worker) -> None:
        for model, choice in self._choices():
            outcome = Outcome.from_dict(worker.ask("run", model=model, words=choice.words))
            self.results.outcomes[worker.platform, model, choice] = outcome
            self.audience.ran(worker.platform, model, choice, self.results.dense[worker.platform, model], outcome)

    def _everywhere(self, work: Callable[[Worker], None]) -> None:
        """Do it in all processes at once; if one fails, or the user has had enough, end them all."""
        with ThreadPoolExecutor(len(self.workers)) as pool:
            futures = [pool.submit(work, worker) for worker in self.workers]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    if future.done():
                        future.result()
            except BaseException:
                for worker in self.workers:
                    worker.end()
                raise

    def _download(self, path: Path) -> None:
        """Let the first framework that has a loader fetch MNIST."""
        reasons = []
        for worker in self.workers:
            try:
                worker.ask("download", path=str(path))
                return
            except WorkerError as error:
                reasons.append(str(error))
        raise DataNotFoundError("; ".join(reasons))

    def _choices(self) -> list[tuple[str, Choice]]:
        return [
            (model, choice) for model in self.options.models for choice in plan.choices(model, self.options.everything)
        ]

    def _epochs(self) -> int:
        trainings = {
            model: plan.TRAININGS[self.options.data, model].scaled(self.options.epochs) for model in self.options.models
        }
        dense = sum(training.dense for training in trainings.values())
        return dense + sum(trainings[model].epochs(choice) for model, choice in self._choices())

    def _report(self, data: DataSet) -> DemoReport:
        """Runs of the same recipe stand side by side."""
        order = [(worker.platform, model, choice) for model, choice in self._choices() for worker in self.workers]
        versions = {name: number for worker in self.workers for name, number in worker.versions.items()}
        made = [Made(platform.name, model, choice) for platform, model, choice in order]
        return DemoReport(
            runs=tuple(demo_run(self.results, key, self.options.seed) for key in order),
            agreement=tuple(MaskComparison(self.exchange, self.reference).every_pair(made)),
            data={**data.facts(), "seed": str(self.options.seed)},
            environment=environment(versions),
        )
