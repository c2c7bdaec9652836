"""The classic perceptron on the full MNIST: 90 % of the weights go while it trains, and the accuracy stays."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch

import secateur_keras as sk
import secateur_torch as st
from secateur import Cubic, Recipe
from secateur.demo import data
from secateur.errors import DataNotFoundError

BATCH, DENSE_EPOCHS, PRUNING_EPOCHS = 128, 5, 6


@pytest.fixture(scope="module")
def mnist() -> data.DataSet:
    try:
        return data.load("mnist", seed=0)
    except DataNotFoundError as error:
        pytest.skip(f"the full MNIST is not on this machine: {error}")


def recipe(examples: int) -> Recipe:
    steps = -(-examples // BATCH)
    return Recipe(0.9, schedule=Cubic(begin=0, end=3 * steps, every=steps // 4))


def test_torch_loses_at_most_half_a_point(mnist: data.DataSet) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )
    optimizer = torch.optim.Adam(model.parameters())
    images, labels = torch.tensor(mnist.train.images), torch.tensor(mnist.train.labels)

    def train(epochs: int) -> None:
        for _ in range(epochs):
            for batch in torch.randperm(len(images)).split(BATCH):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
                optimizer.step()

    def accuracy() -> float:
        with torch.no_grad():
            predicted = model(torch.tensor(mnist.test.images)).argmax(1).numpy()
        return float((predicted == mnist.test.labels).mean())

    train(DENSE_EPOCHS)
    dense = accuracy()
    pruner = st.Pruner(model, recipe(len(images)), optimizer=optimizer)
    train(PRUNING_EPOCHS)
    assert pruner.finished
    assert sum(int((~mask).sum()) for mask in pruner.masks.values()) == round(0.9 * (784 * 128 + 128 * 10))
    assert dense > 0.97
    assert accuracy() >= dense - 0.005


def test_keras_loses_at_most_half_a_point(mnist: data.DataSet) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(mnist.train.images.shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    options = {"batch_size": BATCH, "verbose": 0}
    model.fit(mnist.train.images, mnist.train.labels, epochs=DENSE_EPOCHS, **options)
    dense = model.evaluate(mnist.test.images, mnist.test.labels, verbose=0)[1]
    pruner = sk.Pruner(recipe(len(mnist.train.images)))
    model.fit(mnist.train.images, mnist.train.labels, epochs=PRUNING_EPOCHS, callbacks=[pruner], **options)
    assert pruner.finished
    kernels = [np.array(layer.kernel) for layer in model.layers if layer.weights]
    assert sum(int((kernel == 0).sum()) for kernel in kernels) >= round(0.9 * (784 * 128 + 128 * 10))
    assert dense > 0.97
    assert model.evaluate(mnist.test.images, mnist.test.labels, verbose=0)[1] >= dense - 0.005
