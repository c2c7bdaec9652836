"""The loop that every adapter runs: statistics -> scores -> allocation -> masks -> hold | compact -> verify.

:func:`prune` does it once; a :class:`Pruner` does it again at each due step of the recipe's schedule. Nothing is written
to the model before every check has passed and every mask is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import storage
from secateur.adapter import Adapter, Hold, Parameter
from secateur.batches import first_inputs, is_repeatable
from secateur.ranking import Statistics, prunable, ranking
from secateur.errors import ExampleError, FileFormatError, MissingDataError, RecipeError, TraceError, VerificationError
from secateur.recipe import Neurons, Recipe
from secateur.recipe.allocation import allocate, budgets
from secateur.schedules import OneShot
from secateur.structure.coupling import couple
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan, plan, removable

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

# The largest difference between outputs that counts as rounding, relative to the largest output.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}


class Pruned:
    """A model under masks that hold: what :func:`prune` and :func:`load` return, and the base of :class:`Pruner`.

    Attributes:
        model: the user's own model; masked weights are exactly 0.0 and stay so through training.
        recipe: what was asked for.
        max_error: after :meth:`compact`, the largest difference between the outputs of the masked and of the smaller
            model, relative to the largest output; None before.
    """

    def __init__(self, adapter: Adapter, model: Any, recipe: Recipe, example: Any | None, graph: Graph | None) -> None:
        self.adapter = adapter
        self.model = model
        self.recipe = recipe
        self.max_error: float | None = None
        self._example = example
        self._graph = graph
        self._masks: dict[str, BoolArray] = {}
        self._hold: Hold | None = None

    @property
    def masks(self) -> dict[str, BoolArray]:
        """Parameter name -> mask in the parameter's own layout; True = kept. Copies: changing them changes nothing."""
        return self.adapter.native(self.model, self._masks)

    @property
    def sparsity(self) -> float:
        """The fraction of all kernel weights of the model that the masks prune."""
        kernels = prunable(self.parameters())
        pruned = sum(_pruned(self._masks[kernel.name]) for kernel in kernels if kernel.name in self._masks)
        return pruned / max(1, sum(kernel.view.size for kernel in kernels))

    def parameters(self) -> list[Parameter]:
        """The model's parameters as the core sees them, in the order of the forward pass where that is known."""
        return self.adapter.parameters(self.model, self._graph)

    def release(self) -> None:
        """Stop holding the masks; weights keep their values and train freely from now on."""
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def plan(self, example: Any | None = None) -> Plan:
        """Which indices of which parameters :meth:`compact` keeps."""
        graph = self._traced(example)
        coupling = couple(graph)
        return plan(graph, coupling, removable(graph, coupling, self._masks))

    def compact(self, example: Any | None = None) -> Any:
        """The smaller, ordinary model without the units that the masks mark wholly; ``model`` itself is not touched.

        Args:
            example: an input on which the smaller model is verified; the one that ``prune`` had if None.

        Raises:
            ExampleError: no example is known and the framework needs one.
            VerificationError: the smaller model gave other outputs; it is thrown away.
        """
        example = self._example if example is None else example
        removal = self.plan(example)
        expected = self.adapter.outputs(self.model, example)
        small = self.adapter.compact(self.model, self._traced(example), removal)
        self.max_error = _verify(expected, self.adapter.outputs(small, example))
        return small

    def save(self, folder: str | Path) -> None:
        """Write the masked model, its masks, recipe and removal plan to a folder; :func:`load` restores them.

        Raises:
            FileFormatError: the folder exists and holds something else.
        """
        removal = self.plan().to_dict() if self._graph is not None else None
        with storage.replaced_folder(Path(folder)) as fresh:
            self.adapter.write_model(self.model, fresh)
            storage.write(fresh, self.adapter.framework, self.recipe, self._masks, removal)

    def _traced(self, example: Any | None) -> Graph:
        if self._graph is None:
            self._graph = self.adapter.graph(self.model, self._example if example is None else example)
        return self._graph

    def _hold_masks(self, masks: dict[str, BoolArray], optimizer: Any | None = None) -> None:
        if self._hold is None:
            self._hold = self.adapter.hold(self.model, masks, optimizer)
        else:
            self._hold.update(masks)
        self._masks = masks


