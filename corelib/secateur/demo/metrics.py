"""How good a model is, and how fast: classification figures by scikit-learn, and measured latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LATENCY_BATCH = 256
_WARM_UP, _REPEATS, _SECONDS = 5, 41, 0.5


def quality(probabilities: Array, labels: Array) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 averaged over the classes (macro; 0 for a class that is never predicted).

    Args:
        probabilities: shape (n, classes); the largest one is the prediction.
        labels: integers, shape (n,).
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def cross_entropy(probabilities: Array, labels: Array) -> float:
    """Mean negative log-likelihood in nats; probabilities are clipped at 1e-7, as Keras does."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(chosen, 1e-7, 1.0)).mean())


def latency_ms(forward: Callable[[], None]) -> float:
    """Median milliseconds of a call, after warm-up: of 41 calls, or of what fits into half a second, but at least 3."""
    for _ in range(_WARM_UP):
        forward()
    times: list[float] = []
    while len(times) < _REPEATS and (len(times) < 3 or sum(times) < _SECONDS):
        start = time.perf_counter()
        forward()
        times.append(time.perf_counter() - start)
    return 1000.0 * statistics.median(times)


def latency_inputs(images: Array) -> Array:
    """The batch that latency is measured on: 256 images, repeated if there are fewer."""
    return np.ascontiguousarray(images[np.arange(LATENCY_BATCH) % len(images)])
