"""Masked weights stay exactly zero, through every way of training that PyTorch offers."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import secateur_torch as st
from secateur import Cubic, Gradient, Recipe
from secateur.errors import HoldError
from secateur_torch import masking
from secateur_torch.adapter import TorchAdapter

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
LOSS = nn.CrossEntropyLoss()

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1, foreach=True),
    "fused sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, fused=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "adamw foreach": lambda p: torch.optim.AdamW(p, 0.01, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, 0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
    "nadam": lambda p: torch.optim.NAdam(p, 0.01, decoupled_weight_decay=True),
    "rprop": lambda p: torch.optim.Rprop(p, 0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3),
}


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2)).to(dtype)


def random_masks(model: nn.Module, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {p.name: random.random(p.view.shape) < 0.5 for p in st.parameters(model) if p.role in ("kernel", "bias")}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    dtype = next(model.parameters()).dtype

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = LOSS(model(X.to(dtype)).float(), Y)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def leak(model: nn.Module, masks: dict[str, np.ndarray]) -> float:
    """The largest stored magnitude of a masked weight; -0.0 counts as a leak of 1."""
    found = 0.0
    for name, mask in TorchAdapter().native(model, masks).items():
        values = model.get_parameter(name).detach().to(torch.float64).numpy()[~mask]
        found = max(found, float(np.abs(values).max(initial=0)), float(np.signbit(values).any()))
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("known", [True, False])
def test_no_optimizer_revives_a_weight(optimizer: str, known: bool) -> None:
    model = network()
    trainer = OPTIMIZERS[optimizer](model.parameters())
    train(model, trainer)
    masks = random_masks(model)
    hold = masking.hold(model, masks, trainer if known else None)
    for seed in range(3):
        before = [tensor.detach().clone() for tensor in model.parameters()]
        train(model, trainer, 1)
        assert leak(model, masks) == 0.0
        assert any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
        masks = random_masks(model, seed + 1)
        hold.update(masks)
        assert leak(model, masks) == 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_every_precision(dtype: torch.dtype) -> None:
    model = network(dtype)
    masks = random_masks(model)
    masking.hold(model, masks)
    train(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
    assert leak(model, masks) == 0.0


def test_kept_weights_train_as_without_a_mask() -> None:
    model, free = network(), network()
    masks = {"0.weight": np.ones((12, 6), bool)}
    masking.hold(model, masks)
    for trained in (model, free):
        train(trained, torch.optim.AdamW(trained.parameters(), 0.01))
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), free.parameters(), strict=True))


def test_infinity_and_nan_become_zero() -> None:
    model = network()
    masks = random_masks(model)
    masking.hold(model, masks)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for value in (float("nan"), float("inf")):
        for tensor in model.parameters():
            tensor.grad = torch.full_like(tensor, value)
        optimizer.step()
        assert leak(model, masks) == 0.0


def test_a_regrown_weight_starts_without_momentum() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    hold = masking.hold(model, {"0.weight": np.zeros((12, 6), bool)}, optimizer)
    train(model, optimizer, 5)
    assert optimizer.state[model[0].weight]["momentum_buffer"].count_nonzero() > 0
    hold.update({"0.weight": np.ones((12, 6), bool)})
    for tensor in model.parameters():
        tensor.grad = torch.zeros_like(tensor)
    optimizer.step()
    assert model[0].weight.count_nonzero() == 0


@pytest.mark.parametrize(
    ("make", "slot"),
    [
        (lambda p: torch.optim.Rprop(p, 0.01), "step_size"),
        (lambda p: torch.optim.Adagrad(p, 0.01, initial_accumulator_value=0.5), "sum"),
    ],
)
def test_a_regrown_weight_starts_as_the_optimizer_starts(make: Callable[[Any], Any], slot: str) -> None:
    model = network()
    optimizer = make(model.parameters())
    train(model, optimizer, 2)
    hold = masking.hold(model, {"0.weight": np.zeros((12, 6), bool)}, optimizer)
    train(model, optimizer, 2)
    hold.update({"0.weight": np.ones((12, 6), bool)})
    assert set(optimizer.state[model[0].weight][slot].unique().tolist()) == {
        float(np.float32(0.01 if slot == "step_size" else 0.5))
    }


def test_slots_of_steady_weights_are_kept() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    masks = random_masks(model)
    hold = masking.hold(model, masks, optimizer)
    train(model, optimizer)
    before = optimizer.state[model[0].weight]["exp_avg"].clone()
    fewer = {name: mask & random_masks(model, 1)[name] for name, mask in masks.items()}
    hold.update(fewer)
    kept = torch.from_numpy(fewer["0.weight"])
    slot = optimizer.state[model[0].weight]["exp_avg"]
    assert torch.equal(slot[kept], before[kept])
    assert slot[~kept].count_nonzero() == 0
    assert optimizer.state[model[0].weight]["step"] == 3


def test_gradient_accumulation() -> None:
    model = network()
    masks = random_masks(model)
    masking.hold(model, masks)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(6):
        LOSS(model(X), Y).backward()
        if step % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
        assert leak(model, masks) == 0.0


def test_mixed_precision_with_skipped_steps() -> None:
    model = network()
    masks = random_masks(model)
    masking.hold(model, masks)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    for step in range(4):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = LOSS(model(X), Y)
        scaler.scale(loss * float("inf") if step == 1 else loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert leak(model, masks) == 0.0


def test_an_optimizer_that_steps_in_the_backward_pass() -> None:
    model = network()
    masks = random_masks(model)
    masking.hold(model, masks)
    optimizers = {tensor: torch.optim.SGD([tensor], 0.1, momentum=0.9) for tensor in model.parameters()}
    for tensor in model.parameters():
        tensor.register_post_accumulate_grad_hook(lambda tensor: optimizers[tensor].step())
    for _ in range(3):
        model.zero_grad()
        LOSS(model(X), Y).backward()
        assert leak(model, masks) == 0.0


def test_a_compiled_model_and_a_compiled_step() -> None:
    model = network()
    masks = random_masks(model)
    masking.hold(model, masks)
    compiled = torch.compile(model, backend="eager")
    train(compiled, torch.optim.SGD(compiled.parameters(), 0.1, momentum=0.9))
    assert leak(model, masks) == 0.0
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    step = torch.compile(optimizer.step, backend="eager")
    for _ in range(2):
        LOSS(model(X), Y).backward()
        step()
        assert leak(model, masks) == 0.0


@pytest.mark.parametrize("compiled", ["optimizer", "loop"])
@pytest.mark.parametrize("recipe", [Recipe(0.5), Recipe(0.5, schedule=Cubic(begin=0, end=18, every=1))])
def test_a_compiled_training_prunes_as_an_eager_one(recipe: Recipe, compiled: str) -> None:
    """With more updates than PyTorch would compile one function anew for."""
    runs = []
    for part in ("", compiled):
        torch._dynamo.reset()
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        pruner = st.Pruner(model, recipe, optimizer=optimizer)
        step = compiled_step(model, optimizer, part)
        for _ in range(20):
            masks = TorchAdapter().canonical(model, pruner.masks)
            step()
            assert leak(model, masks) == 0.0
        assert (pruner.step, pruner.sparsity, pruner.finished) == (20, 0.5, True)
        runs.append(model.state_dict())
    assert all(torch.equal(runs[0][name], value) for name, value in runs[1].items())


def compiled_step(model: nn.Module, optimizer: torch.optim.Optimizer, part: str) -> Callable[[], None]:
    """One step of training, of which a part is compiled."""
    update = torch.compile(optimizer.step, backend="eager") if part == "optimizer" else optimizer.step

    def step() -> None:
        optimizer.zero_grad()
        LOSS(model(X), Y).backward()
        update()

    return torch.compile(step, backend="eager") if part == "loop" else step


@pytest.mark.parametrize("mean", [None, torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)])
def test_a_weight_average_of_a_masked_model_is_masked(mean: Any) -> None:
    model = network()
    masks = random_masks(model)
    masking.hold(model, masks)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=mean)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        train(model, optimizer, 1)
        average.update_parameters(model)
        assert leak(average.module, masks) == 0.0
    assert all(tensor.count_nonzero() > 0 for tensor in average.module.parameters())


def test_several_optimizers_and_parameter_groups() -> None:
    model = network()
    masks = random_masks(model)
    masking.hold(model, masks)
    optimizers = [
        torch.optim.SGD([{"params": [model[0].weight]}, {"params": [model[0].bias], "lr": 0.5}], 0.1),
        torch.optim.Adam(model[2].parameters(), 0.1),
    ]
    for _ in range(2):
        LOSS(model(X), Y).backward()
        for optimizer in optimizers:
            optimizer.step()
        assert leak(model, masks) == 0.0


def test_the_hold_lives_as_long_as_the_model() -> None:
    model = network()
    masks = TorchAdapter().canonical(model, st.prune(model, Recipe(0.5)).masks)
    gc.collect()
    train(model, torch.optim.Adam(model.parameters(), 0.1))
    assert leak(model, masks) == 0.0


def test_the_hold_lives_on_in_a_part_of_the_model() -> None:
    model = network()
    backbone = nn.Sequential(model[0], nn.Linear(12, 2))
    masks = TorchAdapter().canonical(model, st.prune(model, Recipe(0.5)).masks)
    del model
    gc.collect()
    train(backbone, torch.optim.Adam(backbone.parameters(), 0.1))
    assert leak(backbone, {"0.weight": masks["0.weight"]}) == 0.0


def test_a_hold_goes_with_its_model() -> None:
    model = network()
    pruned = st.prune(model, Recipe(0.5))
    reference, holds = weakref.ref(model), len(masking._holds)
    del model, pruned
    gc.collect()
    assert reference() is None
    assert len(masking._holds) == holds - 1


def test_a_pruner_that_nobody_keeps_prunes_and_holds_under_the_next_optimizer_too() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    st.Pruner(model, Recipe(0.5, schedule=Cubic(begin=0, end=4, every=1)), optimizer=optimizer)
    gc.collect()
    train(model, optimizer, 5)
    zeros = {name: tensor.detach().numpy() != 0 for name, tensor in model.named_parameters() if "weight" in name}
    assert np.mean(np.concatenate([mask.ravel() for mask in zeros.values()])) == 0.5
    train(model, torch.optim.Adam(model.parameters(), 0.1))
    assert leak(model, zeros) == 0.0


SCHEDULE = Cubic(begin=0, end=10, every=1)
STILL = r"stands still at step 4: another optimizer \(Adam\).*pruner\.advance\(\)"


@pytest.mark.parametrize("kept", [True, False])
def test_a_schedule_that_another_optimizer_stops_says_so_once(kept: bool) -> None:
    model = network()
    first, second = torch.optim.SGD(model.parameters(), 0.1), torch.optim.Adam(model.parameters())
    pruner = st.Pruner(model, Recipe(0.5, schedule=SCHEDULE), optimizer=first)
    train(model, first, 4)
    if not kept:
        del pruner, first
        gc.collect()
    with pytest.warns(UserWarning, match=STILL) as told:
        train(model, second, 8)
    assert len(told) == 1


@pytest.mark.parametrize("case", ["advanced", "finished", "released", "shared", "nested"])
def test_a_schedule_that_goes_on_or_is_over_says_nothing(case: str) -> None:
    model = network()
    parameters = list(model.parameters())
    first = torch.optim.SGD(parameters[:2] if case == "shared" else parameters, 0.1)
    second = torch.optim.Adam(parameters[2:] if case == "shared" else parameters)
    pruner = st.Pruner(model, Recipe(0.5, schedule=SCHEDULE), optimizer=first)
    if case == "nested":
        second.register_step_post_hook(lambda *_: first.step())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, first, 10 if case == "finished" else 4)
        if case == "released":
            pruner.release()
        for _ in range(6):
            train(model, second, 1)
            if case == "advanced":
                pruner.advance()
    assert pruner.finished == (case in ("advanced", "finished", "nested"))


def test_a_pruner_scores_what_the_hold_has_left() -> None:
    """The pruner's own hook runs after the masks are back: gradients are those of the masked model."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)
    recipe = Recipe(0.5, score=Gradient(), schedule=Cubic(begin=0, end=6, every=1))
    pruner = st.Pruner(model, recipe, optimizer=optimizer, data=(X, Y), loss=LOSS)
    for _ in range(6):
        earlier = TorchAdapter().canonical(model, pruner.masks)
        current = copy.deepcopy(model)
        train(current, copy_of(optimizer, model, current), 1)
        TorchAdapter().apply(current, earlier)
        expected = st.statistics(current, (X, Y), LOSS, ["mean_abs_gradient"])
        train(model, optimizer, 1)
        found = pruner.statistics["mean_abs_gradient"]
        for name, value in expected["mean_abs_gradient"].items():
            np.testing.assert_array_equal(found[name], value)


