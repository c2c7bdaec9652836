"""What differs between Keras's backends, and nothing else: the only file that asks which one runs.

Each backend is one small class; the rest of the adapter sees the module-level functions at the end.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras
import ml_dtypes
import numpy as np
import numpy.typing as npt

from secateur.errors import MissingDependencyError

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Pairs = Sequence[tuple[keras.Variable, keras.Variable]]
Differentiable = Callable[..., Any]
NativeStep = Callable[[Callable[[keras.Variable], bool]], None]

stepping: weakref.WeakSet[keras.Model] = weakref.WeakSet()
"""Every model that has a training step."""


class _Backend:
    """What holds where a backend needs nothing special."""

    def array(self, tensor: Any) -> Array:
        """The numbers of a tensor, shared where the backend allows it."""
        return np.asarray(tensor)

    def compiled(self, function: Differentiable) -> Differentiable:
        """The same function, compiled for a single run where calling it eagerly would be slow."""
        return function

    def shapes(self, function: Differentiable, *arguments: Any) -> list[Shape]:
        """The shapes of the tensors that the function gives, without computing them where that can be told."""
        return [tuple(each.shape) for each in keras.tree.flatten(self.compiled(function)(*arguments))]

    def inference(self, model: keras.Model, function: Differentiable) -> Differentiable:
        """The same function, compiled as ``model.predict`` compiles the model's own."""
        return function

    def gradient(self, function: Differentiable) -> Differentiable:
        """A function that returns the gradients of ``function`` with respect to its first argument, a list."""
        raise MissingDependencyError(
            f"Keras's backend {keras.backend.backend()!r} has no gradients: use tensorflow, jax or torch"
        )

    def hessian_product(self, function: Differentiable) -> Differentiable:
        """A function of ``(values, vector, *others)``: the Hessian of ``function`` in the values, times the vector."""
        return self.gradient(function)

    def synchronise(self, model: keras.Model) -> None:
        """Bring the weights up to date with a training that is going on."""

    def is_lost(self, variable: keras.Variable) -> bool:
        """Whether a training that failed has left a variable without numbers."""
        return False

    def scope(self, optimizer: keras.optimizers.Optimizer) -> AbstractContextManager[Any]:
        """Where variables of an optimizer must be created, also while a step is being compiled."""
        return nullcontext()

    def is_traced(self, gradients: Iterable[Any]) -> bool:
        """Whether a step with these gradients is being compiled, to run later without Python."""
        return False

    def keep_only(self, optimizer: keras.optimizers.Optimizer, pairs: Pairs) -> None:
        """Inside an optimizer's step: zero each variable where its mask is False."""
        for variable, mask in pairs:
            self.keep(variable, mask)

    def keep(self, variable: keras.Variable, mask: keras.Variable) -> None:
        """Zero a variable where its mask is False."""
        variable.assign(masked(variable, mask))

    def watch_native_steps(self, after: NativeStep) -> None:
        """Have ``after`` called at the end of each step of the backend's own optimizers, where those can be watched.

        It receives a function that tells whether the optimizer trains a variable.
        """


