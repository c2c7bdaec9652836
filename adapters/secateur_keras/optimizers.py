"""The masks that optimizers hold, through the few methods that every optimizer of Keras passes.

Keras has no hook on optimizer steps, so the methods that all optimizers inherit are wrapped, once and for good: an
optimizer that is built over masked weights receives the masks, and each of its steps ends with them. They are bool
variables, the last of its ``variables``, so that compiled steps of every backend read their current values. An
optimizer that trains no masked weight runs as before; configs and saved files stay as Keras made them. Optimizers of
the backend itself are served where it lets them be watched, as ``torch.optim`` does.
"""

from __future__ import annotations

import gc
import inspect
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from secateur_keras import backends
from secateur_keras.patching import wrap

BoolArray = npt.NDArray[np.bool_]
Optimizer: TypeAlias = keras.optimizers.Optimizer


@dataclass(frozen=True, eq=False)
class MaskedWeight:
    """A weight, which is not kept alive, and its mask in Keras's layout."""

    variable: weakref.ReferenceType[keras.Variable]
    mask: BoolArray

    @cached_property
    def held(self) -> keras.Variable:
        """The mask where the weight is, for optimizers that keep no masks of their own."""
        return keras.Variable(_initializer(self.mask), shape=self.mask.shape, dtype="bool", trainable=False)


_holds: dict[int, Sequence[MaskedWeight]] = {}
"""The masks that are in force, by the id of their hold."""

_built: weakref.WeakSet[Optimizer] = weakref.WeakSet()
"""Every optimizer that knows its variables."""

_compiled: weakref.WeakSet[Optimizer] = weakref.WeakSet()
"""Optimizers that stepped inside a compiled function of the user's own, which cannot be compiled again from here."""

_saving: ContextVar[bool] = ContextVar("saving", default=False)
"""Whether optimizers are read or written as files hold them: without masks."""

_MASKS = "_secateur_masks"


def put(hold: object, weights: Sequence[MaskedWeight]) -> None:
    """Put masks in force, in place of those that the hold had. Of several holds on a weight all masks count.

    Slots of optimizers (momenta, averages) become what they began with, where a weight dies or grows again.
    """
    before = _holds.get(id(hold), ())
    _holds[id(hold)] = weights
    _refresh((*before, *weights))


def drop(hold: object) -> None:
    """Take masks out of force, and every trace of them from the optimizers that nothing else masks."""
    _refresh(_holds.pop(id(hold), ()))


def drop_from(variables: Iterable[keras.Variable]) -> None:
    """Take every mask out of force that came with one of a variable."""
    wanted = {id(variable) for variable in variables}
    for key, weights in tuple(_holds.items()):
        if any(id(weight.variable()) in wanted for weight in weights):
            _refresh(_holds.pop(key))


def trains(optimizer: Optimizer, variable: keras.Variable) -> bool:
    """Whether a built optimizer trains a variable."""
    return optimizer._var_key(variable) in optimizer._trainable_variables_indices


def forget(variables: Sequence[keras.Variable], step: int) -> None:
    """Have optimizers start anew with these variables, but for their count of steps, which becomes ``step``."""
    for optimizer in tuple(_built):
        own = [] if inner(optimizer) else [variable for variable in variables if trains(optimizer, variable)]
        if own:
            for model in _trained_by(optimizer):
                backends.synchronise(model)
            optimizer._iterations.assign(step)
        for variable in own:
            for slot in remembered(optimizer, variable).values():
                slot.assign(keras.ops.zeros(slot.shape, slot.dtype))
            if optimizer.use_ema:
                index = optimizer._get_variable_index(variable)
                optimizer._model_variables_moving_average[index].assign(keras.ops.copy(variable.value))


def applied(optimizer: Optimizer) -> int:
    """How many batches' gradients an optimizer has taken, those that it only accumulates and skips among them."""
    below = inner(optimizer)
    return applied(below[0]) if below else int(backends.array(optimizer._iterations))


def _refresh(weights: Iterable[MaskedWeight]) -> None:
    """Bring the optimizers that train any of the weights in line with all holds."""
    variables = [variable for weight in weights if (variable := weight.variable()) is not None]
    for optimizer in tuple(_built):
        if any(trains(optimizer, variable) for variable in variables):
            for model in _trained_by(optimizer):
                backends.synchronise(model)
            _update(optimizer)


