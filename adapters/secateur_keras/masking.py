"""Exact zeros where masks are False, now and through training.

Masks are held by patching the instance of the optimizer: they are bool variables of it, so that compiled steps of every
backend read their current values, and they are multiplied in at the end of each step. Optimizer, model and their saved
files otherwise stay as Keras made them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from secateur.adapter import Masks
from secateur.errors import HoldError
from secateur_keras import backends
from secateur_keras.naming import weights
from secateur_keras.parameters import to_canonical, to_native
from secateur_keras.patching import Patch

BoolArray = npt.NDArray[np.bool_]
Optimizer: TypeAlias = keras.optimizers.Optimizer


def apply(model: keras.Model, masks: Masks) -> None:
    """Write exact zeros where a mask (canonical layout) is False. Other weights keep their bits.

    Raises:
        NoMatchError: a name that the model does not have.
        ShapeMismatchError: a mask of another shape than the weight.
    """
    backends.synchronise(model)
    native = to_native(model, masks)
    for weight in weights(model):
        if weight.name in native:
            weight.variable.assign(backends.masked(weight.variable, native[weight.name]))


def hold(model: keras.Model, masks: Masks, optimizer: Optimizer | None = None) -> Hold:
    """Apply the masks and keep them through training.

    Args:
        model: a built model.
        masks: parameter name -> mask in canonical layout; True = kept.
        optimizer: the optimizer that trains it in a loop of your own; let it hold before the first compiled step. None
            for whichever optimizer the model is, or will be, compiled with.

    Raises:
        HoldError: the optimizer was built for other variables. Nothing was changed.
    """
    return Hold(model, masks, optimizer)


class Hold:
    """Masks that stay: see :class:`secateur.adapter.Hold`."""

    def __init__(self, model: keras.Model, masks: Masks, optimizer: Optimizer | None) -> None:
        backends.synchronise(model)
        self._model = model
        self._masks = to_native(model, masks)
        self._optimizers: list[_MaskedOptimizer] = []
        self._compile: Patch | None = None
        compiled = getattr(model, "optimizer", None)
        if optimizer is not None or compiled is not None:
            self._attach(optimizer or compiled)
        if optimizer is None or optimizer is compiled:
            self._compile = Patch(model, "compile", self._compiled)
        apply(model, masks)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hold:
        """The same masks, held in Keras's own copy of the model."""
        return Hold(copy.deepcopy(self._model, memo), to_canonical(self._model, self._masks), None)

    def update(self, masks: Masks) -> None:
        """Replace the masks (canonical layout) and apply the new ones at once.

        Slots of the optimizer (momenta, averages) of dead and of regrown weights become 0.
        """
        backends.synchronise(self._model)
        self._masks = to_native(self._model, masks)
        for optimizer in self._optimizers:
            optimizer.update(self._by_variable())
        apply(self._model, masks)

    def release(self) -> None:
        """Stop holding and leave the optimizer as it was found. Weights keep their values."""
        backends.synchronise(self._model)
        if self._compile is not None:
            self._compile.undo()
        for optimizer in self._optimizers:
            optimizer.release()
        self._optimizers = []

    def _compiled(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """``model.compile`` of the user, after which its optimizer holds the masks too."""
        original(*args, **kwargs)
        if self._model.optimizer is not None:
            self._attach(self._model.optimizer)

    def _attach(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise HoldError(f"{optimizer!r} is no Keras optimizer; pass the one whose apply() trains the model")
        with backends.scope(self._model):
            if not optimizer.built:
                optimizer.build(self._model.trainable_variables)
            updating = _updating(optimizer)
            if not any(_trains(each, variable) for each in updating for variable in self._model.weights):
                raise HoldError(
                    f"optimizer {optimizer.name!r} was built for other variables than those of model "
                    f"{self._model.name!r}; make a new optimizer for this model"
                )
            held = [each.optimizer for each in self._optimizers]
            for each in updating:
                if not any(each is known for known in held):
                    outer = () if each is optimizer else (optimizer,)
                    self._optimizers.append(_MaskedOptimizer(self._model, each, outer, self._by_variable()))

    def _by_variable(self) -> dict[int, tuple[keras.Variable, BoolArray]]:
        return {
            id(weight.variable): (weight.variable, self._masks[weight.name])
            for weight in weights(self._model)
            if weight.name in self._masks
        }


class _MaskedOptimizer:
    """One optimizer whose steps end with the masks."""

    def __init__(
        self,
        model: keras.Model,
        optimizer: Optimizer,
        outer: Sequence[Optimizer],
        masks: Mapping[int, tuple[keras.Variable, BoolArray]],
    ) -> None:
        self.optimizer = optimizer
        self._model = model
        self._held: dict[int, tuple[keras.Variable, keras.Variable]] = {}
        self.update(masks)
        self._patches = [
            Patch(optimizer, "apply", self._then_keep),
            Patch(optimizer, "finalize_variable_values", self._then_keep),
        ]
        for each in (optimizer, *outer):
            for name in ("save_own_variables", "load_own_variables"):
                self._patches.append(Patch(each, name, self._without_masks(each, name)))

    def update(self, masks: Mapping[int, tuple[keras.Variable, BoolArray]]) -> None:
        """Take new masks; a variable that has none any more is kept whole."""
        new = [variable for key, (variable, _) in masks.items() if key not in self._held]
        new = [variable for variable in new if _trains(self.optimizer, variable)]
        for variable in new:
            self._add(variable)
        if new:
            self._retrace()
        for key, (variable, held) in self._held.items():
            mask = masks[key][1] if key in masks else np.ones(tuple(variable.shape), np.bool_)
            before = backends.array(held).copy()
            held.assign(mask)
            for slot in _slots(self.optimizer, variable):
                slot.assign(backends.masked(slot, before & mask))

    def release(self) -> None:
        """Remove the masks and every trace of them."""
        for patch in self._patches:
            patch.undo()
        for _, held in self._held.values():
            self.optimizer._untrack_variable(held)
        self._held = {}
        self._retrace()

    def _add(self, variable: keras.Variable) -> None:
        with backends.scope(self._model):
            held = self.optimizer.add_variable(
                tuple(variable.shape), initializer="ones", dtype="bool", name=f"{variable.name}_mask"
            )
        self._held[id(variable)] = variable, held

    def _then_keep(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        backends.keep_only(self.optimizer, list(self._held.values()))
        return result

    def _without_masks(self, optimizer: Optimizer, name: str) -> Callable[..., Any]:
        def replacement(original: Callable[..., Any], store: Any) -> Any:
            hidden = {id(held) for _, held in self._held.values()}
            return getattr(type(optimizer), name)(_Visible(optimizer, hidden), store)

        return replacement

    def _retrace(self) -> None:
        """A step that is compiled already does not know of the change: compile it again."""
        if getattr(self._model, "train_function", None) is not None:
            self._model.make_train_function(force=True)


class _Visible:
    """An optimizer as saving and loading see it: without the masks among its variables."""

    def __init__(self, optimizer: Optimizer, hidden: set[int]) -> None:
        self._optimizer = optimizer
        self.variables = [variable for variable in optimizer.variables if id(variable) not in hidden]
        self._variables = [variable for variable in optimizer._variables if id(variable) not in hidden]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)


def _updating(optimizer: Optimizer) -> list[Optimizer]:
    """The optimizers that move weights: those inside a loss-scaling or a multiple optimizer, else itself."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return _updating(optimizer.inner_optimizer)
    inner = getattr(optimizer, "optimizers", None)
    return list(inner) if isinstance(inner, list) else [optimizer]


def _trains(optimizer: Optimizer, variable: keras.Variable) -> bool:
    return optimizer._var_key(variable) in optimizer._trainable_variables_indices


def _slots(optimizer: Optimizer, variable: keras.Variable) -> list[keras.Variable]:
    """What the optimizer remembers of each element of a variable: lists that run parallel to its variables."""
    index, count = optimizer._get_variable_index(variable), len(optimizer._trainable_variables)
    lists = (kept for name, kept in vars(optimizer).items() if name not in ("_variables", "_trainable_variables"))
    parallel = (kept[index] for kept in lists if isinstance(kept, list) and len(kept) == count)
    return [slot for slot in parallel if isinstance(slot, keras.Variable) and slot.shape == variable.shape]
