r"""The framework-free description of a model's forward pass, which both tracers emit and the solver reads.

Tensors are numbered; an operation names its kind from a small vocabulary (below), the tensors that it reads and writes,
and the parameters that it uses by their part in the operation. Shapes are those of the traced example, batch included.
Parameter shapes and axes are those of the canonical view (see :class:`secateur.adapter.Parameter`).

Weights and where they meet:

===============  =======================================================================================================
kind             meaning and ``settings``
===============  =======================================================================================================
``linear``       contracts axis ``axis`` (may be negative) of its input with the ``in`` axis of ``kernel``; ``rows``
                 (start, stop): of the kernel's and bias's ``out`` indices only these; ``parts``: in so many the ``out``
                 indices are divided, which must stay equally long
``convolution``  ``channel_axis``, ``groups``; ``kernel`` is (out, in // groups, \*spatial), a transposed one too. With
                 ``transposed`` and more than one group it is (group, out // groups, in // groups, \*spatial)
``bilinear``     two inputs, whose last axes are contracted with axes 1 and 2 of ``kernel``
``embedding``    looks entries of ``table`` (entries, features) up: the input's axes, then the features
``recurrent``    one layer in one direction: inputs are a sequence and any starting states, ``axis`` is the sequence's
                 feature axis; ``kernel`` and ``recurrent`` are (gate, out, in), ``bias`` and ``recurrent_bias`` end in
                 (gate, out), ``projection`` is (out, in); the last axis of every output and state holds the units, or
                 where ``projected`` (output numbers) and for the first state the projection's ``out``
``weight``       the parameter ``weight`` as a tensor, for whatever is then done with it
``normalize``    per-channel affine map in inference (batch normalisation): ``axis``
``standardize``  by the input's own mean and variance: ``axes`` are averaged over; with ``groups`` (group and instance
                 normalisation) ``axes`` is the one channel axis, which is divided into so many, and whatever else is
                 averaged over is space; ``rms``: by the mean square alone; ``scale`` and ``shift`` lie along the axes
===============  =======================================================================================================

Between tensors:

===============  =======================================================================================================
``elementwise``  any number of inputs, broadcast as NumPy does: activations, dropout, add, multiply; ``parameters`` (a
                 learned scale, a PReLU slope) broadcast with them; ``zero``: the result is 0 where ``"all"`` operands
                 are, or where ``"any"`` is (products); without it, nothing is known. ``adds``: it is the sum of its
                 two inputs, and nothing else
``contract``     a sum of products, as ``einsum``: ``labels``, for each input a tuple of whole numbers, one an axis;
                 ``result``, those of the output; an axis of size 1 may share a label with a longer one (broadcast)
``attention``    scaled dot products: queries (..., heads, time, features), keys, values, and any masks that are added;
                 ``scaled``: by a factor that depends on the number of features. Keys and values may have fewer heads,
                 each of which serves as many neighbouring query heads. ``mended`` (parameters): a layer of as many
                 features of queries, keys and values, which go together; it makes these parameters of the queries
                 smaller by the root of the share that stays, so that the scale may depend on the number
``concat``       ``axis``
``reduce``       ``axes``, ``keepdims``: mean, max over axes; ``sum``: it adds up, so that what is 0 may go
``softmax``      over ``axis``, all indices of which depend on one another; also sort, cumulative sum and the like, and
                 whatever else keeps an axis whole; ``reason``: why, in words
``pool``         keeps batch and ``channel_axis``; the other axes may change size: pooling, padding, upsampling
===============  =======================================================================================================

Views, which only move indices:

===============  =======================================================================================================
``reshape``      row-major reshape to the output's shape: view, flatten, unflatten, squeeze
``permute``      ``order``: output axis i is input axis ``order[i]``
``slice``        ``axis``, ``start``, ``stop``, ``step`` as in Python, ``start`` and ``stop`` not negative
``take``         ``axis``, ``indices``: by a constant array of whole numbers; also roll and flip
``split``        ``axis``, ``sizes``: one output for each; ``equal``: they must stay equally long (chunk)
``pad``          ``axis``, ``before``, ``after``: so many constants
``expand``       broadcasts axes of size 1, and adds axes in front
``gather``       reads or writes places that depend on data; inputs are ``values`` tensors of numbers (default: all),
                 then any that tell places. ``carried``: for each input, for each axis of the output the axis of the
                 input that it is, index by index, or None. All other axes stay
``fill``         a new tensor with the same number everywhere, which takes the size of what it meets; ``zero``: 0
``unknown``      anything else: freezes all that it touches, and is listed; ``reason``: why, in words
===============  =======================================================================================================

Parts in ``Operation.parameters`` are those above, ``bias`` and ``projection`` where there is one, and ``scale``,
``shift``, ``mean``, ``variance``; operations of kind ``elementwise`` and ``unknown`` may use any names. A kernel's
``out`` and ``in`` axes are those of these names in its :class:`ParameterShape`, else (tied embeddings) the first and
the second. One that only a ``contract`` reads, as a tensor, may have an ``out2`` too, which makes features as well. A
tensor that no operation writes is an input or a constant: nothing of it can go. An operation of a kind that is not in
the table counts as ``unknown``. ``zero=False`` in ``settings`` of any kind that only passes values on says that it does
not keep zeros. An ``unknown`` one that writes no tensor hands numbers to the model's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PRUNABLE_ROLES = ("kernel", "recurrent", "embedding")
CONSTANT = "constant"
"""The role of a tensor of numbers that the model holds and does not train: no mask, and no part of any cost."""


def producing_axis(role: str, axes: Sequence[str]) -> int | None:
    """The axis along which a parameter makes features: ``features`` of an embedding, ``out`` of a kernel; else None."""
    wanted = "features" if role == "embedding" else "out"
    return axes.index(wanted) if role in PRUNABLE_ROLES and wanted in axes else None


def producing_axes(role: str, axes: Sequence[str]) -> list[int]:
    """All axes along which a parameter makes features: a kernel of several heads also has ``out2``."""
    first = producing_axis(role, axes)
    others = [axis for axis, name in enumerate(axes) if name.startswith("out") and axis != first]
    return [] if first is None else [first, *(others if role == "kernel" else [])]


@dataclass(frozen=True)
class ParameterShape:
    """A parameter, running statistic or constant of the model: canonical shape and axis names (``out``, ...)."""

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    role: str
    itemsize: int = 4


def out_axis(parameter: ParameterShape) -> int:
    """The axis along which a kernel makes features: the one named ``out``, else the first."""
    return parameter.axes.index("out") if "out" in parameter.axes else 0


def in_axis(parameter: ParameterShape) -> int:
    """The axis that a kernel contracts: the one named ``in``, else the second."""
    return parameter.axes.index("in") if "in" in parameter.axes else 1


@dataclass(frozen=True)
class Operation:
    """One step of the forward pass; ``source`` tells a person where it stands, ``label`` is the framework's name.

    ``in_inference`` is False for a step of a second pass, in training mode: what it ties must stay tied, and it costs
    nothing in inference.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    label: str = ""
    in_inference: bool = True


