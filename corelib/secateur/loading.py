"""What a saved folder gives back: a model under masks that hold, or the place where a training stood."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import progress, storage
from secateur.adapter import Adapter, Parameter
from secateur.errors import FileFormatError
from secateur.progress import Progress
from secateur.pruned import Pruned
from secateur.recipe import Recipe

BoolArray = npt.NDArray[np.bool_]
Counterparts = Callable[[Path, Any], Mapping[str, str]]


def load(
    adapter: Adapter,
    folder: str | Path,
    model: Any | None = None,
    example: Any | None = None,
    counterparts: Counterparts | None = None,
) -> Pruned:
    """Restore what :meth:`Pruned.save` wrote, and hold its masks.

    Args:
        adapter: the framework's adapter.
        folder: the saved folder.
        model: a model of the original architecture, whose weights are replaced; None if the folder holds all of it.
        example: an input for a later :meth:`Pruned.compact`.
        counterparts: tells from folder and model which names of weights and layers in the folder are others in the
            model; for frameworks that make up names.

    Raises:
        FileFormatError: the folder is damaged, foreign, or of another model; nothing was changed.
    """
    folder = Path(folder)
    recipe, masks = storage.read(folder, adapter.framework)
    target = adapter.read_model(folder, None) if model is None else model
    if counterparts is not None:
        recipe, masks = _renamed(recipe, masks, counterparts(folder, target))
    _check_masks(folder, masks, adapter.parameters(target))
    filled = target if model is None else adapter.read_model(folder, model)
    restored = Pruned(adapter, filled, recipe, example, None)
    restored._hold_masks(masks)
    return restored


def _renamed(
    recipe: Recipe, masks: Mapping[str, BoolArray], names: Mapping[str, str]
) -> tuple[Recipe, dict[str, BoolArray]]:
    """With the names of the model at hand, patterns that are a whole name included."""
    include, exclude = ([names.get(each, each) for each in patterns] for patterns in (recipe.include, recipe.exclude))
    renamed = {names.get(name, name): mask for name, mask in masks.items()}
    return (dataclasses.replace(recipe, include=include, exclude=exclude) if names else recipe), renamed


def _check_masks(folder: Path, masks: Mapping[str, BoolArray], parameters: Sequence[Parameter]) -> None:
    shapes = {parameter.name: parameter.view.shape for parameter in parameters}
    for name, mask in masks.items():
        if shapes.get(name) != mask.shape:
            raise FileFormatError(f"{folder} has a mask of shape {mask.shape} for {name}, the model {shapes.get(name)}")


def interrupted(
    adapter: Adapter, folder: Path, model: Any, recipe: Recipe, counterparts: Counterparts | None
) -> tuple[dict[str, BoolArray], Progress]:
    """Masks and progress of a saved training; its weights are still to be read.

    Raises:
        FileFormatError: the folder is damaged, foreign, of no training, of another model or under another recipe;
            nothing was changed.
    """
    saved, masks = storage.read(folder, adapter.framework)
    state = progress.read(folder)
    names = {} if counterparts is None else counterparts(folder, model)
    saved, masks = _renamed(saved, masks, names)
    if saved != recipe:
        raise FileFormatError(f"{folder} was saved under another recipe, {saved}: resume with that one")
    _check_masks(folder, masks, adapter.parameters(model))
    return masks, state.renamed(names)
