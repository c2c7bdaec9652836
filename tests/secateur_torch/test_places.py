"""Places that depend on data hold back their own axis alone: masked equals removed along all the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence

import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.errors import VerificationError
from secateur.structure.coupling import couple
from torch_halving import halved, units
from torch_sequences import Function

GENERATOR = torch.Generator().manual_seed(0)
NODES = torch.randn(4, 3, dtype=torch.float64, generator=GENERATOR)
EDGES = torch.tensor([[0, 1, 2, 2, 1], [1, 2, 0, 3, 3]])
STEPS = torch.randn(4, 5, 3, dtype=torch.float64, generator=GENERATOR)
PLACES = torch.tensor([[0, 2], [1, 1], [4, 0], [3, 3]])
SOME = STEPS[..., 0] > 0


class Several(Function):
    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.run(self, *inputs)


def between(run: Callable[..., torch.Tensor], **parts: Callable[[], Any]) -> Callable[[], nn.Module]:
    """Linear -> ``run`` -> linear, 6 wide."""

    def forward(self: Any, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return self.last(run(self, self.first(x), *others))

    return lambda: Several(
        forward, first=nn.Linear(3, 6), last=nn.Linear(6, 2), **{name: make() for name, make in parts.items()}
    )


def _written(self: Any, x: torch.Tensor) -> torch.Tensor:
    """A loop over time that reads what it wrote."""
    memory = torch.empty_like(x)
    memory[:, 0] = x[:, 0]
    for time in range(1, x.size(1)):
        memory[:, time] = torch.sigmoid(memory[:, time - 1]) + x[:, time]
    return memory


def _masked(self: Any, x: torch.Tensor, some: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[some] = self.token
    x[:, -1] = 0.0
    return x


def _spelled_out(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Sizes in numbers: the smaller model is the exported graph."""
    memory = torch.zeros(4, 5, 6, dtype=x.dtype)
    memory[:, :, :] = x
    memory[:, 1].copy_(x[:, 0])
    x.view(4, 5, 2, 3)[:, :, 0] = 1.0
    return memory + x


def _experts(out: int) -> Callable[[], nn.Module]:
    return lambda: nn.ModuleList(nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, out)) for _ in range(3))


def _mixtral(self: Any, x: torch.Tensor) -> torch.Tensor:
    """As in transformers: each expert gets the tokens that chose it."""
    tokens = x.reshape(-1, x.shape[-1])
    weights, chosen = torch.topk(self.gate(tokens).softmax(-1), 2, -1)
    result = torch.zeros_like(tokens)
    for number, expert in enumerate(self.experts):
        token, rank = torch.where(chosen == number)
        made = expert(tokens[None, token].reshape(-1, x.shape[-1])) * weights[token, rank, None]
        result.index_add_(0, token, made)
    return result.reshape(x.shape)


def _switch(self: Any, x: torch.Tensor) -> torch.Tensor:
    tokens = x.flatten(0, 1)
    weight, chosen = self.gate(tokens).softmax(-1).max(-1)
    result = tokens.new_zeros(tokens.shape)
    for number, expert in enumerate(self.experts):
        mine = (chosen == number).nonzero().flatten()
        result[mine] = expert(tokens[mine])
    return (result * weight[:, None]).view(x.shape)


PARTS: dict[str, tuple[Callable[[], nn.Module], tuple[torch.Tensor, ...]]] = {
    "index_add": (
        between(lambda self, x, e: torch.zeros_like(x).index_add_(0, e[1], x.sigmoid()[e[0]])),
        (NODES, EDGES),
    ),
    "scatter_add": (
        between(lambda self, x, e: torch.zeros_like(x).scatter_add(0, e[1][:, None].expand(-1, x.size(1)), x[e[0]])),
        (NODES, EDGES),
    ),
    "scatter_reduce": (
        between(
            lambda self, x, e: x.scatter_reduce(0, e[1][:, None].expand(-1, x.size(1)), x.index_select(0, e[0]), "amax")
        ),
        (NODES, EDGES),
    ),
    "scatter of a number": (
        between(lambda self, x, e: x.scatter(0, e[1][:2, None].expand(-1, x.size(1)), 0.5)),
        (NODES, EDGES),
    ),
    "index_copy": (between(lambda self, x, e: x.index_copy(0, e[0, :2], x[:2].tanh())), (NODES, EDGES)),
    "index_fill": (between(lambda self, x, e: x.index_fill(0, e[0, :2], 2.0)), (NODES, EDGES)),
    "index_put": (between(lambda self, x, e: x.index_put((e[0, :2],), x[0], accumulate=True)), (NODES, EDGES)),
    "gather": (
        between(lambda self, x, i: x.gather(1, i[..., None].expand(-1, -1, x.size(-1)))),
        (STEPS, PLACES),
    ),
    "take_along_dim": (between(lambda self, x, i: torch.take_along_dim(x, i[..., None], 1)), (STEPS, PLACES)),
    "mask": (between(lambda self, x, some: x[some]), (STEPS, SOME)),
    "mask of steps": (between(lambda self, x, some: x[:, some[0]]), (STEPS, SOME)),
    "positions apart": (between(lambda self, x, i: x[:, :, None][i[:, 0] % 4, :, i[:, 1] * 0]), (STEPS, PLACES)),
    "several positions": (between(lambda self, x, i: x[torch.arange(4)[:, None], i]), (STEPS, PLACES)),
    "one step": (between(lambda self, x, i: x.index_select(1, i[0, 1])), (STEPS, PLACES)),
    "written": (between(_written), (STEPS,)),
    "written by a mask": (between(_masked, token=lambda: nn.Parameter(torch.ones(6))), (STEPS, SOME)),
    "windows": (between(lambda self, x: x.unfold(1, 3, 2).mean(-1)), (STEPS,)),
}


