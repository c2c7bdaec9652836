"""A deep copy of a held model is held; files, traces and smaller models know nothing of it."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.errors import TraceError
from secateur_torch import masking
from secateur_torch.copies import KEY

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
Masks = dict[str, np.ndarray]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)))


def held() -> tuple[nn.Sequential, Masks]:
    model = network()
    return model, st.prune(model, Recipe(0.5)).masks


class Particular(nn.Linear):
    """Has its own idea of what a copy is."""

    def __init__(self) -> None:
        super().__init__(6, 2)
        self.words = {"a": [1]}

    def __deepcopy__(self, memo: dict[int, Any]) -> Particular:
        twin = Particular()
        memo[id(self)] = twin
        twin.load_state_dict(self.state_dict())
        twin.words["copied"] = [2]
        return twin


def test_what_is_copied_quickly_is_copied_as_deepcopy_does() -> None:
    plain: Any = nn.Linear(6, 2)
    plain.own = plain.same = []
    plain.other = []
    plain.words, plain.inner = {"a": [1]}, [plain, nn.Conv2d(2, 2, 1)]
    plain.size, plain.again = (2, "same", [3]), {"words": plain.words, "module": plain, "size": (1, 2)}
    plain.again["again"] = plain.again
    model = nn.Sequential(plain, plain, Particular(), nn.LSTM(2, 3), nn.Conv2d(2, 2, 1))
    twin = masking.free_copy(model)
    assert twin[0] is twin[1] and twin[0] is not plain and twin[0].inner[0] is twin[0]
    assert twin[0].own is twin[0].same and twin[0].own is not twin[0].other and twin[0].own is not plain.own
    assert twin[0].words == {"a": [1]} and twin[0].words["a"] is not plain.words["a"]
    assert twin[0].size == plain.size and twin[0].size[2] is not plain.size[2]
    assert twin[0].again["words"] is twin[0].words and twin[0].again["module"] is twin[0]
    assert twin[0].again["again"] is twin[0].again and twin[0].again is not plain.again
    assert twin[2].words["copied"] == [2] and "copied" not in model[2].words
    assert twin[3]._flat_weights[0] is twin[3].weight_ih_l0
    for (name, old), (other, new) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert name == other and old is not new and torch.equal(old, new)
    for old, new in zip(model.modules(), twin.modules(), strict=True):
        assert vars(old).keys() == vars(new).keys() and old._forward_hooks is not new._forward_hooks


def leaks(model: nn.Module, masks: Masks) -> bool:
    """Whether training moves a masked weight (masks in PyTorch's layout); every kept one must have moved."""
    before = {name: model.get_parameter(name).detach().clone() for name in masks}
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        model(torch.ones(4, next(model.parameters()).shape[1])).square().sum().backward()
        optimizer.step()
    pairs = {name: (model.get_parameter(name).detach().numpy(), mask) for name, mask in masks.items()}
    assert any((tensor[mask] != before[name].numpy()[mask]).any() for name, (tensor, mask) in pairs.items())
    return any(tensor[~mask].any() for tensor, mask in pairs.values())


def holds() -> int:
    """How many are in force."""
    gc.collect()
    return len(masking._holds)


def part(masks: Masks, prefix: str) -> Masks:
    return {name.removeprefix(prefix): mask for name, mask in masks.items() if name.startswith(prefix)}


def test_a_deep_copy_is_held_and_so_is_its_copy() -> None:
    model, masks = held()
    twin = copy.deepcopy(model)
    del model
    gc.collect()
    second = copy.deepcopy(twin)
    assert not leaks(twin, masks)
    assert not leaks(second, masks)


def test_a_copy_of_a_part_is_held() -> None:
    model, masks = held()
    twin = copy.deepcopy(model[2])
    bag = copy.deepcopy({"part": model[0], "list": nn.ModuleList([model[2]])})
    del model
    gc.collect()
    assert not leaks(twin, part(masks, "2."))
    assert not leaks(bag["part"], part(masks, "0."))
    assert not leaks(bag["list"][0], part(masks, "2."))


def test_a_copy_inside_of_a_larger_module_is_held() -> None:
    model, masks = held()
    wrapper = nn.Sequential(model, nn.Linear(2, 2))
    assert not leaks(copy.deepcopy(wrapper)[0], masks)


def test_a_copy_of_the_second_owner_of_a_shared_weight_is_held() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    mask = st.prune(model, Recipe(0.5)).masks["0.weight"]
    assert not leaks(copy.deepcopy(model[2]), {"weight": mask})
    twin = copy.deepcopy(model)
    assert twin[0].weight is twin[2].weight
    assert not leaks(twin, {"0.weight": mask})


def test_a_copy_of_a_traced_module_is_held() -> None:
    model, masks = held()
    traced = torch.fx.symbolic_trace(model)
    assert not leaks(copy.deepcopy(copy.deepcopy(traced)), masks)


def test_masks_of_two_prunings_follow_into_a_copy() -> None:
    model = network()
    first = st.prune(model, Recipe(0.5, include=["0"]))
    second = st.prune(model, Recipe(0.5, include=["2.0"]))
    masks = first.masks | second.masks
    assert not leaks(copy.deepcopy(model), masks)
    first.release()
    twin = copy.deepcopy(model)
    assert leaks(twin, masks)
    assert not leaks(twin, second.masks)


def test_a_copy_has_the_masks_of_its_time() -> None:
    model = network()
    first, second = {"0.weight": half(12, 6)}, {"2.0.weight": half(8, 12)}
    hold = masking.hold(model, first)
    early = copy.deepcopy(model)
    hold.update(second)
    late = copy.deepcopy(model)
    assert not leaks(early, first)
    assert not leaks(late, second)
    assert leaks(late, first)


def half(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape) < 0.5


def test_release_leaves_nothing_behind() -> None:
    model = network()
    before, count = [set(vars(module)) for module in model.modules()], holds()
    pruned = st.prune(model, Recipe(0.5))
    masks = pruned.masks
    pruned.release()
    assert [set(vars(module)) for module in model.modules()] == before
    assert holds() == count
    assert leaks(copy.deepcopy(model), masks)


def test_the_holds_of_copies_go_with_them() -> None:
    model, _ = held()
    count = holds()
    twins = [copy.deepcopy(model), copy.deepcopy(model[2])]
    assert holds() == count + 2
    del twins
    assert holds() == count


def test_a_copy_that_fails_is_not_held() -> None:
    model, _ = held()
    model.log = Path(__file__).open("rb")  # noqa: SIM115 - closed below
    count = holds()
    with model.log, pytest.raises(TypeError):
        copy.deepcopy(model)
    assert holds() == count


def test_a_copied_dictionary_of_attributes_holds_nothing() -> None:
    model, _ = held()
    count = holds()
    copied = copy.deepcopy(vars(model[0]))
    assert holds() == count
    assert torch.equal(copied["_parameters"]["weight"], model[0].weight)


def test_the_smaller_model_is_free() -> None:
    model = network()
    free = [set(vars(module)) for module in model.modules()]
    pruned = st.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=X)
    count = holds()
    small = pruned.compact()
    assert holds() == count
    assert [set(vars(module)) for module in small.modules()] == free