class Pruner(Pruned):
    """Prunes step by step while training goes on; the adapter's own loop calls :meth:`advance` after each step.

    Attributes:
        step: optimizer steps seen since the pruner was made.
        thresholds: for each competition of the last update (``"model"``, or a layer's name) the largest pruned score.
        statistics: statistic -> parameter name -> array in canonical layout, as of the last update.

    Args:
        adapter: the framework's adapter.
        model: the model that trains.
        recipe: what to prune, and when.
        optimizer: the optimizer whose steps must not revive a weight; None for whichever trains the model.
        data: labelled data for scores that need gradients: arrays ``(x, y)`` or an iterable of batches.
        loss: the loss for them, as the framework takes it.
        example: an input for tracing and verification; the first batch of ``data`` if None.
        statistics: statistics that are known already, instead of ``data``.
    """

    def __init__(
        self,
        adapter: Adapter,
        model: Any,
        recipe: Recipe,
        *,
        optimizer: Any | None = None,
        data: Any | None = None,
        loss: Any | None = None,
        example: Any | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        parameters = adapter.parameters(model)
        recipe.select(prunable(parameters))
        _check_data(recipe, data, statistics)
        example = first_inputs(data) if example is None and data is not None else example
        graph = _trace(adapter, model, recipe, example)
        super().__init__(adapter, model, recipe, example, graph)
        self.step = 0
        self.thresholds: dict[str, float] = {}
        self.statistics: Statistics = statistics or {}
        self._data, self._loss, self._given = data, loss, statistics
        self._ranking = ranking(recipe, self.parameters(), graph)
        self._kept: dict[str, BoolArray] | None = None
        self._budgets: Sequence[int] | None = None
        self._begin(optimizer)

    @property
    def finished(self) -> bool:
        """Whether the schedule has reached its final sparsity."""
        return self._budgets is not None and self.recipe.schedule.fraction(self.step) == 1.0

    def advance(self, steps: int = 1) -> None:
        """Count optimizer steps, and prune further at each that the schedule has due."""
        for _ in range(steps):
            self.step += 1
            if self.recipe.schedule.due(self.step):
                self._update()

    def _begin(self, optimizer: Any | None) -> None:
        """Prune at step 0 if that is due; else rehearse, so that a recipe that cannot work fails before training."""
        if self.recipe.schedule.due(0):
            self._update(optimizer)
            return
        scores = self._scores()
        final = allocate(scores, budgets(scores, self.recipe.target, self.recipe.scope), self.recipe.scope)
        masks = self._ranking.masks(final)
        self._hold_masks({name: np.ones_like(mask) for name, mask in masks.items()}, optimizer)

    def _update(self, optimizer: Any | None = None) -> None:
        scores = self._scores()
        if self._budgets is None:
            self._budgets = budgets(scores, self.recipe.target, self.recipe.scope)
        fraction = self.recipe.schedule.fraction(self.step)
        counts = [math.floor(fraction * budget + 0.5) for budget in self._budgets]
        kept = allocate(scores, counts, self.recipe.scope, self._kept)
        self._hold_masks(self._ranking.masks(kept), optimizer)
        self._kept = kept
        self.thresholds = _thresholds(scores, kept, self.recipe.scope)

    def _scores(self) -> dict[str, Array]:
        needs = self.recipe.score.needs
        if needs and self._given is None:
            self.statistics = self.adapter.statistics(self.model, self._data, self._loss, needs)
        return self._ranking.scores(self.parameters(), self.recipe.score, self.statistics)


def prune(
    adapter: Adapter,
    model: Any,
    recipe: Recipe,
    *,
    data: Any | None = None,
    loss: Any | None = None,
    example: Any | None = None,
    statistics: Statistics | None = None,
) -> Pruned:
    """Prune at once, and hold the masks from now on; arguments as for :class:`Pruner`.

    Raises:
        RecipeError: the recipe has a schedule over training steps, which a single call cannot follow.
    """
    if not isinstance(recipe.schedule, OneShot):
        raise RecipeError(
            f"{type(recipe.schedule).__name__} prunes over training steps, which prune() does not see; use a Pruner, or "
            "leave the schedule out"
        )
    return Pruner(adapter, model, recipe, data=data, loss=loss, example=example, statistics=statistics)


def load(adapter: Adapter, folder: str | Path, model: Any | None = None, example: Any | None = None) -> Pruned:
    """Restore what :meth:`Pruned.save` wrote, and hold its masks.

    Args:
        adapter: the framework's adapter.
        folder: the saved folder.
        model: a model of the original architecture, whose weights are replaced; None if the folder holds all of it.
        example: an input for a later :meth:`Pruned.compact`.

    Raises:
        FileFormatError: the folder is damaged, foreign, or of another model; nothing was changed.
    """
    folder = Path(folder)
    recipe, masks = storage.read(folder, adapter.framework)
    restored = Pruned(adapter, adapter.read_model(folder, model), recipe, example, None)
    shapes = {parameter.name: parameter.view.shape for parameter in restored.parameters()}
    for name, mask in masks.items():
        if shapes.get(name) != mask.shape:
            raise FileFormatError(f"{folder} has a mask of shape {mask.shape} for {name}, the model {shapes.get(name)}")
    restored._hold_masks(masks)
    return restored


def _check_data(recipe: Recipe, data: Any | None, statistics: Statistics | None) -> None:
    needs = recipe.score.needs
    if not needs or statistics is not None:
        missing = [need for need in needs if need not in (statistics or {})]
        if missing:
            raise MissingDataError(f"statistics lack {', '.join(missing)}, which {type(recipe.score).__name__} needs")
        return
    name = type(recipe.score).__name__
    if data is None:
        raise MissingDataError(f"{name} is computed from gradients: pass data=(x, y) or a data loader, and loss=")
    if not isinstance(recipe.schedule, OneShot) and not is_repeatable(data):
        raise MissingDataError(
            f"{name} with {type(recipe.schedule).__name__} reads data at every update, but a generator can be read once; "
            "pass arrays or a data loader"
        )


def _trace(adapter: Adapter, model: Any, recipe: Recipe, example: Any | None) -> Graph | None:
    """The structure: required for neurons; for weights only to rank ties in the order of the forward pass."""
    if isinstance(recipe.granularity, Neurons):
        return adapter.graph(model, example)
    try:
        return adapter.graph(model, example)
    except TraceError:
        return None
    except ExampleError:
        if example is None:
            return None
        raise


def _thresholds(scores: dict[str, Array], kept: dict[str, BoolArray], scope: str) -> dict[str, float]:
    largest = {
        layer: float(np.max(score, where=~kept[layer], initial=-math.inf)) for layer, score in scores.items()
    }
    return {"model": max(largest.values())} if scope == "model" else largest


def _pruned(mask: BoolArray) -> int:
    return mask.size - int(np.count_nonzero(mask))


def _verify(expected: Sequence[Array], actual: Sequence[Array]) -> float:
    if [output.shape for output in expected] != [output.shape for output in actual]:
        raise VerificationError("the smaller model's outputs have other shapes than the masked one's; it was thrown away")
    error = max((_relative_error(*pair) for pair in zip(expected, actual, strict=True)), default=0.0)
    tolerance = max((TOLERANCES.get(output.dtype.name, 0.0) for output in expected), default=0.0)
    if not error <= tolerance:
        raise VerificationError(
            f"the smaller model's outputs differ from the masked model's by {error:.2g} of the largest output (rounding "
            f"explains {tolerance:.0e}); it was thrown away. Were masked weights changed after release()?"
        )
    return error


def _relative_error(expected: Array, actual: Array) -> float:
    if not expected.size:
        return 0.0
    difference = np.abs(expected.astype(np.float64) - actual.astype(np.float64)).max()
    largest = np.abs(expected.astype(np.float64)).max()
    return float(difference / largest) if largest > 0 else float(difference)
