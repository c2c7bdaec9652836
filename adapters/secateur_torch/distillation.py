"""Fine-tuning a pruned model on what the dense one says: the loss of knowledge distillation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from secateur.errors import ModelTypeError
from secateur.teaching import Teaching
from secateur_torch.masking import free_copy

Loss = Callable[[Any, Any], torch.Tensor]


class Distillation:
    """The loss of a model that learns from labels and from a teacher; its formula: :class:`secateur.teaching.Teaching`.

    The teacher's term is a mean over the batch. Twin of :func:`secateur_keras.distiller`.

    Args:
        teacher: a module, of which a copy is kept as it is now, in evaluation mode, so that the model itself may be the
            teacher if it is given before it is pruned; or any function from inputs to logits.
        weight: of the teacher, 0 to 1.
        temperature: of both models' logits, above 0.
        loss: of outputs and labels, as ``torch.nn.functional.cross_entropy``.

    Raises:
        ModelTypeError: ``teacher`` cannot be called.
        RecipeError: ``weight`` or ``temperature`` is no number.
        OutOfRangeError: one of them is out of its range.

    Example:
        >>> import torch, secateur_torch as st
        >>> from secateur import Recipe
        >>> model = torch.nn.Linear(8, 4)  # trained
        >>> loss = st.Distillation(model)  # what the dense model says
        >>> pruned = st.prune(model, Recipe(0.5))
        >>> inputs, labels = torch.randn(2, 8), torch.tensor([0, 3])
        >>> loss(model(inputs), labels, inputs).backward()
    """

    def __init__(
        self,
        teacher: nn.Module | Callable[[Any], torch.Tensor],
        weight: float = 0.7,
        temperature: float = 2.0,
        loss: Loss = functional.cross_entropy,
    ) -> None:
        if not callable(teacher):
            raise ModelTypeError(f"{type(teacher).__name__} is no teacher: pass a module, or a function to logits")
        self.teaching = Teaching(weight, temperature)
        self.loss = loss
        self.teacher = teacher
        if isinstance(teacher, nn.Module):
            self.teacher = free_copy(teacher).eval().requires_grad_(False)

    def __call__(self, outputs: torch.Tensor, labels: Any, inputs: Any) -> torch.Tensor:
        """The loss of a batch: the model's logits (batch, ..., classes), its labels, and what the model was given."""
        share, temperature = self.teaching.weight, self.teaching.temperature
        with torch.no_grad():
            taught = functional.log_softmax(self.teacher(inputs) / temperature, dim=-1)
        learnt = functional.log_softmax(outputs / temperature, dim=-1)
        apart = functional.kl_div(learnt, taught, reduction="none", log_target=True).sum(-1).mean()
        return (1.0 - share) * self.loss(outputs, labels) + share * temperature**2 * apart
