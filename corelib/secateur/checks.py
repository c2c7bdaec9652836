"""What is checked of a user's arguments before anything is computed or changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.adapter import Adapter, Parameter
from secateur.arrays import Named, as_array
from secateur.batches import is_repeatable
from secateur.errors import (
    ExampleError,
    MissingDataError,
    NoMatchError,
    OutOfRangeError,
    RecipeError,
    ShapeMismatchError,
)
from secateur.recipe import Latency, MultiTask, Recipe
from secateur.recipe.granularity import COMPENSATION
from secateur.scalars import answer
from secateur.scoring import Statistics
from secateur.statistics import ACTIVATIONS, STATISTICS, gatherable
from secateur.tasks import Tasks, require_tasks

Array = npt.NDArray[Any]


def require_recipe(recipe: object) -> None:
    """Raises RecipeError if it is something else, such as a bare number."""
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"the recipe is {recipe!r}, a {type(recipe).__name__}: give a Recipe, such as Recipe(0.9)")


def require_callable(what: str, function: object) -> None:
    """Raises RecipeError if something is given that cannot be called, before a training that would end by it."""
    if function is not None and not callable(function):
        raise RecipeError(f"{what} is {function!r}, a {type(function).__name__}: give a function that takes the pruner")


def require_rows(example: Any) -> None:
    """Raises ExampleError if no array of an example has a row: nothing could be traced or verified on it."""
    shapes = [tuple(part.shape) for part in _parts(example) if hasattr(part, "shape")]
    if shapes and all(shape[:1] == (0,) for shape in shapes):
        raise ExampleError(
            f"the example has no row (shape {', '.join(map(str, shapes))}): give an input of at least one"
        )


def require_example(recipe: Recipe, example: Any | None) -> None:
    """Raises ExampleError if a pass is to be timed and nothing is known to run it on."""
    if isinstance(recipe.target, Latency) and example is None:
        raise ExampleError(
            f"{recipe.target} is measured on an input: pass example=, a batch of the size that the model will run on"
        )


def require_numbers(parameters: Sequence[Parameter]) -> None:
    """Raises InvalidTensorError if any weight, bias, normalisation parameter or running statistic holds NaN.

    Infinite weights pass: they have a place in the order, the last one to be pruned.
    """
    kernels.refuse_nan([Named(parameter.name, parameter.view) for parameter in parameters])


def require_data(
    recipe: Recipe,
    data: Any | None,
    statistics: Statistics | None,
    keeps_gradients: bool = False,
    tasks: Tasks | None = None,
) -> None:
    """Raises MissingDataError if what the recipe is computed from can come from neither, nor from tasks.

    ``keeps_gradients``: whether a training step leaves its gradients, which then do for weights that come back.
    """
    known = None if statistics is None else [statistic for statistic, _ in _items(statistics, "statistics")]
    score, growth = recipe.score, recipe.regrowth
    if "initial_weight" in score.needs and "initial_weight" not in (known or ()) and recipe.schedule.due(0):
        raise MissingDataError(
            f"{type(score).__name__} compares with the weights of the beginning, which are those of now before the "
            "first step: give statistics={'initial_weight': ...}, or a schedule that begins later"
        )
    moves = recipe.follows_training and keeps_gradients and data is None and statistics is None
    if moves and "movement" in score.needs and recipe.schedule.due(0):
        raise MissingDataError(
            f"{type(score).__name__} adds up what training steps move, of which there is none before the first: begin "
            "the schedule later, or pass data= and loss="
        )
    _require_tasks(recipe, {} if tasks is None else tasks)
    if not isinstance(score, MultiTask):
        needs = [need for need in score.needs if need != "movement" or not moves]
        _require_needs(recipe, type(score).__name__, needs, data, known)
    if growth is not None and (data is not None or statistics is not None or not keeps_gradients):
        _require_needs(recipe, type(growth).__name__, growth.needs, data, known)
    if recipe.compensates:
        _require_needs(recipe, f"{type(recipe.granularity).__name__}(compensate=True)", (COMPENSATION,), data, known)


def _require_tasks(recipe: Recipe, tasks: Tasks) -> None:
    require_tasks(recipe, tasks)
    for name, task in tasks.items() if isinstance(recipe.score, MultiTask) else ():
        known = None if task.statistics is None else [each for each, _ in _items(task.statistics, "statistics")]
        told = f"task {name!r}: {type(recipe.score.single).__name__}"
        _require_needs(recipe, told, recipe.score.needs, task.data, known)


def _require_needs(
    recipe: Recipe, name: str, needs: Sequence[str], data: Any | None, known: Sequence[str] | None
) -> None:
    free = [name for name, each in STATISTICS.items() if each.origin == "flow"]
    missing = [need for need in gatherable(needs, known or ()) if need not in free]
    if not missing:
        return
    if known is not None and data is None:
        raise MissingDataError(f"statistics lack {', '.join(missing)}, which {name} needs")
    if data is None and set(missing) <= set(ACTIVATIONS):
        raise MissingDataError(f"{name} is computed from what layers read: pass data=, inputs with or without labels")
    if data is None:
        raise MissingDataError(f"{name} is computed from gradients: pass data=(x, y) or a data loader, and loss=")
    if (recipe.follows_training or recipe.score.iterations > 1) and not is_repeatable(data):
        raise MissingDataError(
            f"{name} with {recipe.regrowth or recipe.schedule} reads data at every update, but a generator can be read "
            "once; pass arrays or a data loader"
        )


def given_statistics(adapter: Adapter, model: Any, parameters: Sequence[Parameter], given: Any) -> Statistics:
    """Statistics that a user gave, as NumPy arrays of the shapes of the parameters' canonical views.

    Those of activations may have size 1 along any axis, as :data:`secateur.statistics.ACTIVATIONS` tells.

    Signs are free: a mean of magnitudes may be given with the signs of the mean.

    Raises:
        MissingDataError: not statistic name -> parameter name -> array.
        NoMatchError: a parameter that the model does not have.
        UnsupportedDtypeError: an array of integers, complex numbers or another type without an order.
        ShapeMismatchError: an array of another shape, such as that of the framework's own layout.
        InvalidTensorError: an array holds NaN.
    """
    known = {parameter.name: parameter for parameter in parameters}
    checked: dict[str, dict[str, Array]] = {}
    for statistic, by_name in _items(given, "statistics"):
        checked[statistic] = {}
        for name, value in _items(by_name, f"statistics[{statistic!r}]"):
            if name not in known:
                raise NoMatchError(
                    f"statistics[{statistic!r}] has {name}, but the model's weights are {', '.join(known)}"
                )
            label = f"statistics[{statistic!r}] of {name}"
            array = as_array(value, label)
            if not _fits(statistic, tuple(array.shape), known[name].view.shape):
                _require_shape(adapter, model, known[name], label, tuple(array.shape))
            kernels.refuse_nan([Named(label, array)])
            checked[statistic][name] = kernels.of(array).to_host(array)
    return checked


def loss_of(evaluate: Callable[[Any], Any], model: Any, what: str) -> float:
    """What a user's function says of a model.

    Raises:
        MissingDataError: it cannot be called, or gives no number.
        OutOfRangeError: the number is not finite.
    """
    found = answer("evaluate", evaluate, model, f" for {what}")
    if not math.isfinite(found):
        raise OutOfRangeError(f"evaluate gives {found} for {what}: bound the loss, or leave out what it comes from")
    return found


def _parts(example: Any) -> Iterator[Any]:
    """The arrays in nested tuples, lists and mappings."""
    if isinstance(example, Mapping):
        example = list(example.values())
    if isinstance(example, (tuple, list)):
        for item in example:
            yield from _parts(item)
    else:
        yield example


def _items(mapping: Any, what: str) -> Sequence[tuple[str, Any]]:
    if not isinstance(mapping, Mapping):
        raise MissingDataError(
            f"{what} is a {type(mapping).__name__}: give statistic name -> parameter name -> array, as the adapter's "
            "statistics() returns it"
        )
    return list(mapping.items())


def _row_lengths(shape: tuple[int, ...]) -> list[int]:
    return [math.prod(shape[axis:]) for axis in range(1, len(shape))]


def _fits(statistic: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether it has the form that :data:`secateur.statistics.STATISTICS` tells, other than the weight's own."""
    if statistic == "input_gram":
        grouped = len(shape) == 3 and shape[0] > 0 and expected[0] % shape[0] == 0
        return (len(shape) == 2 or grouped) and shape[-2] == shape[-1] and shape[-1] in _row_lengths(expected)
    if statistic not in ACTIVATIONS:
        return False
    fits = (size in (1, whole) for size, whole in zip(shape, expected, strict=False))
    return len(shape) == len(expected) and all(fits)


def _require_shape(adapter: Adapter, model: Any, parameter: Parameter, label: str, shape: tuple[int, ...]) -> None:
    expected = parameter.view.shape
    if shape == expected:
        return
    own = adapter.native(model, {parameter.name: np.ones(expected, np.bool_)})[parameter.name].shape
    advice = f"; {own} is the framework's own layout: transpose it" if shape == own else ""
    raise ShapeMismatchError(
        f"{label} has shape {shape}, expected {expected}, the canonical layout ({', '.join(parameter.axes)}){advice}"
    )