class _TensorFlow(_Backend):
    def array(self, tensor: Any) -> Array:
        import tensorflow as tf

        tensor = tf.convert_to_tensor(tensor)
        try:
            return np.asarray(memoryview(tensor))
        except (TypeError, ValueError, BufferError):
            return np.asarray(tensor)

    def inference(self, model: keras.Model, function: Differentiable) -> Differentiable:
        import tensorflow as tf

        return function if model.run_eagerly else tf.function(function, jit_compile=model.jit_compile)

    def gradient(self, function: Differentiable) -> Differentiable:
        import tensorflow as tf

        def gradients(values: Sequence[Any], *arguments: Any) -> list[Any]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                result = function(values, *arguments)
            found = tape.gradient(result, values)
            return [None if each is None else tf.convert_to_tensor(each) for each in found]

        return gradients

    def hessian_product(self, function: Differentiable) -> Differentiable:
        import tensorflow as tf

        gradients = self.gradient(function)

        def products(values: Sequence[Any], vector: Sequence[Any], *arguments: Any) -> list[Any]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                first = gradients(values, *arguments)
                known = [tf.reduce_sum(g * v) for g, v in zip(first, vector, strict=True) if g is not None]
                total = tf.add_n(known)
            found = tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return [None if g is None else tf.convert_to_tensor(h) for g, h in zip(first, found, strict=True)]

        return products

    @contextmanager
    def scope(self, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
        import tensorflow as tf

        if tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context():
            yield  # on a replica, where only what the optimizer does for its own variables can be done
        else:
            with tf.init_scope(), optimizer._distribution_strategy.scope():
                yield

    def is_traced(self, gradients: Iterable[Any]) -> bool:
        import tensorflow as tf

        return not tf.executing_eagerly()

    def keep_only(self, optimizer: keras.optimizers.Optimizer, pairs: Pairs) -> None:
        """As weight decay does it in Keras, so that it works on every replica of a distribution strategy."""
        import tensorflow as tf

        def on_replicas(distribution: Any, pairs: Pairs) -> None:
            for variable, mask in pairs:
                distribution.extended.update(
                    variable.value,
                    lambda native, kept: native.assign(tf.where(kept, native, tf.zeros((), native.dtype))),
                    args=(mask.value,),
                    group=False,
                )

        strategy = optimizer._distribution_strategy
        if tf.distribute.in_cross_replica_context() and tf.distribute.has_strategy():
            on_replicas(strategy, pairs)
        else:
            tf.__internal__.distribute.interim.maybe_merge_call(on_replicas, strategy, pairs)


class _Jax(_Backend):
    def compiled(self, function: Differentiable) -> Differentiable:
        """Without what makes many runs fast: it takes longer than one run."""
        import jax

        quickly = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

        def run(*arguments: Any) -> Any:
            return jax.jit(function).lower(*arguments).compile(compiler_options=quickly)(*arguments)

        return run

    def shapes(self, function: Differentiable, *arguments: Any) -> list[Shape]:
        import jax

        return [tuple(each.shape) for each in keras.tree.flatten(jax.eval_shape(function, *arguments))]

    def inference(self, model: keras.Model, function: Differentiable) -> Differentiable:
        import jax

        return function if model.run_eagerly or not model.jit_compile else jax.jit(function)

    def gradient(self, function: Differentiable) -> Differentiable:
        import jax

        return jax.jit(jax.grad(function))

    def hessian_product(self, function: Differentiable) -> Differentiable:
        import jax

        def products(values: Sequence[Any], vector: Sequence[Any], *arguments: Any) -> Any:
            return jax.jvp(lambda given: jax.grad(function)(given, *arguments), (values,), (vector,))[1]

        return jax.jit(products)

    def synchronise(self, model: keras.Model) -> None:
        for each in {model, *stepping}:  # another model that is being trained may have these weights
            each.jax_state_sync()

    def is_lost(self, variable: keras.Variable) -> bool:
        """Keras takes the numbers out of variables for a step, and puts none back if that raises."""
        return variable._value is None

    def is_traced(self, gradients: Iterable[Any]) -> bool:
        import jax

        return any(isinstance(gradient, jax.core.Tracer) for gradient in gradients)


class _Torch(_Backend):
    def array(self, tensor: Any) -> Array:
        import torch

        tensor = tensor.detach().cpu()
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()

    def inference(self, model: keras.Model, function: Differentiable) -> Differentiable:
        import torch

        return torch.no_grad()(function)

    def gradient(self, function: Differentiable) -> Differentiable:
        import torch

        def gradients(values: Sequence[Any], *arguments: Any) -> list[Any]:
            leaves = [value.detach().requires_grad_() for value in values]
            with torch.enable_grad():
                result = function(leaves, *arguments)
            return list(torch.autograd.grad(result, leaves, allow_unused=True))

        return gradients

    def hessian_product(self, function: Differentiable) -> Differentiable:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        def products(values: Sequence[Any], vector: Sequence[Any], *arguments: Any) -> list[Any]:
            leaves = [value.detach().requires_grad_() for value in values]
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                result = function(leaves, *arguments)
                first = torch.autograd.grad(result, leaves, create_graph=True, allow_unused=True)
                known = [(g * v).sum() for g, v in zip(first, vector, strict=True) if g is not None]
                total = torch.stack(known).sum() + 0 * result
                found = torch.autograd.grad(total, leaves, allow_unused=True)
            zeros = [None if g is None else torch.zeros_like(g) for g in first]
            return [zero if h is None else h for zero, h in zip(zeros, found, strict=True)]

        return products

    def keep(self, variable: keras.Variable, mask: keras.Variable) -> None:
        """By a bitwise and with 0 or -1, in place: 20 to 100 times faster than choosing, and exact for NaN too."""
        import torch

        words = {2: torch.int16, 4: torch.int32, 8: torch.int64}
        stored = variable.value
        if stored is variable._value:
            stored.detach().view(words[stored.element_size()]).bitwise_and_(mask.value.view(torch.int8).neg())
        else:  # a stateless call has put another value in its place, which is not ours to change
            super().keep(variable, mask)

    def watch_native_steps(self, after: NativeStep) -> None:
        """``torch.optim`` has a hook on all optimizers; a compiled step runs it as it is."""
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook

        def hook(optimizer: Any, args: Any, kwargs: Any) -> None:
            owned = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
            after(lambda variable: id(variable.value) in owned)

        register_optimizer_step_post_hook(torch.compiler.disable(hook))


_BACKENDS = {"tensorflow": _TensorFlow, "jax": _Jax, "torch": _Torch}
_current: _Backend = _BACKENDS.get(keras.backend.backend(), _Backend)()

compiled = _current.compiled
shapes = _current.shapes
inference = _current.inference
gradient = _current.gradient
hessian_product = _current.hessian_product
synchronise = _current.synchronise
is_lost = _current.is_lost
scope = _current.scope
is_traced = _current.is_traced
keep_only = _current.keep_only
keep = _current.keep
watch_native_steps = _current.watch_native_steps


def array(tensor: Any) -> Array:
    """The numbers of a tensor or variable as a NumPy array, never to be written.

    CPU memory is shared where the backend allows it: always on JAX and torch, on TensorFlow except for bfloat16. On
    torch the array follows later changes of the variable, elsewhere it keeps the numbers of now.
    """
    return _current.array(tensor.value if isinstance(tensor, keras.Variable) else tensor)


def dtype(variable: keras.Variable) -> np.dtype[Any]:
    """The type in which a variable's numbers are really stored: JAX has no float64 unless told so."""
    name = keras.backend.standardize_dtype(variable.value.dtype)
    return np.dtype(getattr(ml_dtypes, name, name))


def arrays(tensors: Sequence[Any]) -> Iterator[Array | None]:
    """:func:`array` of each; None stays None."""
    return (None if tensor is None else array(tensor) for tensor in tensors)


def masked(variable: keras.Variable, mask: Any, otherwise: float = 0.0) -> Any:
    """The variable's numbers, exactly ``otherwise`` where ``mask`` is False, even in place of infinities and NaN."""
    kept = mask.value if isinstance(mask, keras.Variable) else mask
    return keras.ops.where(kept, variable.value, keras.ops.full((), otherwise, variable.dtype))


def tensors(structure: Any) -> Any:
    """Arrays and tensors of any library, in any nesting, as this backend's tensors."""

    def convert(value: Any) -> Any:
        if value is None or keras.ops.is_tensor(value):
            return value
        host = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
        return keras.ops.convert_to_tensor(host)

    return keras.tree.map_structure(convert, structure)
