"""Weights come back while a training runs: exact sparsity, zeros that hold, the same masks in both frameworks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import secateur_keras as sk
import secateur_torch as st
from agreement.pairs import dense_pair
from secateur import SET, Blocks, Cubic, DynamicSurgery, Recipe, RigL
from secateur.errors import MissingDataError, RecipeError, UnreachableTargetError

X = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
REGROWTHS: dict[str, Any] = {
    "set": SET(begin=0, end=12, every=3, share=0.3),
    "rigl": RigL(begin=0, end=16, every=3, share=0.3),
    "surgery": DynamicSurgery(begin=0, end=12, every=3, rate=8.0),
}
WIDTHS = (6, 12, 2)


def train_torch(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(Y)).backward()
        optimizer.step()


@pytest.mark.parametrize("name", REGROWTHS)
@pytest.mark.parametrize("kind", ["weights", "blocks", "growing"])
def test_the_number_is_exact_while_others_come_back(name: str, kind: str) -> None:
    model = dense_pair(WIDTHS, seed=1).torch_model
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    parts: dict[str, Any] = {
        "weights": {},
        "blocks": {"granularity": Blocks((2, 2))},
        "growing": {"schedule": Cubic(begin=0, end=9, every=3)},
    }
    options = parts[kind]
    recipe = Recipe(0.75, regrowth=REGROWTHS[name], **options)
    pruner = st.Pruner(model, recipe, optimizer)
    changed, seen = 0, [pruner.sparsity]
    for _ in range(18):
        before = pruner.masks
        train_torch(model, optimizer, 1)
        now = pruner.masks
        weights = {key: value.detach().numpy() for key, value in model.named_parameters() if key in now}
        assert all(not weights[key][~now[key]].any() for key in now)
        back = {key: now[key] & ~before[key] for key in now}
        count = sum(int(each.sum()) for each in back.values())
        changed += count > 0
        seen.append(pruner.sparsity)
        if count and name != "surgery":
            assert all(not weights[key][back[key]].any() for key in now), "what comes back starts at zero"
        for key, each in back.items():
            slot = optimizer.state[dict(model.named_parameters())[key]]["exp_avg"].numpy()
            assert not slot[each].any(), "and with an optimizer that remembers nothing"
    assert seen == sorted(seen) and pruner.finished
    assert seen[-1] == 0.75 and (kind == "growing" or set(seen) == {0.75})
    assert changed >= 1


def test_surgery_brings_weights_back_with_the_values_that_they_would_have() -> None:
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    start = np.array([[0.9, 0.8, 0.1, 0.2], [0.7, 0.6, 0.3, 0.4]], np.float32)
    model[0].weight.data = torch.tensor(start)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    gradient = np.zeros((2, 4), np.float32)
    gradient[0, 2] = -1.0
    regrowth = DynamicSurgery(begin=0, end=9, every=1, rate=0.4)
    pruner = st.Pruner(
        model, Recipe(0.5, regrowth=regrowth), optimizer, statistics={"mean_gradient": {"0.weight": gradient}}
    )
    np.testing.assert_array_equal(pruner.masks["0.weight"], start > 0.5)
    for expected in (0.5, 0.9):
        model[0].weight.grad = torch.zeros(2, 4)
        optimizer.step()
        hidden = pruner._regrower.values["0.weight"][0, 2]  # type: ignore[union-attr]
        assert hidden == pytest.approx(expected)
    assert pruner.masks["0.weight"].tolist() == [[True, True, True, False], [True, False, False, False]]
    assert model[0].weight[0, 2].item() == np.float32(hidden) and model[0].weight[1, 1].item() == 0.0


@pytest.mark.parametrize("name", REGROWTHS)
def test_both_frameworks_exchange_the_same_weights(name: str) -> None:
    """The same statistics and weights that training does not move: any difference would be Secateur's."""
    pair = dense_pair(WIDTHS, seed=2, ties=True)
    recipe = Recipe(0.6, regrowth=REGROWTHS[name])
    random = np.random.default_rng(0)
    gradients = [
        random.integers(-2, 3, parameter.view.shape).astype(np.float32)
        for parameter in st.parameters(pair.torch_model, pair.torch_example)
        if parameter.role == "kernel"
    ]

    def statistics(parameters: Any) -> Any:
        names = [parameter.name for parameter in parameters if parameter.role == "kernel"]
        return {"mean_gradient": dict(zip(names, gradients, strict=True))}

    optimizer = torch.optim.SGD(pair.torch_model.parameters(), 0.0)
    known = statistics(st.parameters(pair.torch_model, pair.torch_example))
    first = st.Pruner(pair.torch_model, recipe, optimizer, example=pair.torch_example, statistics=known)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    pair.keras_model.compile(keras.optimizers.SGD(0.0), loss)
    second = sk.Pruner(recipe, statistics=statistics(sk.parameters(pair.keras_model)))
    train_torch(pair.torch_model, optimizer, 12)
    pair.keras_model.fit(X, Y, batch_size=16, epochs=6, verbose=0, callbacks=[second])
    ours = first.adapter.canonical(pair.torch_model, first.masks)
    theirs = second.pruned.adapter.canonical(pair.keras_model, second.masks)
    for mask, other in zip(ours.values(), theirs.values(), strict=True):
        np.testing.assert_array_equal(mask, other)
    assert first.sparsity == second.sparsity


