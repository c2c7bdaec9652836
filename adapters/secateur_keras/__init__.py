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

from secateur import fusion, loading, pruner, repeating
from secateur import sensitivity as scanning
from secateur.adapter import Parameter
from secateur.fusion import Fusion
from secateur.pruned import Pruned
from secateur.recipe import Recipe, Sensitivity
from secateur.stability import Stability
from secateur.structure.graph import Graph
from secateur.tasks import Tasks
from secateur_keras.adapter import KerasAdapter
from secateur_keras.distillation import distiller
from secateur_keras.files import counterparts
from secateur_keras.masking import release
from secateur_keras.naming import Counterparts
from secateur_keras.randomness import seeded
from secateur_keras.training import Pruner

__all__ = [
    "Pruned",
    "Pruner",
    "distiller",
    "fuse",
    "graph",
    "load",
    "parameters",
    "prune",
    "release",
    "sensitivity",
    "stability",
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


def fuse(
    pruned: Pruned | Pruner,
    others: Any,
    weights: Sequence[float] | None = None,
    evaluate: Callable[[keras.Model], Any] | None = None,
) -> Fusion:
    """Make the pruned model the weighted mean of itself and others, under its masks: with the dense one, or a soup.

    The mean of models that were trained apart, but from the same weights under the same masks, is often better than
    each of them, and costs no more than one (Wortsman et al. 2022). What is averaged:
    :func:`secateur.fusion.fuse`. Layers that Keras numbered otherwise are found by their order.

    Args:
        pruned: what :func:`prune` returned, or a :class:`Pruner`, also in the middle of a training; it is changed.
        others: a model, such as the dense original, what pruning another one returned, or several of these in a list.
        weights: the share of the pruned model, then one of each other: not negative, together 1. None for equal ones.
        evaluate: model -> a number that grows as the model gets worse, on data that no test uses: for a greedy soup,
            which takes in one model after the other as long as the mean gets no worse.

    Raises:
        MaskMismatchError: another pruned model has other masks; tells where, and in how many weights. Nothing was
            changed, as with every error.
    """
    bare = [_session(other) for other in others] if isinstance(others, Sequence) else _session(others)
    return fusion.fuse(_ADAPTER, _session(pruned), bare, weights, evaluate, counterparts=Counterparts())


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


def stability(
    train: Callable[[Recipe, int, Any], tuple[Any, Any]],
    recipe: Recipe,
    seeds: Sequence[int] = repeating.SEEDS,
    subsets: Sequence[Any] | None = None,
) -> Stability:
    """Carry out a recipe with several seeds and on several subsets of the data: does it find the same weights again?

    Keras, its backend, NumPy and Python are seeded
    for each run (``keras.utils.set_random_seed``), and afterwards are as they were, but for TensorFlow's own seed.

    Args:
        train: ``train(recipe, seed, rows)`` builds a new model, trains and prunes it, and returns what :func:`prune`
            returned, or the :class:`Pruner`, and a score, such as an accuracy. ``rows`` are the rows of the data that
            this run may use; None without ``subsets``.
        recipe: what to prune.
        seeds: one run each, on each subset.
        subsets: rows of the data, for example ``secateur.stability.draw(len(data), count=3, share=0.8)``.

    Returns:
        A table when it is printed: for each layer how far masks overlap (Jaccard index of kept weights), against what
        chance would give; and the spread of the scores. ``secateur.report.stability_figure`` draws it.
    """

    def bare(*told: Any) -> Any:
        result = train(*told)
        return tuple(map(_session, result)) if isinstance(result, tuple) else result

    return repeating.repeat(bare, recipe, seeds, subsets, seeding=seeded, counterparts=Counterparts())


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


def _session(item: Any) -> Any:
    """What is behind a callback; anything else as it is."""
    return item.pruned if isinstance(item, Pruner) else item
