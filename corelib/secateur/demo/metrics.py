"""How good a model is, and how fast: classification figures by scikit-learn, and measured latency."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.timing import some_calls

Array = npt.NDArray[Any]

LATENCY_BATCH = 256
_ROUNDS = 9


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


def latencies_ms(forwards: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """Median milliseconds of each call after warm-up.

    All are timed in turn, a few calls each, round after round, so that whatever slows the machine for a while does not
    slow one of them alone.
    """
    times: dict[str, list[float]] = {name: [] for name in forwards}
    for _ in range(_ROUNDS):
        for name, forward in forwards.items():
            times[name] += some_calls(forward)
    return {name: 1000.0 * statistics.median(some) for name, some in times.items()}


def latency_inputs(images: Array) -> Array:
    """The batch that latency is measured on: 256 images, repeated if there are fewer."""
    return np.ascontiguousarray(images[np.arange(LATENCY_BATCH) % len(images)])