def test_a_free_copy_leaves_the_hold_of_the_original_alone() -> None:
    model, masks = held()
    before = holds()
    twin = masking.free_copy(model)
    assert holds() == before
    assert not any(KEY in vars(module) for module in twin.modules())
    assert leaks(twin, masks) and not leaks(model, masks)


def test_a_model_that_cannot_be_made_smaller_leaves_no_hold() -> None:
    model = network()
    pruned = st.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=X)
    model.log = Path(__file__).open("rb")  # noqa: SIM115 - closed below
    count = holds()
    with model.log, pytest.raises(TraceError):
        pruned.compact()
    assert holds() == count


TRACES: dict[str, Callable[[nn.Module], Any]] = {
    "script": torch.jit.script,
    "jit": lambda model: torch.jit.trace(model, X),
    "fx": torch.fx.symbolic_trace,
    "export": lambda model: torch.export.export(model, (X,)).module(),
    "compile": lambda model: torch.compile(model, backend="eager", fullgraph=True),
    "data parallel": nn.DataParallel,
}


@pytest.mark.parametrize("trace", TRACES)
def test_a_held_model_is_traced_like_any_other(trace: str) -> None:
    model, _ = held()
    for each in (model, copy.deepcopy(model)):
        torch.testing.assert_close(TRACES[trace](each)(X), model(X))


@pytest.mark.parametrize("options", [{"weights_only": False}, {"weights_only": True}])
def test_a_pickled_model_loads_without_secateur_and_can_be_pruned_again(options: dict[str, bool]) -> None:
    model, _ = held()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    with torch.serialization.safe_globals([nn.Sequential, nn.Linear, nn.Tanh, nn.ReLU]):
        loaded = torch.load(file, **options)
    assert torch.equal(loaded(X), model(X))
    masks = st.prune(loaded, Recipe(0.6)).masks
    assert not leaks(loaded, masks)
    assert not leaks(copy.deepcopy(loaded), masks)


def test_a_pickled_model_loads_in_a_process_that_has_no_secateur(tmp_path: Path) -> None:
    model, masks = held()
    torch.save(model, tmp_path / "model.pt")
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    code = (
        "import pickle, sys, torch\n"
        "sys.modules['secateur'] = sys.modules['secateur_torch'] = None\n"
        f"a = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        f"b = pickle.load(open({str(tmp_path / 'model.pickle')!r}, 'rb'))\n"
        "print(sum(int((tensor == 0).sum()) for model in (a, b) for tensor in model.parameters()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(found) == 2 * sum(int((~mask).sum()) for mask in masks.values())


def test_a_shallow_copy_shares_its_held_weights() -> None:
    model, masks = held()
    assert not leaks(copy.copy(model), masks)
