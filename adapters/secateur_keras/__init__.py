"""Secateur for Keras 3: ``import secateur_keras as sk``, then ``sk.prune(model, recipe)``, on any Keras backend.

The names are the same in :mod:`secateur_torch`; what they do is defined once, in :mod:`secateur.pruner`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from secateur.errors import MissingDependencyError

try:
    import keras
except ImportError as error:
    raise MissingDependencyError("secateur_keras needs Keras 3 and a backend: pip install 'secateur[keras]'") from error

import numpy.typing as npt

from secateur import loading, pruner
from secateur import sensitivity as scanning
from secateur.adapter import Parameter
from secateur.pruned import Pruned
from secateur.recipe import Recipe, Sensitivity
from secateur.structure.graph import Graph
from secateur.tasks import Tasks
from secateur_keras.adapter import KerasAdapter
from secateur_keras.distillation import distiller
from secateur_keras.files import counterparts
from secateur_keras.masking import release
from secateur_keras.training import Pruner

__all__ = [
    "Pruned",
    "Pruner",
    "distiller",
    "graph",
    "load",
    "parameters",
    "prune",
    "release",
    "sensitivity",
    "statistics",
]

_ADAPTER = KerasAdapter()


def prune(
    model: keras.Model,
    recipe: Recipe,
    data: Any | None = None,
    loss: Any | None = None,
    example: Any | None = None,
    statistics: Mapping[str, Mapping[str, npt.NDArray[Any]]] | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
    tasks: Tasks | None = None,
) -> Pruned:
    """Prune a trained model at once, in place; its masks hold through whatever optimizer trains it from now on.

    They hold in every model that has these layers, made, compiled or trained before or after, with ``fit`` as in a loop
    of your own, until ``release()``: by Keras's optimizers on every backend, and by those of ``torch.optim`` on Keras's
    torch backend. Out of reach are:

    - optimizers that only compute, such as optax's on JAX: nothing tells when their updates are assigned. Let a Keras
      optimizer's ``stateless_apply`` make the step, or multiply the updates by ``pruned.masks``.
    - a step of your own that was compiled (``jax.jit``, ``tf.function``) before its optimizer got the masks: compile it
      again, on JAX with its state taken anew from ``optimizer.variables``, which the masks are part of. A warning says
      so where this happens.
    - copies: what ``copy.deepcopy``, ``keras.models.clone_model``, or ``model.save`` and ``load_model`` return is an
      ordinary model that trains freely. Keep ``pruned.save(folder)`` and call ``load(folder, copy)``, or prune the copy
      with the same recipe.
    - what you assign yourself, as by ``set_weights`` or ``load_weights``: it is masked again by the next step.

    Args:
        model: any built model; weights that the recipe prunes become exactly 0.0.
        recipe: what to prune and how much; ``Recipe(0.9)`` is 90 % of the weights by magnitude.
        data: for scores that need some: ``(x, y)`` arrays, a ``tf.data.Dataset``, any iterable of batches;
            for ``compensate=True``, and for scores that need no gradients, inputs without labels are enough.
        loss: for gradients: a Keras loss, its name, or a callable; None for the one that the model was compiled with.
        example: an input, needed only if the model does not know its own input shape.
        statistics: what :func:`statistics` returned, instead of ``data``.
        optimizer: the one that trains the model in a loop of your own. Masks hold without it; with it, it is checked.

        tasks: for a score of several tasks, ``MultiTask``: name -> :class:`secateur.Task`, with data, loss, and a
            measure that ``pruned.tasks`` then tells before and after.

    Raises:
        HoldError: ``optimizer`` was built for other variables. Nothing was changed.
    """
    return pruner.prune(
        _ADAPTER,
        model,
        recipe,
        optimizer=optimizer,
        data=data,
        loss=loss,
        example=example,
        statistics=statistics,
        tasks=tasks,
    )


def load(folder: str | Path, model: keras.Model | None = None, example: Any | None = None) -> Pruned:
    """Restore what ``pruned.save(folder)`` wrote.

    Args:
        folder: the saved folder.
        model: a model of the original architecture, which receives the weights, whatever numbers Keras gave its layers;
            None to rebuild it from the folder, which needs no code unless the model has layers of your own.
        example: an input for a later ``compact()``.
    """
    return loading.load(_ADAPTER, folder, model, example, counterparts)


def sensitivity(
    model: keras.Model,
    evaluate: Callable[[keras.Model], Any],
    recipe: Recipe,
    sparsities: Sequence[float] = scanning.SPARSITIES,
    data: Any | None = None,
    loss: Any | None = None,
    example: Any | None = None,
    cache: str | Path | None = None,
) -> Sensitivity:
    """Measure how the loss grows as each layer is pruned by itself, for ``Recipe(..., allocation=sensitivity)``.

    Args:
        model: a trained model; it is left as found.
        evaluate: model -> a number that grows as the model gets worse: a loss, or the share of wrong answers. On data
            that no test uses.
        recipe: which layers, by which score; target and schedule do not matter.
        sparsities: at which each layer is pruned: ascending, above 0 and below 1.
        data: for scores that need gradients, as for :func:`prune`.
        loss: for the same: a Keras loss; None for the one that the model was compiled with.
        example: as for :func:`prune`.
        cache: a JSON file that keeps the losses of each layer, for as long as weights, recipe, sparsities and the loss
            of the dense model are the same.
    """
    return scanning.sensitivity(
        _ADAPTER, model, evaluate, recipe, sparsities, data=data, loss=loss, example=example, cache=cache
    )


def parameters(model: keras.Model, example: Any | None = None) -> list[Parameter]:
    """The model's parameters in the canonical view, in the order of the forward pass."""
    return _ADAPTER.parameters(model, _ADAPTER.graph(model, example))


def statistics(
    model: keras.Model, data: Any, loss: Any | None, needs: Iterable[str], example: Any | None = None
) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Gather what scores need in one pass over the batches of ``data``: statistic -> parameter -> array.

    The names are those of :data:`secateur.statistics.STATISTICS`; ``example`` is an input, for what needs no data.
    """
    return _ADAPTER.statistics(model, data, loss, needs, example)


def graph(model: keras.Model, example: Any | None = None) -> Graph:
    """The traced structure of the model, as :func:`secateur.structure.coupling.couple` reads it."""
    return _ADAPTER.graph(model, example)
