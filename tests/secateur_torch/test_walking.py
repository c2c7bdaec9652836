"""Modules in PyTorch's own order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur_torch.walking import modules, named_modules

TREES = st.recursive(st.none(), lambda children: st.lists(children, max_size=4), max_leaves=12)


def built(tree: list[object] | None, known: list[nn.Module], shared: st.DataObject) -> nn.Module | None:
    """A module for each list; some are ones that stand elsewhere too, or are missing."""
    if tree is None:
        return shared.draw(st.sampled_from([None, *known]))
    module = nn.Module()
    for index, child in enumerate(tree):
        module.add_module(f"part{index}", built(child, known, shared))
    known.append(module)
    return module


@given(TREES.filter(lambda tree: tree is not None), st.data())
def test_modules_come_as_pytorch_lists_them(tree: list[object], data: st.DataObject) -> None:
    model = built(tree, [], data)
    assert [(path, id(module)) for path, module in named_modules(model)] == [
        (path, id(module)) for path, module in model.named_modules()
    ]
    assert list(map(id, modules(model))) == list(map(id, model.modules()))


def test_a_module_that_holds_itself_is_listed_once() -> None:
    model = nn.Sequential(nn.ReLU())
    model[0].again = model
    assert named_modules(model) == list(model.named_modules())