def copy_of(optimizer: torch.optim.Optimizer, model: nn.Module, other: nn.Module) -> torch.optim.Optimizer:
    """The same optimizer, in the same state, of a copy of the model."""
    made = type(optimizer)(other.parameters(), **optimizer.defaults)
    made.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return made


def test_release_ends_the_hold_and_a_pruner() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    pruner = st.Pruner(model, Recipe(0.5, schedule=Cubic(begin=0, end=4, every=1)), optimizer=optimizer)
    train(model, optimizer, 4)
    masks = TorchAdapter().canonical(model, pruner.masks)
    pruner.release()
    train(model, optimizer, 1)
    assert leak(model, masks) > 0.0
    assert pruner.step == 4
    assert not optimizer._optimizer_step_post_hooks


def test_a_foreign_optimizer() -> None:
    model, other = network(), network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(HoldError, match=r"owns none of the weights.*model\.parameters"):
        st.Pruner(model, Recipe(0.5), optimizer=torch.optim.SGD(other.parameters(), 0.1))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("optimizer", [None, "sgd", torch.optim.SGD])
def test_something_else_than_an_optimizer(optimizer: Any) -> None:
    model = network()
    before, holds = copy.deepcopy(model.state_dict()), len(masking._holds)
    with pytest.raises(HoldError, match=rf"optimizer is a {type(optimizer).__name__}: give the torch"):
        st.Pruner(model, Recipe(0.5), optimizer=optimizer)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert len(masking._holds) == holds