@pytest.mark.parametrize("name", PARTS)
def test_features_go_through_places(name: str) -> None:
    make, example = PARTS[name]
    for seed in range(2):
        pruned, small = halved(make(), example, seed)
        assert (small.first.out_features, small.last.in_features) == (3, 3)
        assert pruned.form == "your own module, with smaller weights"


def test_places_whose_sizes_the_code_spells_out() -> None:
    pruned, small = halved(between(_spelled_out)(), (STEPS,), 0)
    assert pruned.form == "the graph that torch.export writes of your module"
    assert small.get_parameter("first.weight").shape == (2, 3)


@pytest.mark.parametrize("route", [_mixtral, _switch])
def test_experts_and_the_stream_between_them(route: Callable[..., torch.Tensor]) -> None:
    make = between(route, gate=lambda: nn.Linear(6, 3), experts=_experts(6))
    for seed in range(3):
        pruned, small = halved(make(), (STEPS,), seed)
        assert sorted(units(pruned).values()) == [6, 6, 7, 7, 7] or sorted(units(pruned).values()) == [7, 7, 7, 12]
        assert [expert[0].out_features for expert in small.experts] == [3, 3, 3]


HELD = {
    "gather along units": lambda self, x, i: x.gather(2, i[..., None].expand(-1, -1, 6)),
    "units by number": lambda self, x, i: x[:, :, i[0]].mean(-1, keepdim=True).expand(-1, -1, 6),
    "one unit": lambda self, x, i: x.index_select(2, i[0, 1]).expand(-1, -1, 6),
    "a mask of units": lambda self, x, i: (x * 1)[x > 0].sum() + x,
    "scattered into units": lambda self, x, i: x.scatter_add(2, i[..., None].expand(-1, -1, 6), x),
    "assigned to some units": lambda self, x, i: (x.__setitem__((slice(None), 0, i[0]), 1.0), x)[1],
}


@pytest.mark.parametrize("name", HELD)
def test_units_that_are_places_stay(name: str) -> None:
    places = (PLACES, torch.tensor([[0, 1, 2, 3, 4]] * 4))["gather" in name or "scattered" in name]
    graph = st.graph(between(HELD[name])(), (STEPS.float(), places))
    assert couple(graph).count == 0


def _packed(enforce_sorted: bool, batch_first: bool, last: bool) -> Callable[..., torch.Tensor]:
    def forward(self: Any, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        given = pack_padded_sequence(
            x if batch_first else x.transpose(0, 1), lengths, batch_first=batch_first, enforce_sorted=enforce_sorted
        )
        steps, state = self.layer(given)
        if last:
            return self.last((state[0] if isinstance(state, tuple) else state)[-1])
        padded, found = pad_packed_sequence(steps, batch_first=batch_first)
        return self.last(padded) * (1 + 0 * found.sum())

    return forward


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("last", "settings"), [(False, {}), (True, {"num_layers": 2, "bidirectional": True})])
def test_units_and_inputs_of_packed_sequences(kind: Any, last: bool, settings: dict[str, Any]) -> None:
    batch_first, width = not last, 6 * (1 if last else 1 + settings.get("bidirectional", 0))
    model = Several(
        _packed(last is False, batch_first, last),
        first=nn.Linear(3, 4),
        layer=kind(4, 6, batch_first=batch_first, **settings),
        last=nn.Linear(width, 2),
    )
    lengths = torch.tensor([2, 5, 3, 3] if last else [5, 3, 3, 1])
    pruned, small = halved(model, (STEPS, lengths), 1)
    assert (small.layer.hidden_size, small.layer.input_size) == (3, 2)
    assert units(pruned) == {"first": 4, "layer.weight_ih_l0": 6}


