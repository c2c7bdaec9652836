"""Training steps in Keras: free, and held by Secateur."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import secateur_keras as sk
from benchmarks.hold_table.rounds import BATCH, LAYERS, SPARSITY, Steps, clock, compare
from secateur import Recipe


def measure(rounds: int, wall: bool) -> dict[str, Any]:
    """What :func:`compare` tells of each way, and the largest masked weight that is stored after it."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(BATCH, LAYERS[0])).astype(np.float32)
    y = generator.integers(0, LAYERS[-1], BATCH)
    models = {"free": mlp(), "secateur": mlp()}
    pruned = sk.prune(models["secateur"], Recipe(SPARSITY, scope="layer"))
    ways = {name: trains(model, x, y) for name, model in models.items()}
    found = compare(ways, 20, rounds, clock(wall))
    views = {parameter.name: parameter.view for parameter in pruned.parameters()}
    masks = pruned.adapter.canonical(pruned.model, pruned.masks)
    leak = max(float(np.abs(views[name][~mask]).max()) for name, mask in masks.items())
    found["free"]["leak"], found["secateur"]["leak"] = None, leak
    return found


def mlp() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(size, activation="relu") for size in LAYERS[1:-1]]
    model = keras.Sequential([keras.Input(LAYERS[:1]), *layers, keras.layers.Dense(LAYERS[-1])])
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=1e-4)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def trains(model: keras.Model, x: Any, y: Any) -> Steps:
    def steps(count: int) -> None:
        for _ in range(count):
            model.train_on_batch(x, y)

    return steps
