"""What scores are computed from, gathered over batches: the gradients of a loss, averaged, and what kernels read.

Gradients are taken in inference mode (dropout off, batch normalisation on its running statistics), so that nothing in
the model changes and both frameworks give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from secateur.batches import batches, explained
from secateur.errors import InvalidTensorError, MissingDataError
from secateur.statistics import sorted_needs
from secateur_torch.activations import Observer
from secateur_torch.arrays import array
from secateur_torch.inference import arguments, inference_mode, reading, to_tensor
from secateur_torch.parameters import Weight, weights

Array = npt.NDArray[Any]

STATISTICS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean_abs_gradient": torch.abs,
    "mean_gradient": lambda gradient: gradient,
}
"""Name -> what is averaged over the batches, of those in :data:`secateur.statistics.GRADIENTS`."""


def statistics(model: nn.Module, data: Any, loss: Any, needs: Iterable[str]) -> dict[str, dict[str, Array]]:
    """Gather statistics of the gradients of a loss, and of what kernels read.

    Of gradients every batch has equal weight; sums are in float32, or in the weight's own type if that is wider, batch
    after batch. Of activations every row and position has.

    Args:
        model: any module.
        data: ``(x, y)`` arrays or tensors, or an iterable of batches; without gradients labels may be left out; see
            :func:`secateur.batches.batches`.
        loss: ``loss(outputs, labels)`` -> a batch's mean loss; for gradients only.
        needs: names from :mod:`secateur.statistics`.

    Returns:
        Statistic -> name of a trainable weight -> array in canonical layout; of activations name of a kernel -> float64
        that goes with the canonical layout by broadcasting. A weight on which the loss does not depend is absent, and
        so is a kernel that is not simply multiplied with a tensor.

    Raises:
        MissingDataError: no data, no labels, no loss, an unknown statistic, or a batch that model or loss refuses.
        InvalidTensorError: a gradient, or what a kernel reads, is NaN; names batch and weight.
    """
    wanted = sorted_needs(needs)
    if wanted.labelled and not callable(loss):
        raise MissingDataError("gradients need a loss: pass loss=, such as torch.nn.CrossEntropyLoss()")
    trainable = [weight for weight in weights(model) if weight.tensor.requires_grad]
    totals: dict[str, dict[str, torch.Tensor]] = {need: {} for need in wanted.gradients}
    observer = Observer(model, wanted.activations)
    count = 0
    with reading(data), inference_mode(model), _differentiable(model):
        for inputs, labels in batches(data, labelled=wanted.labelled):
            with explained(count, inputs, labels if wanted.labelled else None):
                if wanted.activations:
                    observer.observe(inputs, count)
                gradients = _gradients(model, loss, trainable, inputs, labels) if wanted.labelled else {}
            _add(totals, gradients, count)
            count += 1
    layouts = {weight.name: weight.layout for weight in trainable}
    means = {
        need: {name: layouts[name].to_canonical(array(total / count)) for name, total in sums.items()}
        for need, sums in totals.items()
    }
    return {**means, **observer.means()}


def _differentiable(model: nn.Module) -> AbstractContextManager[None]:
    """cuDNN's recurrent layers have no gradients in evaluation mode, PyTorch's own have."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    return torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()


def _gradients(
    model: nn.Module, loss: Callable[[Any, Any], Any], trainable: list[Weight], inputs: Any, labels: Any
) -> dict[str, torch.Tensor]:
    """One batch's gradients; ``.grad`` of the weights is not touched."""
    if not trainable:
        return {}
    with torch.inference_mode(False), torch.enable_grad():
        positional, named = arguments(model, inputs)
        value = loss(model(*positional, **named), _labels(labels, trainable[0].tensor))
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise MissingDataError("the loss must give one number a batch: use reduction='mean'")
        if not value.requires_grad:
            raise MissingDataError(
                "the loss does not depend on any trainable weight: compute it from the outputs by PyTorch's functions, "
                "without detach()"
            )
        found = torch.autograd.grad(value, [weight.tensor for weight in trainable], allow_unused=True)
    return {weight.name: grad for weight, grad in zip(trainable, found, strict=True) if grad is not None}


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


def _add(totals: dict[str, dict[str, torch.Tensor]], gradients: Mapping[str, torch.Tensor], batch: int) -> None:
    for name, gradient in gradients.items():
        _require_numbers(gradient, name, batch)
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        for need, sums in totals.items():
            value = STATISTICS[need](gradient).to(dtype)
            sums[name] = sums[name].add_(value) if name in sums else value.clone()


def _require_numbers(gradient: torch.Tensor, name: str, batch: int) -> None:
    invalid = torch.isnan(gradient)
    if invalid.any():
        position = tuple(int(index) for index in np.argwhere(invalid.cpu().numpy())[0])
        raise InvalidTensorError(
            f"the gradient of {name} is NaN at {position} in batch {batch}: look at that batch, loss and weights"
        )
