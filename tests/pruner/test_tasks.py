"""One trunk, several tasks: scores of each, combined, and what the model does at each of them, in both frameworks."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as hs
from torch import nn

import secateur_keras as sk
import secateur_torch as st
from secateur import (
    ActivationTaylor,
    Cubic,
    DynamicSurgery,
    Fisher,
    Gradient,
    Magnitude,
    Movement,
    MultiTask,
    Neurons,
    Random,
    Recipe,
    Snip,
    SparseGpt,
    SynFlow,
    Task,
    Taylor,
    Wanda,
    scores,
)
from secateur.combining import combine
from secateur.errors import (
    EmptyLayerError,
    FileFormatError,
    MissingDataError,
    NoMatchError,
    OutOfRangeError,
    RecipeError,
)

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(48, 6)).astype(np.float32)
DIGIT, PARITY = GENERATOR.integers(0, 3, 48), (X[:, 0] > 0).astype(np.int64)
ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Two(nn.Module):
    """A trunk and two heads, one of which has a hidden layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.digit = nn.Linear(6, 10), nn.Linear(10, 3)
        self.hidden, self.parity = nn.Linear(10, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shared = torch.relu(self.trunk(x))
        return self.digit(shared), self.parity(torch.relu(self.hidden(shared)))


def pair() -> tuple[nn.Module, keras.Model]:
    torch.manual_seed(0)
    ours = Two()
    inputs = keras.Input((6,))
    shared = keras.layers.Dense(10, activation="relu", name="trunk")(inputs)
    hidden = keras.layers.Dense(5, activation="relu", name="hidden")(shared)
    heads = [keras.layers.Dense(3, name="digit")(shared), keras.layers.Dense(2, name="parity")(hidden)]
    theirs = keras.Model(inputs, heads)
    for name in ("trunk", "digit", "hidden", "parity"):
        layer = getattr(ours, name)
        theirs.get_layer(name).set_weights([layer.weight.detach().numpy().T, layer.bias.detach().numpy()])
    return ours, theirs


def torch_loss(outputs: Any, labels: Any, head: int) -> Any:
    return nn.functional.cross_entropy(outputs[head], labels)


def keras_loss(labels: Any, outputs: Any, head: int) -> Any:
    return ENTROPY(labels, outputs[head])


def right(model: Any, head: int, labels: Any) -> float:
    with torch.no_grad():
        outputs = model(torch.tensor(X) if isinstance(model, Two) else X)
    return float(np.mean(np.argmax(keras.ops.convert_to_numpy(outputs[head]), axis=1) == labels))


def tasks(loss: Any = torch_loss, **more: Any) -> dict[str, Task]:
    known = {"digit": (0, DIGIT), "parity": (1, PARITY)}
    return {
        name: Task(
            (X, labels),
            functools.partial(loss, head=head),
            evaluate=functools.partial(right, head=head, labels=labels),
            **more,
        )
        for name, (head, labels) in known.items()
    }


def canonical(pruned: Any) -> dict[str, Any]:
    """Layer -> mask of its kernel."""
    found = pruned.adapter.canonical(pruned.model, pruned.masks)
    layers = {each.name: each.layer for each in pruned.parameters() if each.role == "kernel"}
    return {layers[name]: mask for name, mask in found.items() if name in layers}


@pytest.mark.parametrize("how", ["mean", "max", "min_rank"])
def test_scores_are_those_of_each_task_combined(how: str) -> None:
    model, example = pair()[0], torch.tensor(X[:2])
    weights = {"digit": 3.0, "parity": 1.0} if how == "mean" else {}
    gathered = {
        name: st.statistics(model, each.data, each.loss, ["mean_gradient"])["mean_gradient"]
        for name, each in tasks().items()
    }
    kernels = [each for each in st.parameters(model, example) if each.role == "kernel"]
    own = {
        name: {each.name: scores.taylor(each.view, found.get(each.name, np.zeros_like(each.view))) for each in kernels}
        for name, found in gathered.items()
    }
    assert not any(own["digit"]["parity.weight"].ravel())
    assert "parity.weight" not in gathered["digit"]
    expected = combine(own, how, weights or None)
    recipe = Recipe(0.6, score=MultiTask(Taylor(), how, weights))
    pruned = st.prune(model, recipe, tasks=tasks(), example=example)
    found = pruned.outcome(None).scores
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], each) for name, each in expected.items())
    assert pruned.sparsity == pytest.approx(0.6, abs=0.01)
    assert set(pruned.statistics) == {"mean_gradient of digit", "mean_gradient of parity"}


