"""Training steps under TensorFlow Model Optimization, which wants another Keras: run by an interpreter that has both.

Run: PYTHON tfmot_steps.py ROUNDS wall|processor; prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from rounds import BATCH, LAYERS, SPARSITY, clock, compare


def mlp() -> Any:
    layers = [keras.layers.Dense(size, activation="relu") for size in LAYERS[1:-1]]
    return keras.Sequential([keras.Input(LAYERS[:1]), *layers, keras.layers.Dense(LAYERS[-1])])


def compiled(model: Any) -> Any:
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=1e-4)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def main() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20 * BATCH, LAYERS[0])).astype(np.float32)
    y = generator.integers(0, LAYERS[-1], len(x))
    schedule = tfmot.sparsity.keras.ConstantSparsity(SPARSITY, begin_step=0, end_step=1, frequency=1)
    free = compiled(mlp())
    pruned = compiled(tfmot.sparsity.keras.prune_low_magnitude(mlp(), pruning_schedule=schedule))
    callback = tfmot.sparsity.keras.UpdatePruningStep()

    def trains(model: Any, callbacks: list[Any]) -> Any:
        return lambda steps: model.fit(
            x[: steps * BATCH], y[: steps * BATCH], batch_size=BATCH, verbose=0, shuffle=False, callbacks=callbacks
        )

    ways = {"free": trains(free, []), "TFMOT": trains(pruned, [callback])}
    found = compare(ways, 20, int(sys.argv[1]), clock(sys.argv[2] == "wall"))
    found["free"]["leak"], found["TFMOT"]["leak"] = None, leak(pruned, x[:BATCH], y[:BATCH])
    print(json.dumps(found))


def leak(pruned: Any, x: Any, y: Any) -> float:
    """After a step: TFMOT masks weights in the next forward pass, and as epochs end."""
    pruned.train_on_batch(x, y)
    largest = 0.0
    for layer in pruned.layers:
        for weight, mask, _ in getattr(layer, "pruning_vars", ()):
            largest = max(largest, float(np.abs(weight.numpy()[mask.numpy() == 0]).max(initial=0.0)))
    return largest


if __name__ == "__main__":
    main()
