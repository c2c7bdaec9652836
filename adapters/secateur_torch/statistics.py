"""What PyTorch answers for one batch, of which :mod:`secateur.gathering` makes the statistics of scores.

Gradients are taken in inference mode (dropout off, batch normalisation on its running statistics), so that nothing in
the model changes and both frameworks give the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from secateur.adapter import Masks
from secateur.errors import MissingDataError
from secateur.gathering import gather
from secateur.statistics import takes_loss
from secateur_torch.activations import Observer
from secateur_torch.arrays import array
from secateur_torch.inference import arguments, inference_mode, reading, results, run, to_tensor
from secateur_torch.parameters import Weight, to_native, weights

Array = npt.NDArray[Any]


def statistics(
    model: nn.Module,
    data: Any,
    loss: Any,
    needs: Iterable[str],
    example: Any | None = None,
    masks: Masks | None = None,
) -> dict[str, dict[str, Array]]:
    """Gather statistics; see :func:`secateur.gathering.gather` for what is returned and raised.

    Args:
        model: any module.
        data: ``(x, y)`` arrays or tensors, or an iterable of batches; see :func:`secateur.batches.batches`.
        loss: ``loss(outputs, labels)`` -> a batch's mean loss.
        needs: names in :data:`secateur.statistics.STATISTICS`.
        example: an input, where there is no data.
        masks: name -> mask (canonical layout): the statistics are those of the model under these masks.

    Raises:
        MissingDataError: no loss, though a statistic is about one.
    """
    needs = list(needs)
    if takes_loss(needs) and not callable(loss):
        raise MissingDataError("gradients need a loss: pass loss=, such as torch.nn.CrossEntropyLoss()")
    source = _Source(model, loss)
    with reading(data), inference_mode(model), _differentiable(model), replaced(source.masked(masks or {})):
        return gather(source, data, needs, example)


class _Source:
    """See :class:`secateur.gathering.Source`. ``.grad`` of the weights is not touched."""

    def __init__(self, model: nn.Module, loss: Any) -> None:
        self._model = model
        self._loss = loss
        self._weights = weights(model)
        self._trainable = [weight for weight in self._weights if weight.tensor.requires_grad]

    def gradients(self, inputs: Any, labels: Any) -> dict[str, Array]:
        """One backward pass."""
        if not self._trainable:
            return {}
        with torch.inference_mode(False), torch.enable_grad():
            found = torch.autograd.grad(self._value(inputs, labels), self._tensors, allow_unused=True)
        return self._named(found)

    def hessian_products(self, inputs: Any, labels: Any, vector: Mapping[str, Array]) -> dict[str, Array]:
        """A backward pass through a backward pass."""
        if not vector:
            return {}
        chosen = [weight for weight in self._trainable if weight.name in vector]
        tensors = [weight.tensor for weight in chosen]
        along = [_like(weight, vector[weight.name]) for weight in chosen]
        with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            value = self._value(inputs, labels)
            first = torch.autograd.grad(value, tensors, create_graph=True, allow_unused=True)
            total = _sum([(g * v).sum() for g, v in zip(first, along, strict=True) if g is not None])
            bent = total is not None and total.requires_grad
            second = torch.autograd.grad(total, tensors, allow_unused=True) if bent else [None] * len(tensors)
        known = {weight.name: np.zeros(weight.shape.shape, np.float32) for weight in chosen}
        return known | self._named(second, chosen)

    def observer(self, needs: Sequence[str]) -> Observer:
        """See :class:`secateur_torch.activations.Observer`."""
        return Observer(self._model, needs)

    def flow(self, ones: Any) -> tuple[list[Array], dict[str, Array]]:
        """One backward pass of the outputs' sum."""
        stored = [weight for weight in self._weights if isinstance(weight.tensor, nn.Parameter)]
        positive = {weight.tensor: weight.tensor.detach().abs() for weight in stored}
        with replaced(positive), torch.inference_mode(False), torch.enable_grad():
            outputs = [each for each in results(run(self._model, ones)) if each.is_floating_point()]
            total = _sum([each.sum() for each in outputs])
            if total is None or not total.requires_grad:
                raise MissingDataError(
                    "no output of the model depends on any trainable weight, as far as PyTorch's gradients tell: run "
                    "it without no_grad() and detach(), and freeze less"
                )
            found = torch.autograd.grad(total, self._tensors, allow_unused=True)
        return [array(each) for each in outputs], self._named(found)

    def masked(self, masks: Masks) -> dict[torch.Tensor, torch.Tensor]:
        """Each masked tensor -> its numbers under its mask."""
        native = to_native(self._model, masks, self._weights)
        chosen = [weight for weight in self._weights if weight.name in native]
        kept = {weight.name: torch.from_numpy(native[weight.name]).to(weight.tensor.device) for weight in chosen}
        return {weight.tensor: weight.tensor.detach().masked_fill(~kept[weight.name], 0) for weight in chosen}

    @property
    def _tensors(self) -> list[torch.Tensor]:
        return [weight.tensor for weight in self._trainable]

    def _value(self, inputs: Any, labels: Any) -> torch.Tensor:
        """The batch's mean loss. Raises MissingDataError if it is something else."""
        positional, named = arguments(self._model, inputs)
        value = self._loss(self._model(*positional, **named), _labels(labels, self._trainable[0].tensor))
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise MissingDataError("the loss must give one number a batch: use reduction='mean'")
        if not value.requires_grad:
            raise MissingDataError(
                "the loss does not depend on any trainable weight: compute it from the outputs by PyTorch's functions, "
                "without detach()"
            )
        return value

    def _named(self, found: Sequence[torch.Tensor | None], chosen: Sequence[Weight] | None = None) -> dict[str, Array]:
        listed = zip(self._trainable if chosen is None else chosen, found, strict=True)
        return {weight.name: weight.layout.to_canonical(array(grad)) for weight, grad in listed if grad is not None}


@contextmanager
def replaced(values: Mapping[torch.Tensor, torch.Tensor]) -> Iterator[None]:
    """Other numbers in these tensors for the block; their own memory is not written, and is theirs again after it."""
    own = {tensor: tensor.data for tensor in values}
    try:
        for tensor, value in values.items():
            tensor.data = value
        yield
    finally:
        for tensor, data in own.items():
            tensor.data = data


def _differentiable(model: nn.Module) -> AbstractContextManager[None]:
    """cuDNN's recurrent layers have no gradients in evaluation mode, PyTorch's own have."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    return torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()


def _sum(terms: Sequence[torch.Tensor]) -> Any:
    """Their sum; None of no terms."""
    return sum(terms[1:], terms[0]) if terms else None


def _like(weight: Weight, canonical: Array) -> torch.Tensor:
    """An array in canonical layout as a tensor like the weight."""
    native = np.array(weight.layout.to_native(canonical), order="C")
    return torch.from_numpy(native).to(weight.tensor.device, weight.tensor.dtype)


def _labels(labels: Any, reference: torch.Tensor) -> Any:
    """Labels on the model's device: class numbers as int64, fractions in the model's own precision."""
    if isinstance(labels, Mapping):
        return {key: _labels(item, reference) for key, item in labels.items()}
    if isinstance(labels, tuple | list):
        numbers = labels and all(isinstance(item, int | float) for item in labels)
        return _labels(np.array(labels), reference) if numbers else [_labels(item, reference) for item in labels]
    tensor = to_tensor(labels, reference)
    if not isinstance(tensor, torch.Tensor) or tensor.is_floating_point() or tensor.dtype == torch.bool:
        return tensor
    return tensor.to(torch.int64)
