"""A model under masks that hold, and everything that can be asked of it: compact, summary, report, save.

:func:`secateur.pruner.prune` and :func:`secateur.pruner.load` return one; a :class:`secateur.pruner.Pruner` is one that
goes on pruning.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt

from secateur import storage
from secateur.adapter import Adapter, Hold, Parameter, Smaller, prunable
from secateur.errors import CopyError, ExampleError, HoldError, ShapeMismatchError, TraceError, VerificationError
from secateur.groups import left_dense
from secateur.latency import Timing
from secateur.ranking import units
from secateur.recipe import Layers, Recipe, Structured, Units
from secateur.recipe.granularity import part
from secateur.report.collect import Outcome, details, measured
from secateur.report.formats import duration, percent
from secateur.report.numbers import PruningReport, StageMetrics
from secateur.report.overview import Overview
from secateur.report.words import recipe_words
from secateur.scoring import Statistics
from secateur.structure.branches import closed, find
from secateur.structure.cost import Cost, cost
from secateur.structure.coupling import Coupling
from secateur.structure.forced import first_row
from secateur.structure.graph import Graph
from secateur.structure.removal import STATISTICS, Plan, plan, removable, shortened
from secateur.tasks import TaskTable
from secateur.verification import BAKED, BRANCHING, INEXACT, largest_error, require_telling

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Trial = tuple[Any, Sequence[Array]]  # an input, and the masked model's outputs for it


class Pruned:
    """A model under masks that hold.

    Loading weights into the model may bring back what the masks prune. The next optimizer step makes it zero again, and
    so does everything here that reads the model, as long as the masks are not released.

    Attributes:
        model: the user's own model; masked weights are exactly 0.0 and stay so through training.
        recipe: what was asked for.
        max_error: after :meth:`compact`, the largest difference between the outputs of the masked and of the smaller
            model, relative to the largest output, for the example and for a made-up input like it; None before.
        form: after :meth:`compact`, in words, what the smaller model is: the user's own module with smaller weights, or
            one made anew; None before.
        statistics: statistic -> parameter name -> array in canonical layout, as of the last pruning; empty if the score
            needs none.
        timing: seconds of a forward pass of the dense and of the smaller model, as measured for a ``Latency``; None for
            other targets, before the last step of a schedule, and after loading.
        thresholds: the largest pruned score: of ``"model"``, or of each layer if the layers were ranked one by one;
            empty for several scales.
    """

    def __init__(self, adapter: Adapter, model: Any, recipe: Recipe, example: Any | None, graph: Graph | None) -> None:
        self.adapter = adapter
        self.model = model
        self.recipe = recipe
        self.max_error: float | None = None
        self.form: str | None = None
        self.timing: Timing | None = None
        self.statistics: Statistics = {}
        self.thresholds: dict[str, float] = {}
        self._example = example
        self._graph = graph
        self._coupling: Coupling | None = None
        self._masks: dict[str, BoolArray] = {}
        self._hold: Hold | None = None
        self._dense: Sequence[Parameter] = ()
        self._dense_nonzero: int | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same of a copy of the model, whose masks hold and are released by themselves; what is known is shared."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update(vars(self))
        twin.model = copy.deepcopy(self.model, memo)
        twin._hold = copy.deepcopy(self._hold, memo)
        return twin

    def __getstate__(self) -> NoReturn:
        """Refuses ``pickle`` and ``copy.copy``, of which neither can take the hold along."""
        raise CopyError(
            f"a {type(self).__name__} holds masks in a live model, so it is neither pickled nor copied by copy.copy: "
            "write it with save(folder) and read it with load(folder), or use copy.deepcopy"
        )

    @property
    def masks(self) -> dict[str, BoolArray]:
        """Parameter name -> mask in the parameter's own layout; True = kept. Copies: changing them changes nothing."""
        return {name: mask.copy() for name, mask in self.adapter.native(self.model, self._masks).items()}

    @property
    def sparsity(self) -> float:
        """The fraction of all kernel weights of the model that the masks prune."""
        kernels = prunable(self.parameters())
        masks = [self._masks[kernel.name] for kernel in kernels if kernel.name in self._masks]
        pruned = sum(mask.size - int(np.count_nonzero(mask)) for mask in masks)
        return pruned / max(1, sum(kernel.view.size for kernel in kernels))

    @property
    def tasks(self) -> TaskTable:
        """Task -> ``(before, after)``: what its ``evaluate`` told of the dense model, and tells of the model now.

        Measured anew each time, so that it follows a training; empty if no tasks were given, and after loading.
        """
        return TaskTable()

    def parameters(self) -> list[Parameter]:
        """The model's parameters as the core sees them, in the order of the forward pass where that is known."""
        return self.adapter.parameters(self.model, self._graph)

    def release(self) -> None:
        """Stop holding the masks; weights keep their values and train freely from now on.

        The masks go on telling what was pruned. :meth:`save` and :meth:`compact` work as long as it is still zero.
        """
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def plan(self, example: Any | None = None) -> Plan:
        """Which indices of which parameters :meth:`compact` keeps, or which residual branches go."""
        graph = self._traced(example)
        by_branches = part(self.recipe.granularity, Layers) is not None
        branches = closed(graph, find(graph), self._masks) if by_branches else []
        if isinstance(self.recipe.granularity, Layers):
            return shortened(graph, branches)
        coupling = self._coupled(graph)
        return plan(graph, coupling, removable(graph, coupling, self._masks), branches)

    def compact(self, example: Any | None = None) -> Any:
        """The smaller, ordinary model without the units or branches that the masks mark wholly.

        ``model`` itself is not touched.

        Args:
            example: an input on which the smaller model is verified; the one that ``prune`` had if None.

        Raises:
            ExampleError: no example is known and the framework needs one, or the outputs for it could not show a
                difference: no row, or nothing but zeros.
            VerificationError: the smaller model does not run or, unless the recipe allows it (``exact=False``), gives
                other outputs, and is thrown away; or the masked model gives NaN.
        """
        self.enforce()
        example = self._example if example is None else example
        removal = self.plan(example)
        return self._smaller(removal, self._trials(example), example)

    def _trials(self, example: Any | None) -> list[Trial]:
        """The example, and a made-up input where that tells something, each with the masked model's outputs.

        Zeros, or a single token, may show no difference where other inputs would. One row of noise does for all rows,
        where the model lets it.
        """
        row = first_row(self._traced(example), example)
        with contextlib.suppress(ExampleError, TraceError, VerificationError):
            if row is not None and self.adapter.made_up(self.model, self._traced(example), row) is None:
                expected = self.adapter.outputs(self.model, row)
                require_telling(expected)
                return [(row, expected)]
        expected = self.adapter.outputs(self.model, example)
        require_telling(expected)
        trials: list[Trial] = [(example, expected)]
        with contextlib.suppress(ExampleError, TraceError, VerificationError):  # not every model takes any numbers
            made_up = self.adapter.made_up(self.model, self._traced(example), example)
            if made_up is not None:
                expected = self.adapter.outputs(self.model, made_up)
                require_telling(expected)
                trials.append((made_up, expected))
        return trials

    def _smaller(self, removal: Plan, trials: Sequence[Trial], example: Any | None) -> Any:
        """The first form of the smaller model that gives these outputs. Raises VerificationError, TraceError."""
        refused: VerificationError | None = None
        try:
            for candidate in self.adapter.compact(self.model, self._traced(example), removal, example):
                try:
                    self.max_error = self._difference(candidate, trials)
                except VerificationError as error:
                    refused = refused or error
                else:
                    self.form = candidate.form
                    return candidate.model
        except TraceError as error:
            if refused is None:
                raise
            raise VerificationError(f"{refused} Nor can it be made in another way: {error}") from error
        raise refused or TraceError("the adapter knows no way to make the model smaller")

    def _difference(self, candidate: Smaller, trials: Sequence[Trial]) -> float:
        """How far the smaller model's outputs are off. Raises VerificationError."""
        example, _ = trials[0]
        graph, small = self._traced(example), candidate.model
        errors = [
            largest_error(expected, self._small_outputs(small, given), self._is_exact, graph.precision)
            for given, expected in trials
        ]
        if candidate.misfit:
            raise VerificationError(candidate.misfit)
        if graph.has_training:
            self._small_outputs(small, example, training=True)
        return max(errors)

    @property
    def _is_exact(self) -> bool:
        """Whether the recipe removes only what leaves the outputs as they are."""
        units = part(self.recipe.granularity, Units)
        return units is None or units.exact

    def carry_optimizer(self, optimizer: Any, small: Any, example: Any | None = None) -> Any:
        """An optimizer that goes on training the smaller model where another one stopped training the large one.

        Of the same class and settings; momenta and averages are cut as the weights were, and counts of steps go on, so
        that its next step does to what stays what the large model's next step would have done. The masks must be those
        that ``small`` was made with. A learning-rate scheduler holds on to the old optimizer: give it the new one. Two
        things differ: scales of root mean square normalisations that lost features are larger numbers now, with
        gradients that are smaller by as much; and single weights that masks pruned within what stays train freely.

        Args:
            optimizer: the one that trained ``model``; it is not changed.
            small: what :meth:`compact` returned.
            example: as for :meth:`compact`.

        Raises:
            ModelTypeError: ``small`` is no model.
            HoldError: ``optimizer`` is none, or trains something else, ``small`` is not of these masks, or the
                optimizer keeps what cannot be cut.
        """
        return self.adapter.carry_optimizer(optimizer, self.model, small, self.plan(example))

    def summary(self, example: Any | None = None) -> Overview:
        """Tables for people: each prunable layer with its shape, what is kept, and what it costs before and after.

        Where whole units are pruned, also which units there are, what goes with each of them, and what stays and why.

        Args:
            example: as for :meth:`compact`; without any, a PyTorch model has no FLOPs in the table.
        """
        told = details(self.outcome(example))
        return Overview(told.layers, told.frozen, told.notes, told.coupled, self.form)

    def report(self, path: str | Path, example: Any | None = None) -> Path:
        """Write one self-contained HTML file: distributions before and after, structure, what was removed and why.

        Raises:
            FileFormatError: ``path`` is a folder.
            MissingDependencyError: plotly is not installed (``pip install 'secateur[report]'``).
        """
        from secateur.report import write_report

        before = measured(self._dense, self.statistics)
        outcome = dataclasses.replace(self.outcome(example), before=before, statistics=self._statistics_now())
        report = PruningReport(
            model=str(getattr(self.model, "name", None) or type(self.model).__name__),
            framework=self.adapter.framework,
            backend=self.adapter.backend,
            recipe=recipe_words(self.recipe),
            stages={} if outcome.graph is None else self._stages(outcome.graph, outcome.plan),
            details=details(outcome),
            max_error=self.max_error,
            form=self.form,
        )
        return write_report(path, report)

    def save(self, folder: str | Path) -> None:
        """Write the masked model, its masks, recipe and removal plan to a folder; the adapter's ``load`` restores them.

        Raises:
            FileFormatError: the folder exists and holds something else.
            HoldError: since the masks were released, weights that they prune are not zero any more.
        """
        self.require_zeros(
            "weights and masks would contradict each other in one folder. Save the model as your framework saves it, "
            "or prune it again"
        )
        _, removal = self._structure(None)
        with storage.replaced_folder(Path(folder)) as fresh:
            self.adapter.write_model(self.model, fresh)
            self._write_progress(fresh)
            storage.write(
                fresh, self.adapter.framework, self.recipe, self._masks, None if removal is None else removal.to_dict()
            )

    def _write_progress(self, folder: Path) -> None:
        """Add where a training stands, if one goes on."""

    def outcome(self, example: Any | None) -> Outcome:
        """What :meth:`report` is drawn from, for those who draw their own; arguments as for :meth:`summary`."""
        self.enforce()
        graph, removal = self._structure(example)
        return Outcome(
            recipe=self.recipe,
            parameters=self.parameters(),
            masks=self._masks,
            thresholds=self.thresholds,
            statistics=self.statistics,
            graph=graph,
            coupling=None if graph is None else self._coupled(graph),
            plan=removal,
            notes=self._notes(),
        )

    def enforce(self, model: Any | None = None) -> None:
        """Write the zeros of the masks, unless they were released.

        For what passes no optimizer: a training loop that writes weights itself calls it after each step. Everything
        here that reads the model does so by itself.

        Args:
            model: another model of the same architecture, such as a running average that a loop of one's own keeps;
                this one if None.

        Raises:
            NoMatchError, ShapeMismatchError: ``model`` is another one. Nothing was changed.
        """
        if model is not None:
            self.adapter.apply(model, self._masks)
        elif self._hold is not None and self._revived():
            self.adapter.apply(self.model, self._masks)

    def require_zeros(self, advice: str) -> None:
        """Raises HoldError, which ends in the advice, if weights that the masks prune live again after a release."""
        self.enforce()
        if revived := self._revived():
            raise HoldError(f"{_places(revived)}, since the masks were released: {advice}")

    def _revived(self) -> dict[str, int]:
        """Parameter name -> how many weights that its mask prunes are not zero; without those that have none."""
        masked = [item for item in self.parameters() if item.name in self._masks]
        for item in masked:
            if item.view.shape != self._masks[item.name].shape:
                raise ShapeMismatchError(
                    f"{item.name} has the shape {item.view.shape}, its mask {self._masks[item.name].shape}: the model "
                    "was changed after it was pruned; prune it again"
                )
        counts = {item.name: int(np.count_nonzero((item.view != 0) > self._masks[item.name])) for item in masked}
        return {name: count for name, count in counts.items() if count}

    def _notes(self) -> tuple[str, ...]:
        """What a reader of the tables should know besides."""
        revived = self._revived() if self._hold is None else {}
        notes = [] if self._is_exact else [INEXACT]
        notes += [branching] if (branching := self._branching()) else []
        notes += left_dense(self.recipe, prunable(self.parameters()))
        notes += [] if self.timing is None else [_timing_words(self.timing)]
        return (*notes, f"{_places(revived)}, since the masks were released.") if revived else tuple(notes)

    def _branching(self) -> str:
        """In words, where the model branches on numbers, if structure may go and it does; else empty."""
        is_structured = part(self.recipe.granularity, Structured) is not None
        if self._graph is None or not is_structured or not self._graph.readings:
            return ""
        return BRANCHING.format(places=", ".join(self._graph.readings))

    def _traced(self, example: Any | None) -> Graph:
        if self._graph is None:
            self._graph = self.adapter.graph(self.model, self._example if example is None else example)
        return self._graph

    def _coupled(self, graph: Graph) -> Coupling:
        """The units that the recipe may remove."""
        if self._coupling is None:
            self._coupling = units(self.recipe, self.parameters(), graph)
        return self._coupling

    def _small_outputs(self, small: Any, example: Any | None, training: bool = False) -> list[Array]:
        try:
            return self.adapter.outputs(small, example, training)
        except ExampleError as error:
            raise VerificationError(f"the smaller model does not run and was thrown away. {BAKED} ({error})") from error

    def _structure(self, example: Any | None) -> tuple[Graph | None, Plan | None]:
        """Graph and removal plan, or neither where the structure cannot be known: tables then tell what they can."""
        try:
            return self._traced(example), self.plan(example)
        except (ExampleError, TraceError):
            if example is not None:
                raise
            return None, None

    def _statistics_now(self) -> Statistics:
        """The statistics of the model as it is now, where there is data to gather them from."""
        return {}

    def _stages(self, graph: Graph, removal: Plan | None) -> dict[str, StageMetrics]:
        nonzero = count_nonzero(self.parameters())
        dense, small = (None, None) if self.timing is None else (self.timing.dense, self.timing.small)
        stages = {"pruned": _stage(cost(graph), nonzero), "compact": _stage(cost(graph, removal), nonzero, small)}
        if self._dense_nonzero is None:
            return stages
        return {"dense": _stage(cost(graph), self._dense_nonzero, dense)} | stages

    def _hold_masks(self, masks: dict[str, BoolArray], optimizer: Any | None = None) -> None:
        if self._hold is None:
            self._hold = self.adapter.hold(self.model, masks, optimizer)
        else:
            self._hold.update(masks)
        self._masks = masks


def _places(revived: Mapping[str, int]) -> str:
    places = ", ".join(f"{count} of {name}" for name, count in revived.items())
    return f"weights that the masks prune are not zero any more ({places})"


def count_nonzero(parameters: Sequence[Parameter]) -> int:
    """Stored numbers that are not zero, running statistics aside."""
    stored = (item for item in parameters if item.role not in STATISTICS and not item.refusal)
    return sum(int(np.count_nonzero(item.view)) for item in stored)


def _stage(figures: Cost, nonzero: int, seconds: float | None = None) -> StageMetrics:
    return StageMetrics(
        parameters=figures.parameters,
        nonzero=nonzero,
        flops=figures.flops,
        bytes=figures.bytes,
        latency_ms=None if seconds is None else 1000.0 * seconds,
    )


def _timing_words(timing: Timing) -> str:
    dense, small = duration(1000.0 * timing.dense), duration(1000.0 * timing.small)
    return (
        f"A forward pass on the example took {dense} dense and {small} without what was pruned "
        f"({percent(timing.small / timing.dense)}), as measured when it was pruned."
    )