def test_packed_sequences_beside_a_size_in_the_code_are_refused_by_their_line() -> None:
    """No graph of ``torch.export`` has them, and the code runs at one width alone."""

    def run(self: Function, x: torch.Tensor) -> torch.Tensor:
        lengths = (x[..., 0] > 0).sum(1)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.last(states[:, :2].reshape(-1, 12))

    model = Function(run, rnn=nn.LSTM(3, 6, batch_first=True), last=nn.Linear(12, 2)).double()
    x = torch.ones(3, 4, 3, dtype=torch.float64)
    pruned = st.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=x)
    told = r"it packs sequences \(.*test_places\.py:\d+ pack_padded_sequence\), which torch\.export cannot"
    with pytest.raises(VerificationError, match=told):
        pruned.compact()


def test_a_projected_layer_and_sequences_in_a_list() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        packed = pack_sequence([x[0], x[1, :3], x[2, :1]])
        steps, _ = pad_packed_sequence(self.layer(packed)[0])
        return self.last(pad_sequence([steps[:, 0], steps[:2, 1]], batch_first=True))

    model = Several(forward, first=nn.Linear(3, 4), layer=nn.LSTM(4, 6, proj_size=5), last=nn.Linear(5, 2))
    pruned, small = halved(model, (STEPS,), 2)
    assert (small.layer.hidden_size, small.layer.proj_size, small.layer.input_size) == (3, 2, 2)
    assert sum(units(pruned).values()) == 15


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_several_lengths(mode: str) -> None:
    model = Several(
        lambda self, x, starts: self.last(self.table(x, starts)),
        table=nn.EmbeddingBag(9, 6, mode=mode),
        last=nn.Linear(6, 2),
    )
    _, small = halved(model, (torch.tensor([1, 5, 8, 0, 3, 3]), torch.tensor([0, 2, 3])), 0)
    assert small.table.embedding_dim == 3


IMAGE = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=GENERATOR)


def _sampled(self: Any, x: torch.Tensor) -> torch.Tensor:
    turn = self.turn(x.mean((2, 3))).view(-1, 2, 3)
    grid = functional.affine_grid(turn, x.size(), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


SPATIAL: dict[str, tuple[Callable[..., torch.Tensor], int, dict[str, Any]]] = {
    "grid_sample": (_sampled, 8, {"turn": nn.Linear(8, 6)}),
    "unfold": (lambda self, x: functional.unfold(x, 2, stride=2).unflatten(2, (3, 3)), 32, {}),
    "fold": (lambda self, x: functional.fold(x.flatten(2), (7, 7), 2), 2, {}),
}


@pytest.mark.parametrize("name", SPATIAL)
def test_channels_of_windows_and_of_sampled_images(name: str) -> None:
    run, width, parts = SPATIAL[name]
    model = Several(
        lambda self, x: self.last(run(self, self.first(x))).mean((2, 3)),
        first=nn.Conv2d(3, 8, 1),
        last=nn.Conv2d(width, 2, 1),
        **parts,
    )
    pruned, small = halved(model, IMAGE, 0)
    assert small.first.out_channels == 4
    assert small.last.in_channels == width // 2
    assert pruned.form == "your own module, with smaller weights"


class Attention(nn.Module):
    """Averaged or separate weights are outputs of the model, if it returns them."""

    def __init__(self, queries: bool, returned: str, **settings: Any) -> None:
        super().__init__()
        self.queries, self.returned = queries, returned
        self.first, self.keys, self.last = nn.Linear(3, 8), nn.Linear(3, settings.get("kdim", 8)), nn.Linear(8, 2)
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True, **settings)

    def forward(self, x: torch.Tensor) -> Any:
        keys = self.keys(x) if self.queries else self.first(x)
        y, weights = self.attention(
            self.first(x)[:, :2] if self.queries else keys,
            *(keys, keys),
            need_weights=bool(self.returned),
            average_attn_weights=self.returned == "averaged",
        )
        return (self.last(y), weights) if self.returned else self.last(y)


LEARNED = {"add_bias_kv": True, "add_zero_attn": True}


@pytest.mark.parametrize(
    ("queries", "returned", "settings", "kind"),
    [
        (False, "", LEARNED, Neurons()),
        (True, "", {**LEARNED, "bias": False}, Neurons()),
        (True, "averaged", LEARNED, Neurons()),
        (False, "averaged", {}, Neurons()),
        (False, "separate", {}, Neurons()),
        (False, "", {}, Neurons(heads=False)),
        (True, "", {"kdim": 5, "vdim": 5}, Neurons(heads=False)),
    ],
)
def test_what_pytorchs_attention_lets_go_can_be_compacted(
    queries: bool, returned: str, settings: dict[str, Any], kind: Neurons
) -> None:
    """Weights that are returned hold its heads back."""
    pruned, small = halved(Attention(queries, returned, **settings), STEPS, 3, kind)
    width = small.get_parameter("attention.out_proj.weight").shape[1]
    assert width == (8 if returned else 4)
    layer = "attention.q_proj_weight" if "kdim" in settings else "attention"
    assert units(pruned).get(layer, 0) == (0 if returned else 4)