@dataclass(frozen=True)
class Graph:
    """Operations in execution order; ``tensors[i]`` is the shape of tensor ``i``.

    ``precision`` names the coarsest floating type that the pass computed with (``float16`` in a float32 model), if it
    is known: outputs can be no more alike than that.
    """

    tensors: tuple[tuple[int, ...], ...]
    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parameters: Mapping[str, ParameterShape]
    precision: str = ""

    @property
    def has_training(self) -> bool:
        """Whether a pass in training mode was traced too."""
        return not all(operation.in_inference for operation in self.operations)

    @property
    def readings(self) -> tuple[str, ...]:
        """Where the model's own code read numbers that depend on its inputs, to branch on them perhaps."""
        read = (item.source for item in self.operations if item.kind == "unknown" and item.inputs and not item.outputs)
        return tuple(dict.fromkeys(source for source in read if " at " in source))

    @property
    def entries(self) -> dict[int, int]:
        """Inputs that an ``embedding`` reads directly -> how many entries its table has, the fewest of several."""
        found: dict[int, int] = {}
        for operation in self.operations:
            if operation.kind == "embedding" and operation.inputs[0] in self.inputs:
                count = self.parameters[operation.parameters["table"]].shape[0]
                found[operation.inputs[0]] = min(count, found.get(operation.inputs[0], count))
        return found
