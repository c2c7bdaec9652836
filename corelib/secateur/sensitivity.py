"""How much each layer can bear: the model's loss with one layer pruned at a time, at several sparsities."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import masks
from secateur.adapter import Adapter, Parameter
from secateur.batches import first_inputs
from secateur.checks import loss_of, require_data, require_numbers, require_recipe
from secateur.errors import FileFormatError, OutOfRangeError, RecipeError
from secateur.evidence import Evidence
from secateur.pruner import trace
from secateur.ranking import ranking
from secateur.recipe import NofM, Recipe, Scales, Sensitivity
from secateur.recipe.sharing import require_ascending
from secateur.scalars import portion, reals

Array = npt.NDArray[Any]
Evaluate = Callable[[Any], float]
SPARSITIES = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98)


def sensitivity(
    adapter: Adapter,
    model: Any,
    evaluate: Evaluate,
    recipe: Recipe,
    sparsities: Sequence[float] = SPARSITIES,
    *,
    data: Any | None = None,
    loss: Any | None = None,
    example: Any | None = None,
    cache: str | Path | None = None,
) -> Sensitivity:
    """Scan the layers that a recipe prunes; the model is left as found.

    Args:
        adapter: the framework's adapter.
        model: a trained model.
        evaluate: model -> a number that grows as the model gets worse: a loss, or the share of wrong answers. On data
            that no test uses.
        recipe: which layers, by which score, in which granularity; target and schedule do not matter.
        sparsities: at which each layer is pruned: ascending, above 0 and below 1.
        data: as for pruning, for scores that need data.
        loss: as for pruning.
        example: as for pruning; the first batch of ``data`` if None.
        cache: a file (JSON) that keeps each layer's losses as soon as they are known. They are taken from it as long as
            weights, recipe, sparsities and the loss of the dense model are the same.

    Raises:
        MissingDataError: ``evaluate`` cannot be called or gives no number, or the score's data are missing.
        RecipeError: sparsities are no sequence of numbers.
        OutOfRangeError: sparsities are not ascending between 0 and 1, or a loss is not finite.
        FileFormatError: ``cache`` is a file of another kind, or in no folder that there is.
    """
    require_recipe(recipe)
    if isinstance(recipe.granularity, NofM | Scales):
        raise RecipeError(
            f"a scan prunes each layer by itself to several sparsities, which {recipe.granularity} does not have: scan "
            "with granularity=Weights() or Neurons()"
        )
    require_data(recipe, data, None)
    sparsities = reals("sparsities", sparsities)
    require_ascending(sparsities)
    if sparsities[-1] >= 1.0:
        raise OutOfRangeError(f"sparsities {tuple(sparsities)}: a layer without any weight tells nothing; stay below 1")
    _require_folder(cache)
    if example is None and data is not None:
        with adapter.reading(data):
            example = first_inputs(data)
    graph = trace(adapter, model, recipe, example)
    parameters = adapter.parameters(model, graph)
    require_numbers(parameters)
    evidence = Evidence(adapter, model, recipe, parameters, data, loss, example, {}, {})
    ranked = ranking(recipe, parameters, graph)
    scores = ranked.scores(parameters, recipe.score, evidence.of_now(parameters))
    dense = loss_of(evaluate, model, "the dense model")
    known = _Cache(cache, _digest(parameters, recipe, sparsities, dense), len(sparsities))
    for layer in scores:
        if layer not in known.rows:
            own = [ranked.masks(_kept(scores, layer, sparsity)) for sparsity in sparsities]
            known.add(layer, [_masked_loss(adapter, model, evaluate, each, layer) for each in own])
    return Sensitivity(tuple(scores), sparsities, [known.rows[layer] for layer in scores], dense)


def _kept(scores: Mapping[str, Array], layer: str, sparsity: float) -> dict[str, npt.NDArray[np.bool_]]:
    """All elements of every layer but one, of which the largest stay, one at least."""
    found = {name: np.ones(score.shape, np.bool_) for name, score in scores.items()}
    size = scores[layer].size
    found[layer] = masks.keep_largest(scores[layer], max(1, size - portion(sparsity, size)))
    return found


def _masked_loss(
    adapter: Adapter, model: Any, evaluate: Evaluate, masked: Mapping[str, npt.NDArray[np.bool_]], layer: str
) -> float:
    """The loss under masks; the weights then have their bits again."""
    before = {item.name: np.array(item.view) for item in adapter.parameters(model) if item.name in masked}
    try:
        adapter.apply(model, masked)
        return loss_of(evaluate, model, f"the model with {layer} pruned")
    finally:
        adapter.assign(model, before)


def _digest(parameters: Sequence[Parameter], recipe: Recipe, sparsities: Sequence[float], dense: float) -> str:
    """Of all that the losses depend on, as far as it is known here."""
    about = {name: part for name, part in recipe.to_dict().items() if name not in ("target", "schedule", "allocation")}
    found = hashlib.sha256(json.dumps([about, list(sparsities), dense]).encode())
    for parameter in parameters:
        found.update(f"{parameter.name} {parameter.view.shape} {parameter.view.dtype}".encode())
        found.update(np.ascontiguousarray(parameter.view).tobytes())
    return found.hexdigest()


def _require_folder(cache: str | Path | None) -> None:
    """Raises FileFormatError before anything is measured that could not be kept."""
    if cache is not None and (Path(cache).is_dir() or not Path(cache).parent.is_dir()):
        raise FileFormatError(f"{cache} cannot be a cache: give the name of a file in a folder that there is")


class _Cache:
    """Rows of losses in a file; without a path, in memory alone. A file about something else is written anew."""

    def __init__(self, path: str | Path | None, digest: str, length: int) -> None:
        self._path, self._digest = None if path is None else Path(path), digest
        self.rows: dict[str, list[float]] = {}
        if self._path is not None and self._path.is_file():
            self.rows = _rows(self._path, digest, length)

    def add(self, layer: str, row: list[float]) -> None:
        """Know one more layer."""
        self.rows[layer] = row
        if self._path is not None:
            fresh = self._path.with_name(f".{self._path.name}.new")
            fresh.write_text(json.dumps({"digest": self._digest, "losses": self.rows}), "utf-8")
            fresh.replace(self._path)


def _rows(path: Path, digest: str, length: int) -> dict[str, list[float]]:
    """The losses of each layer, ``length`` finite numbers; none if the file is about something else."""
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["digest"] != digest:
            return {}
        rows = {layer: [float(loss) for loss in row] for layer, row in dict(document["losses"]).items()}
        if wrong := [layer for layer, row in rows.items() if len(row) != length or not all(map(math.isfinite, row))]:
            raise ValueError(f"not {length} finite losses of {wrong[0]}")
        return rows
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{path} is no cache of a sensitivity scan ({error}): give another file") from error