@settings(deadline=None, max_examples=10)
@given(
    hs.sampled_from([Taylor(), Fisher(), Gradient(), ActivationTaylor(), Snip(2)]),
    hs.sampled_from(["mean", "max", "min_rank"]),
    hs.booleans(),
    hs.sampled_from(["model", "layer", "row"]),
    hs.floats(0.1, 0.8),
    hs.integers(0, 99),
)
def test_equal_statistics_give_equal_masks(score, how, by_units, scope, sparsity, seed) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = pair()
    generator = np.random.default_rng(seed)
    by_units = by_units or isinstance(score, ActivationTaylor)
    reached = {"digit": ("trunk", "digit"), "parity": ("trunk", "hidden", "parity")}
    given_to: tuple[dict[str, Task], dict[str, Task]] = ({}, {})
    listed = list(zip(st.parameters(ours, torch.tensor(X[:2])), sk.parameters(theirs), strict=True))
    for task, layers in reached.items():
        made = [
            (a.name, b.name, generator.integers(-3, 4, a.view.shape).astype(np.float32))
            for a, b in listed
            if a.layer in layers
        ]
        for side, tasks_of in enumerate(given_to):
            by_name = {names[side]: names[2] for names in made}
            tasks_of[task] = Task(statistics=dict.fromkeys(score.needs, by_name))
    scope = "layer" if by_units else scope
    recipe = Recipe(
        sparsity, score=MultiTask(score, how), scope=scope, **({"granularity": Neurons()} if by_units else {})
    )
    try:
        first = st.prune(ours, recipe, tasks=given_to[0], example=torch.tensor(X[:2]))
    except EmptyLayerError as refused:  # a small head may be the first to go
        with pytest.raises(EmptyLayerError, match=str(refused).partition(" weights of ")[0]):
            sk.prune(theirs, recipe, tasks=given_to[1])
        return
    left, right_hand = canonical(first), canonical(sk.prune(theirs, recipe, tasks=given_to[1]))
    assert left.keys() == right_hand.keys()
    assert all(np.array_equal(left[name], mask) for name, mask in right_hand.items())


def test_the_frameworks_own_gradients_agree_and_results_tell_each_task() -> None:
    ours, theirs = pair()
    recipe = Recipe(0.5, score=MultiTask(Taylor(), weights={"digit": 2, "parity": 1}))
    results = st.prune(ours, recipe, tasks=tasks()), sk.prune(theirs, recipe, tasks=tasks(keras_loss))
    left, right_hand = map(canonical, results)
    assert all(np.array_equal(left[name], mask) for name, mask in right_hand.items())
    dense = pair()[0]
    for pruned in results:
        assert pruned.tasks["digit"] == (right(dense, 0, DIGIT), right(ours, 0, DIGIT))
        assert pruned.tasks["parity"] == (right(dense, 1, PARITY), right(ours, 1, PARITY))
        heading, digit, parity = str(pruned.tasks).splitlines()
        assert heading.split() == ["task", "before", "after"]
        assert digit.split()[0] == "digit" and parity.split()[0] == "parity"


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = model(torch.tensor(X))
        (torch_loss(outputs, torch.tensor(DIGIT), 0) + torch_loss(outputs, torch.tensor(PARITY), 1)).backward()
        optimizer.step()


@pytest.mark.parametrize("regrowth", [None, DynamicSurgery(begin=2, end=8, every=2, rate=0.1)])
def test_a_schedule_prunes_for_all_tasks_and_is_resumed(regrowth: Any, tmp_path: Path) -> None:
    recipe = Recipe(0.7, score=MultiTask(), schedule=Cubic(begin=1, end=9, every=4), regrowth=regrowth)
    model = pair()[0]
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    options = {"tasks": tasks(), "example": torch.tensor(X[:2])}
    if regrowth is not None:
        options |= {"data": (X, DIGIT), "loss": functools.partial(torch_loss, head=0)}
    whole = st.Pruner(model, recipe, optimizer, **options)
    train(model, optimizer, 5)
    whole.save(tmp_path / "saved")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    train(model, optimizer, 6)
    assert whole.finished and whole.sparsity == pytest.approx(0.7, abs=0.01)
    assert whole.tasks["parity"].after == right(model, 1, PARITY) != whole.tasks["parity"].before

    other = pair()[0]
    new = torch.optim.Adam(other.parameters(), 0.02)
    resumed = st.Pruner(other, recipe, new, resume=tmp_path / "saved", **options)
    new.load_state_dict(torch.load(tmp_path / "optimizer.pt"))
    train(other, new, 6)
    assert all(np.array_equal(mask, resumed.masks[name]) for name, mask in whole.masks.items())
    assert resumed.tasks["digit"] == (None, right(other, 0, DIGIT))