def test_the_held_model_stays_an_ordinary_model() -> None:
    model = network()
    keys, shown, modules = list(model.state_dict()), repr(model), dict(model.named_modules())
    masks = TorchAdapter().canonical(model, st.prune(model, Recipe(0.5)).masks)
    assert (list(model.state_dict()), repr(model), dict(model.named_modules())) == (keys, shown, modules)
    twin = pickle.loads(pickle.dumps(model))
    assert leak(twin, masks) == 0.0
    train(twin, torch.optim.SGD(twin.parameters(), 0.1))
    assert leak(twin, masks) == 0.0
    masking.release(twin)
    train(twin, torch.optim.SGD(twin.parameters(), 0.1))
    assert leak(twin, masks) > 0.0
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer)
    pickle.loads(pickle.dumps(optimizer.state_dict()))
    assert leak(model, masks) == 0.0


@pytest.mark.parametrize("assign", [False, True])
def test_a_loaded_checkpoint_is_masked_by_the_next_step(assign: bool) -> None:
    model = network()
    dense = copy.deepcopy(model.state_dict())
    masks = TorchAdapter().canonical(model, st.prune(model, Recipe(0.5)).masks)
    model.load_state_dict(dense, assign=assign)
    train(model, torch.optim.SGD(model.parameters(), 0.1), 1)
    assert leak(model, masks) == 0.0