class Watch(keras.callbacks.Callback):
    """What comes back after each batch, and what the optimizer remembers of it."""

    def __init__(self, pruner: sk.Pruner) -> None:
        super().__init__()
        self.pruner, self.before, self.returned = pruner, dict[str, Any](), 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now, optimizer = self.pruner.masks, self.model.optimizer
        for name in self.before:
            back = now[name] & ~self.before[name]
            self.returned += int(back.sum())
            (variable,) = (each for each in self.model.trainable_variables if each.path.endswith(name))
            index = optimizer._get_variable_index(variable)
            for slot in (variable, optimizer._momentums[index], optimizer._velocities[index]):
                assert not keras.ops.convert_to_numpy(slot)[back].any()
        self.before = now


def test_keras_needs_data_for_gradients_and_takes_them_from_it() -> None:
    pair = dense_pair(WIDTHS, seed=3)
    model, loss = pair.keras_model, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss)
    recipe = Recipe(0.75, regrowth=REGROWTHS["rigl"])
    with pytest.raises(MissingDataError, match="RigL"):
        model.fit(X, Y, verbose=0, callbacks=[sk.Pruner(recipe)])
    pruner = sk.Pruner(recipe, data=(X, Y))
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[pruner])
    first = pruner.masks
    watch = Watch(pruner)
    model.fit(X, Y, batch_size=16, epochs=4, verbose=0, callbacks=[pruner, watch])
    assert pruner.sparsity == 0.75 and watch.returned > 0
    assert any((first[name] != mask).any() for name, mask in pruner.masks.items())
    masks = pruner.pruned.adapter.canonical(model, pruner.masks)
    assert all(not item.view[~masks[item.name]].any() for item in sk.parameters(model) if item.name in masks)


def test_what_regrowth_cannot_keep_is_refused_before_anything_changes() -> None:
    model = dense_pair(WIDTHS).torch_model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(UnreachableTargetError, match="prune more, or lower the share"):
        st.Pruner(model, Recipe(0.2, regrowth=SET(0, 9, 1, share=0.5)), optimizer)
    with pytest.raises(RecipeError, match="over training steps"):
        st.prune(model, Recipe(0.5, regrowth=SET(0, 9, 1)))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_without_gradients_rigl_says_what_to_do() -> None:
    model = dense_pair(WIDTHS).torch_model
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    st.Pruner(model, Recipe(0.75, regrowth=RigL(0, 9, 1)), optimizer)
    with pytest.raises(MissingDataError, match=r"no weight has a \.grad"):
        optimizer.step()
