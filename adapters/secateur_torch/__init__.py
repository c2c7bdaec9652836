"""Secateur for PyTorch: ``import secateur_torch as st``, then ``st.prune(model, recipe)``.

The names are the same in :mod:`secateur_keras`; what they do is defined once, in :mod:`secateur.pruner`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from secateur.errors import MissingDependencyError

try:
    import torch
except ImportError as error:
    raise MissingDependencyError("secateur_torch needs PyTorch: pip install 'secateur[torch]'") from error

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
from secateur_torch.adapter import TorchAdapter
from secateur_torch.distillation import Distillation
from secateur_torch.masking import release
from secateur_torch.randomness import seeded
from secateur_torch.training import Pruner

__all__ = [
    "Distillation",
    "Pruned",
    "Pruner",
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

_ADAPTER = TorchAdapter()


def prune(
    model: torch.nn.Module,
    recipe: Recipe,
    data: Any | None = None,
    loss: Any | None = None,
    example: Any | None = None,
    statistics: Mapping[str, Mapping[str, npt.NDArray[Any]]] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    tasks: Tasks | None = None,
) -> Pruned:
    """Prune a trained model at once, in place; its masks hold through whatever optimizer trains it from now on.

    Args:
        model: any module; weights that the recipe prunes become exactly 0.0.
        recipe: what to prune and how much; ``Recipe(0.9)`` is 90 % of the weights by magnitude.
        data: for scores that need some: ``(x, y)`` arrays or tensors, or an iterable of ``(inputs, labels)``;
            for ``compensate=True``, and for scores that need no gradients, inputs without labels are enough.
        loss: for gradients: a callable ``loss(outputs, labels)``, such as ``torch.nn.CrossEntropyLoss()``.
        example: an input (a tensor, a tuple of positional or a dict of keyword arguments), needed to prune neurons
            and to compact; the first batch of ``data`` if None.
        statistics: what :func:`statistics` returned, instead of ``data``.
        optimizer: the one that trains the model. Masks hold without it; given here, it is checked, and step hooks that
            are added to it later see exact zeros.
        tasks: for a score of several tasks, ``MultiTask``: name -> :class:`secateur.Task`, with data, loss, and a
            measure that ``pruned.tasks`` then tells before and after.

    Raises:
        ModelTypeError: ``model`` is no module.
        HoldError: ``optimizer`` owns none of the masked weights. Nothing was changed.

    Example:
        >>> import torch, secateur_torch as st
        >>> from secateur import Neurons, Recipe
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        >>> pruned = st.prune(model, Recipe(0.5, granularity=Neurons()), example=torch.zeros(1, 8))
        >>> pruned.compact()[0].out_features
        8
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
    pruned: Pruned,
    others: Any,
    weights: Sequence[float] | None = None,
    evaluate: Callable[[torch.nn.Module], Any] | None = None,
) -> Fusion:
    """Make the pruned model the weighted mean of itself and others, under its masks: with the dense one, or a soup.

    The mean of models that were trained apart, but from the same weights under the same masks, is often better than
    each of them, and costs no more than one (Wortsman et al. 2022). What is averaged:
    :func:`secateur.fusion.fuse`.

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
    return fusion.fuse(_ADAPTER, pruned, others, weights, evaluate)


def load(folder: str | Path, model: torch.nn.Module | None = None, example: Any | None = None) -> Pruned:
    """Restore what ``pruned.save(folder)`` wrote.

    Args:
        folder: the saved folder.
        model: an instance of the original architecture, which receives the weights; None if the saved model is built of
            ``torch.nn`` layers in ``Sequential`` containers, which the folder describes by itself.
        example: an input for a later ``compact()``.
    """
    return loading.load(_ADAPTER, folder, model, example)


def sensitivity(
    model: torch.nn.Module,
    evaluate: Callable[[torch.nn.Module], Any],
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
        loss: for the same: a callable ``loss(outputs, labels)``.
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

    PyTorch, NumPy and Python are seeded for each run, and afterwards are as they were.

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
    return repeating.repeat(train, recipe, seeds, subsets, seeding=seeded)


def parameters(model: torch.nn.Module, example: Any | None = None) -> list[Parameter]:
    """The model's parameters in the canonical view; in the order of the forward pass if an example is given."""
    return _ADAPTER.parameters(model, None if example is None else _ADAPTER.graph(model, example))


def statistics(
    model: torch.nn.Module, data: Any, loss: Any | None, needs: Iterable[str], example: Any | None = None
) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Gather what scores need in one pass over the batches of ``data``: statistic -> parameter -> array.

    The names are those of :data:`secateur.statistics.STATISTICS`; ``example`` is an input, for what needs no data.
    """
    return _ADAPTER.statistics(model, data, loss, needs, example)


def graph(model: torch.nn.Module, example: Any) -> Graph:
    """The traced structure of the model, as :func:`secateur.structure.coupling.couple` reads it."""
    return _ADAPTER.graph(model, example)