def _update(optimizer: Optimizer) -> None:
    held, wanted = _masks(optimizer), _wanted(optimizer)
    new, gone = [key for key in wanted if key not in held], [key for key in held if key not in wanted]
    _add(optimizer, {key: wanted[key] for key in new})
    for key, (variable, mask) in wanted.items():
        before = np.ones_like(mask) if key in new else backends.array(held[key][1]).copy()
        if not np.array_equal(before, mask):
            held[key][1].assign(mask)
            for slot, initial in _slots(optimizer, variable):
                slot.assign(backends.masked(slot, before & mask, initial))
    for key in gone:
        variable, mask_variable = held.pop(key)
        mask_variable.assign(np.ones(tuple(variable.shape), np.bool_))  # frees compiled functions that still read it
    if not held:
        vars(optimizer).pop(_MASKS, None)
    if new or gone:
        _compile_again(optimizer, bool(new))


def _masks(optimizer: Optimizer) -> dict[int, tuple[keras.Variable, keras.Variable]]:
    """id of a weight -> the weight and its mask, as kept by the optimizer itself."""
    masks: dict[int, tuple[keras.Variable, keras.Variable]] = vars(optimizer).setdefault(_MASKS, {})
    return masks


def _wanted(optimizer: Optimizer) -> dict[int, tuple[keras.Variable, BoolArray]]:
    """The same as the holds want it; nothing for an optimizer that leaves the steps to others."""
    found: dict[int, tuple[keras.Variable, BoolArray]] = {}
    for weight in () if inner(optimizer) else (weight for weights in _holds.values() for weight in weights):
        variable = weight.variable()
        if variable is not None and trains(optimizer, variable):
            _, mask = found.get(id(variable), (variable, np.True_))
            found[id(variable)] = variable, weight.mask & mask
    return found


def _add(optimizer: Optimizer, masks: dict[int, tuple[keras.Variable, BoolArray]]) -> None:
    """Give the optimizer a variable for each mask."""
    for key, (variable, mask) in masks.items():
        with backends.scope(optimizer), keras.name_scope(optimizer.name, caller=optimizer):
            made = keras.Variable(
                _initializer(mask),
                shape=tuple(variable.shape),
                dtype="bool",
                trainable=False,
                layout=getattr(variable, "_layout", None),
                name=f"{variable.path.replace('/', '_')}_mask",
            )
        _masks(optimizer)[key] = variable, made


def _initializer(mask: BoolArray) -> Callable[..., Any]:
    def initial(shape: Any, dtype: Any = None) -> Any:
        return keras.ops.convert_to_tensor(mask, dtype)

    return initial


def _compile_again(optimizer: Optimizer, masks_are_new: bool) -> None:
    """A step that is compiled already does not know which masks there are."""
    for model in _trained_by(optimizer):
        if model.train_function is not None:
            model.make_train_function(force=True)
    if masks_are_new and optimizer in _compiled:
        warnings.warn(
            f"optimizer {optimizer.name!r} stepped before inside a function of your own that was compiled (jax.jit, "
            "tf.function), and which knows nothing of the masks: compile it again, on JAX with its state taken anew "
            "from optimizer.variables",
            stacklevel=2,
        )


def inner(optimizer: Optimizer) -> list[Optimizer]:
    """The optimizers to which a loss-scaling or a multiple optimizer leaves the steps; none for any other."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return [optimizer.inner_optimizer]
    several = getattr(optimizer, "optimizers", None)
    return list(several) if isinstance(several, list) else []


def _trained_by(optimizer: Optimizer) -> list[keras.Model]:
    """The models that may have a step with this optimizer: a ``train_step`` may use others than the model's own."""
    return [
        model for model in tuple(backends.stepping) if any(trains(optimizer, variable) for variable in model.weights)
    ]


def _slots(optimizer: Optimizer, variable: keras.Variable) -> list[tuple[keras.Variable, float]]:
    """What the optimizer remembers of each element of a variable, and what it begins with for a weight of zero.

    That is 0 for all but the sums of squares that Adagrad and FTRL divide by.
    """
    squares = getattr(optimizer, "initial_accumulator_value", 0.0)
    found = remembered(optimizer, variable).items()
    return [(slot, squares if name == "_accumulators" else 0.0) for name, slot in found if slot.shape == variable.shape]


def remembered(optimizer: Optimizer, variable: keras.Variable) -> dict[str, keras.Variable]:
    """What the optimizer remembers of a variable, by its own names: lists that run parallel to its variables."""
    index, count = optimizer._get_variable_index(variable), len(optimizer._trainable_variables)
    lists = {name: kept for name, kept in vars(optimizer).items() if name not in ("_variables", "_trainable_variables")}
    parallel = {name: kept[index] for name, kept in lists.items() if isinstance(kept, list) and len(kept) == count}
    return {name: slot for name, slot in parallel.items() if isinstance(slot, keras.Variable)}


def _keep(optimizer: Optimizer) -> None:
    """End a step: zero the dead weights, and their averages, which later take the place of the weights."""
    pairs = list(getattr(optimizer, _MASKS, {}).values())
    if pairs and optimizer.use_ema:
        averages = optimizer._model_variables_moving_average
        pairs += [(averages[optimizer._get_variable_index(variable)], mask) for variable, mask in pairs]
    if pairs:
        backends.keep_only(optimizer, pairs)


