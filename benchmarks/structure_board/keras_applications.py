"""The models of ``keras.applications``, with random weights and at small inputs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from benchmarks.structure_board.cases import Case

SIZES: Mapping[str, int] = {
    "VGG16": 32,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "DenseNet121": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "Xception": 96,
    "InceptionV3": 96,
    "InceptionResNetV2": 96,
    "ConvNeXtTiny": 64,
    "NASNetMobile": 224,
}


def cases() -> list[Case]:
    """All of them, the smallest first."""
    return [Case(name, "keras.applications", partial(_made, name, size)) for name, size in SIZES.items()]


def _made(name: str, size: int) -> tuple[keras.Model, Any]:
    # Without the last softmax, which is 0 and 1 for large numbers and would hide mistakes.
    made = getattr(keras.applications, name)
    model = made(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)
    return model, np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