def test_keras_prunes_for_all_tasks_while_it_fits() -> None:
    model = pair()[1]
    model.compile("adam", [ENTROPY, ENTROPY])
    pruner = sk.Pruner(Recipe(0.7, score=MultiTask(), schedule=Cubic(begin=1, end=9, every=4)), tasks=tasks(keras_loss))
    model.fit(X, [DIGIT, PARITY], batch_size=8, epochs=2, verbose=0, callbacks=[pruner])
    assert pruner.finished and pruner.sparsity == pytest.approx(0.7, abs=0.01)
    assert pruner.tasks["digit"].after == right(model, 0, DIGIT)


def test_tasks_are_measured_whatever_the_score_and_not_after_loading(tmp_path: Path) -> None:
    model = pair()[0]
    pruned = st.prune(model, Recipe(0.5), tasks={"digit": tasks()["digit"], "silent": Task()})
    assert pruned.tasks["digit"].after == right(model, 0, DIGIT)
    assert pruned.tasks["silent"] == (None, None)
    assert str(pruned.tasks).splitlines()[-1].split() == ["silent", "-", "-"]
    pruned.save(tmp_path / "saved")
    assert not st.load(tmp_path / "saved", Two()).tasks


@pytest.mark.parametrize(
    ("recipe", "options", "error", "match"),
    [
        (Recipe(0.5, score=MultiTask()), {}, MissingDataError, "pass tasks="),
        (Recipe(0.5, score=MultiTask()), {"tasks": [Task()]}, MissingDataError, "give name -> Task"),
        (Recipe(0.5, score=MultiTask()), {"tasks": {"a": (X, DIGIT)}}, MissingDataError, "give name -> Task"),
        (Recipe(0.5, score=MultiTask()), {"tasks": {"a": Task()}}, MissingDataError, "task 'a': Taylor is computed"),
        (
            Recipe(0.5, score=MultiTask(weights={"b": 1})),
            {"tasks": {"a": Task((X, DIGIT))}},
            NoMatchError,
            "weights of b, but the tasks are a",
        ),
        (
            Recipe(0.5, score=MultiTask()),
            {"tasks": {"a": Task(statistics={"mean_gradient": {"stem": X}})}},
            NoMatchError,
            "task 'a': .* has stem",
        ),
        (Recipe(0.5), {"tasks": {"a": Task(evaluate=0.5)}}, MissingDataError, "evaluate of task 'a' is 0.5"),
        (Recipe(0.5), {"tasks": {"a": Task(evaluate=repr)}}, MissingDataError, "task 'a' gives no number"),
    ],
)
def test_tasks_that_do_not_fit_are_refused_and_change_nothing(recipe, options, error, match) -> None:  # type: ignore[no-untyped-def]
    model = pair()[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(error, match=match):
        st.prune(model, recipe, example=torch.tensor(X[:2]), **options)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: MultiTask(Magnitude()), RecipeError, "Magnitude is not computed from a task's data"),
        (lambda: MultiTask(Movement()), RecipeError, "Movement is not computed"),
        (lambda: MultiTask(Random()), RecipeError, "Random is not computed"),
        (lambda: MultiTask(SynFlow()), RecipeError, "SynFlow is not computed"),
        (lambda: MultiTask(SparseGpt()), RecipeError, "SparseGpt changes weights"),
        (lambda: MultiTask(MultiTask()), RecipeError, "give a score"),
        (lambda: MultiTask(Taylor), RecipeError, "give a score"),
        (lambda: MultiTask(combine="median"), RecipeError, "use one of mean, max, min_rank"),
        (lambda: MultiTask(combine="max", weights={"a": 1}), RecipeError, "weighs tasks in a mean only"),
        (lambda: MultiTask(weights=[1, 2]), RecipeError, "give task -> number"),
        (lambda: MultiTask(weights={"a": 0}), OutOfRangeError, "the weight 0.0 of 'a'"),
        (lambda: Recipe(0.5, score=MultiTask(ActivationTaylor())), RecipeError, "a whole unit matters"),
        (
            lambda: Recipe.from_dict(
                {**Recipe(0.5, score=MultiTask()).to_dict(), "score": {"kind": "MultiTask", "score": {"kind": "?"}}}
            ),
            FileFormatError,
            "unknown score",
        ),
    ],
)
def test_what_cannot_be_combined_is_refused_when_it_is_made(build: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        build()


def test_it_is_written_and_read_whole() -> None:
    recipe = Recipe(0.5, score=MultiTask(Wanda(), weights={"a": 2, "b": 1}), scope="row")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert hash(recipe.score) == hash(Recipe.from_dict(recipe.to_dict()).score)
    assert recipe.score.words.startswith("mean share over tasks of |weight|")