def _after_native(owns: Callable[[keras.Variable], bool]) -> None:
    """End a step of an optimizer of the backend's own."""
    for weight in tuple(weight for weights in _holds.values() for weight in weights):
        variable = weight.variable()
        if variable is not None and owns(variable):
            backends.keep(variable, weight.held)


def _after_init(original: Callable[..., Any], optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
    original(optimizer, *args, **kwargs)
    _wrap_own(type(optimizer))


def _after_build(original: Callable[..., Any], optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
    original(optimizer, *args, **kwargs)
    _built.add(optimizer)
    _add(optimizer, _wanted(optimizer))


def _after_apply(original: Callable[..., Any], optimizer: Optimizer, grads: Any, *args: Any, **kwargs: Any) -> Any:
    result = original(optimizer, grads, *args, **kwargs)
    if backends.is_traced(grads) and not _is_fitting():
        _compiled.add(optimizer)
    _keep(optimizer)
    return result


def _after_finalize(original: Callable[..., Any], optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
    original(optimizer, *args, **kwargs)
    if not any(backends.is_lost(variable) for variable in optimizer.variables):  # else an error is on its way out
        _keep(optimizer)


def _after_apply_gradients(original: Callable[..., Any], optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
    result = original(optimizer, *args, **kwargs)
    _keep(optimizer)
    return result


def _without_masks(original: Callable[..., Any], optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
    token = _saving.set(True)
    try:
        return original(optimizer, *args, **kwargs)
    finally:
        _saving.reset(token)


def _with_masks(original: Callable[..., Any], optimizer: Optimizer) -> list[keras.Variable]:
    variables: list[keras.Variable] = original(optimizer)
    masks = () if _saving.get() else (mask for _, mask in getattr(optimizer, _MASKS, {}).values())
    return [*variables, *(mask for mask in masks if not any(mask is variable for variable in variables))]


def _after_make_train_function(original: Callable[..., Any], model: keras.Model, *args: Any, **kwargs: Any) -> Any:
    backends.stepping.add(model)
    return original(model, *args, **kwargs)


STEPS: dict[str, Callable[..., Any]] = {
    "apply": _after_apply,
    "finalize_variable_values": _after_finalize,
    "save_own_variables": _without_masks,
    "load_own_variables": _without_masks,
    "variables": _with_masks,
}
"""What is wrapped wherever a class defines it, in Keras's base of all optimizers as in classes of the user's own."""

OWN_STEPS: dict[str, Callable[..., Any]] = {**STEPS, "apply_gradients": _after_apply_gradients}
"""What is wrapped in classes of the user's own: Keras's ``apply_gradients`` ends with ``apply``, theirs may go on."""


def _wrap_own(kind: type) -> None:
    """Wrap what a class of the user's own does in place of, or after, what it inherits from Keras."""
    for parent in kind.__mro__[: kind.__mro__.index(Optimizer)]:
        if not parent.__module__.startswith("keras."):
            for name in OWN_STEPS.keys() & vars(parent).keys():
                wrap(parent, name, OWN_STEPS[name])


def _is_fitting() -> bool:
    """Whether Keras itself runs the step: in any thread, as each replica of TensorFlow's has one of its own."""
    fits = [inspect.unwrap(getattr(keras.Model, name)).__code__ for name in ("fit", "train_on_batch")]
    stacks = (traceback.walk_stack(frame) for frame in sys._current_frames().values())
    return any(frame.f_code in fits for stack in stacks for frame, _ in stack)


def _watch() -> None:
    """Wrap Keras's classes, and find what was made before."""
    wrap(Optimizer, "__init__", _after_init)
    wrap(Optimizer, "build", _after_build)
    for name, replacement in STEPS.items():
        wrap(Optimizer, name, replacement)
    if hasattr(keras.Model, "make_train_function"):  # where the backend can train
        wrap(keras.Model, "make_train_function", _after_make_train_function)
    backends.watch_native_steps(_after_native)
    for optimizer in _existing(Optimizer, "built"):
        _wrap_own(type(optimizer))
        _built.add(optimizer)
    backends.stepping.update(_existing(keras.Model, "train_function"))


def _existing(kind: type, ready: str) -> list[Any]:
    """The objects of a class, or of one derived from it, whose attribute ``ready`` is set."""
    things = gc.get_objects()
    kinds = {each for each in set(map(type, things)) if kind in each.__mro__}  # asks no object: some are proxies
    return [thing for thing in things if type(thing) in kinds and getattr(thing, ready, None)]


_watch()
