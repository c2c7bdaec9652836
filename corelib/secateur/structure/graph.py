"""The framework-free description of a model's forward pass, which both tracers emit and the solver reads.

Tensors are numbered; an operation names its kind from a small vocabulary (below), the tensors that it reads and writes,
and the parameters that it uses by their part in the operation. Shapes are those of the traced example, batch included.
Parameter shapes and axes are those of the canonical view (see :class:`secateur.adapter.Parameter`).

======================  ====================================================================================
kind                    meaning and ``settings``
======================  ====================================================================================
``linear``              contracts axis ``axis`` (may be negative) of its input with axis 1 of ``kernel``
``convolution``         ``channel_axis``, ``groups``; ``kernel`` is (out, in // groups, *spatial)
``normalize``           per-channel affine map in inference (batch normalisation): ``axis``
``elementwise``         any number of inputs, broadcast as NumPy does: activations, dropout, add, multiply;
                        ``parameters`` (a learned scale, a PReLU slope) broadcast with them
``concat``              ``axis``
``reshape``             row-major reshape to the output's shape: view, flatten, unflatten, squeeze
``permute``             ``order``: output axis i is input axis ``order[i]``
``pool``                keeps batch and ``channel_axis``; the other axes may change size: pooling, padding, upsampling
``reduce``              ``axes``, ``keepdims``: mean, sum, max over axes
``softmax``             normalises over ``axis``, all indices of which depend on one another
``unknown``             anything else: freezes all that it touches, and is listed
======================  ====================================================================================

Parts in ``Operation.parameters``: ``kernel``, ``bias``, ``scale``, ``shift``, ``mean``, ``variance``; operations of
kind ``elementwise`` and ``unknown`` may use any names. A tensor that no operation writes is an input or a constant:
nothing of it can go. An operation of a kind that is not in the table counts as ``unknown``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PRUNABLE_ROLES = ("kernel", "recurrent", "embedding")


def producing_axis(role: str, axes: Sequence[str]) -> int | None:
    """The axis along which a parameter makes features: ``features`` of an embedding, ``out`` of a kernel; else None."""
    wanted = "features" if role == "embedding" else "out"
    return axes.index(wanted) if role in PRUNABLE_ROLES and wanted in axes else None


@dataclass(frozen=True)
class ParameterShape:
    """A parameter or running statistic of the model: its canonical shape and axis names (``out``, ``in``, ...)."""

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    role: str
    itemsize: int = 4


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
    settings: Mapping[str, object] = field(default_factory=dict)
    source: str = ""
    label: str = ""
    in_inference: bool = True


@dataclass(frozen=True)
class Graph:
    """Operations in execution order; ``tensors[i]`` is the shape of tensor ``i``."""

    tensors: tuple[tuple[int, ...], ...]
    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parameters: Mapping[str, ParameterShape]

    @property
    def has_training(self) -> bool:
        """Whether a pass in training mode was traced too."""
        return not all(operation.in_inference for operation in self.operations)