def test_a_model_that_is_cast_after_pruning() -> None:
    model = network()
    masks = TorchAdapter().canonical(model, st.prune(model, Recipe(0.5)).masks)
    model.double()
    train(model, torch.optim.SGD(model.parameters(), 0.1))
    assert leak(model, masks) == 0.0


def test_a_weight_that_got_another_shape_is_named_an_error_at_the_next_step() -> None:
    model = network()
    st.prune(model, Recipe(0.5))
    model[0].weight = nn.Parameter(torch.ones(6, 6))
    model[0].bias = nn.Parameter(torch.ones(6))
    model[2].weight = nn.Parameter(torch.ones(2, 6))
    with pytest.raises(HoldError, match=r"shape \(6, 6\) now, its mask \(12, 6\)"):
        train(model, torch.optim.SGD(model.parameters(), 0.1))


def test_a_mask_changes_where_it_is_and_frees_what_was_captured_with_it() -> None:
    """As a CUDA graph reads it again at each replay."""
    model = network()
    hold = masking.hold(model, {"0.weight": np.zeros((12, 6), bool), "2.weight": np.zeros((2, 12), bool)})
    bits = [weight.bits for weight in hold.weights()]
    places = [each.data_ptr() for each in bits]
    hold.update({"0.weight": np.ones((12, 6), bool)})
    assert [bool(each.all()) for each in bits] == [True, True]
    hold.update({"0.weight": np.zeros((12, 6), bool)})
    assert next(hold.weights()).bits.data_ptr() == places[0]
    assert not bits[0].any()
    hold.release()
    assert bits[0].all()


def test_shared_and_frozen_weights() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 2))
    model[2].weight = model[0].weight
    model[3].requires_grad_(False)
    masks = TorchAdapter().canonical(model, st.prune(model, Recipe(0.5)).masks)
    assert "2.weight" not in masks
    train(model, torch.optim.SGD([tensor for tensor in model.parameters() if tensor.requires_grad], 0.1))
    assert leak(model, masks) == 0.0
    assert torch.equal(model[0].weight, model[2].weight)


def test_weights_that_are_tied_after_the_pruning_have_the_zeros_of_both() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    masks = dict(st.prune(model, Recipe(0.5, scope="layer")).masks)
    assert not np.array_equal(masks["0.weight"], masks["2.weight"])
    model[2].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.randn(4, 8)).square().sum().backward()
    optimizer.step()
    kept = torch.tensor(masks["0.weight"] & masks["2.weight"])
    assert not model[0].weight[~kept].any() and (model[0].weight[kept] != 0).all()


def test_masks_of_two_prunings_hold_both() -> None:
    model = network()
    first = TorchAdapter().canonical(model, st.prune(model, Recipe(0.5, include=["0"])).masks)
    second = TorchAdapter().canonical(model, st.prune(model, Recipe(0.5, include=["2"])).masks)
    train(model, torch.optim.Adam(model.parameters(), 0.1))
    assert leak(model, first | second) == 0.0
