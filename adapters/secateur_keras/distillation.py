"""Fine-tuning a pruned model on what the dense one says, by Keras's own distiller."""

from __future__ import annotations

from typing import Any

import keras

from secateur.errors import MissingDependencyError, ModelTypeError
from secateur.teaching import Teaching
from secateur_keras.naming import require_model


def distiller(
    model: keras.Model, teacher: keras.Model | None = None, weight: float = 0.7, temperature: float = 2.0
) -> Any:
    """A ``keras.distillation.Distiller`` that trains ``model`` on labels and on a teacher.

    The formula of its loss: :class:`secateur.teaching.Teaching`. Compile it with optimizer and loss, and fit it as any
    model; :class:`secateur_keras.Pruner` among its callbacks prunes ``model``. Twin of
    :class:`secateur_torch.Distillation`.

    Args:
        model: a built model that gives logits.
        teacher: another model that gives logits, which is frozen; None for a copy of ``model`` as it is now, so call
            this before it is pruned.
        weight: of the teacher, 0 to 1.
        temperature: of both models' logits, above 0.

    Raises:
        ModelTypeError: one of the models is none, or ends in a softmax, so that it gives no logits.
        MissingDependencyError: this Keras has no distiller yet (3.12 has).
        RecipeError: ``weight`` or ``temperature`` is no number.
        OutOfRangeError: one of them is out of its range.
    """
    if not hasattr(keras, "distillation"):
        raise MissingDependencyError("distillation needs Keras 3.12: pip install 'keras>=3.12'")
    teaching = Teaching(weight, temperature)
    require_model(model)
    if teacher is None:
        teacher = keras.models.clone_model(model)
        teacher.set_weights(model.get_weights())
    require_model(teacher)
    for each in (model, teacher):
        _require_logits(each)
    # By its name, Keras 3.15 takes the divergence of the logits themselves.
    lessons = keras.distillation.LogitsDistillation(teaching.temperature, keras.losses.KLDivergence())
    return keras.distillation.Distiller(teacher, model, lessons, student_loss_weight=1.0 - teaching.weight)


def student(model: keras.Model) -> keras.Model:
    """The model that is trained when ``model`` is: of a distiller its student."""
    kind = getattr(getattr(keras, "distillation", None), "Distiller", None)
    return model.student if kind is not None and isinstance(model, kind) else model


def _require_logits(model: keras.Model) -> None:
    last = model.layers[-1] if model.layers else model
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise ModelTypeError(
            f"model {model.name!r} ends in a softmax, and a temperature is for logits: end it without, and compile "
            "with a loss that has from_logits=True"
        )
