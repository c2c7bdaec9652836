"""Models whose code spells sizes out: the smaller model is the exported graph, and an ordinary module all the same."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Heads, Magnitude, Neurons, Recipe
from secateur.errors import VerificationError

WRITTEN = "the graph that torch.export writes of your module"
HALF = Recipe(0.5, Neurons(), Magnitude(), scope="layer")


class Encoder(nn.Module):
    """PyTorch's own attention, and a width in numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.attention = nn.MultiheadAttention(12, 4, batch_first=True)
        self.norm = nn.LayerNorm(12)
        self.wide, self.narrow = nn.Linear(12, 20), nn.Linear(20, 12)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        wide = functional.gelu(self.wide(x)).view(-1, 5, 20)
        return self.head(x + self.narrow(self.dropout(wide)))


class Widths(nn.Module):
    """Two layers, and the width between them in numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).view(-1, 5, 8))


class Flattened(nn.Module):
    """A flat size in numbers, groups, and a batch norm that goes on training."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 16, 3, groups=4, padding=1)
        self.head = nn.Linear(256, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.grouped(functional.relu(self.norm(self.first(x))))
        return self.head(functional.max_pool2d(x, 2).view(-1, 256))


class Causal(nn.Module):
    """One kernel for queries, keys and values, split at 12 and 24; tied embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 12)
        self.norm = nn.RMSNorm(12)
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        batch, time, _ = x.shape
        parts = [part.view(batch, time, 3, 4).transpose(1, 2) for part in self.qkv(self.norm(x)).split(12, dim=2)]
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, 12))
        return functional.linear(x, self.table.weight)


class Sliced(nn.Module):
    """Pieces of an axis by number, one of them rolled, and constants of a fixed width."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 12), nn.Linear(5, 7), nn.Linear(14, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.first(x))
        kept = torch.cat([x[:, 2:5], x[:, 7:11].roll(1, dims=1)], dim=1)
        other = torch.sigmoid(self.second(kept[:, :5]) + torch.ones(7, dtype=x.dtype))
        return self.head(torch.cat([kept, other], dim=1))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], torch.Tensor]]] = {
    "attention": (Encoder, lambda batch: torch.randn(batch, 5, 8).double()),
    "layer": (
        lambda: nn.Sequential(Widths(), nn.TransformerEncoderLayer(12, 4, 24, batch_first=True)),
        lambda batch: torch.randn(batch, 5, 6).double(),
    ),
    "flattened": (Flattened, lambda batch: torch.randn(batch, 3, 8, 8).double()),
    "causal": (Causal, lambda batch: torch.randint(0, 30, (batch, 6))),
    "sliced": (Sliced, lambda batch: torch.randn(batch, 6).double()),
}


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Callable[[int], torch.Tensor]]:
    torch.manual_seed(0)
    make, example = MODELS[request.param]
    return make().double().eval(), example


def compacted(case: tuple[nn.Module, Any], batch: int = 1) -> tuple[st.Pruned, nn.Module]:
    pruned = st.prune(case[0], HALF, example=case[1](batch))
    return pruned, pruned.compact()


def test_the_exported_graph_gives_what_the_masked_model_gives(case: tuple[nn.Module, Any]) -> None:
    pruned, small = compacted(case)
    assert pruned.form == WRITTEN
    assert pruned.max_error is not None and pruned.max_error < 1e-12
    for batch in (1, 4):
        x = case[1](batch)
        torch.testing.assert_close(small(x), case[0](x), rtol=1e-10, atol=1e-12)
    assert sum(p.numel() for p in small.parameters()) < 0.85 * sum(p.numel() for p in case[0].parameters())
    assert list(small.state_dict()) == list(case[0].state_dict())


def test_it_trains_is_copied_and_saved_as_any_module(case: tuple[nn.Module, Any], tmp_path: Path) -> None:
    small = compacted(case)[1].train()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    before = [parameter.clone() for parameter in small.parameters()]
    small(case[1](3)).square().mean().backward()
    optimizer.step()
    assert any(not torch.equal(old, new) for old, new in zip(before, small.parameters(), strict=True))
    twin, x = copy.deepcopy(small).eval(), case[1](2)
    torch.testing.assert_close(twin(x), small.eval()(x), rtol=0, atol=0)
    torch.save(small.state_dict(), tmp_path / "weights.pt")
    twin.load_state_dict(torch.load(tmp_path / "weights.pt"))
    again = torch.export.export(small, (x,))
    torch.testing.assert_close(again.module()(x), small(x), rtol=1e-12, atol=1e-12)


def test_dropout_and_batch_normalisation_follow_the_mode() -> None:
    torch.manual_seed(1)
    small = compacted((Encoder().double(), MODELS["attention"][1]))[1]
    x = MODELS["attention"][1](2)
    small.train()
    assert not torch.equal(small(x), small(x))
    small.eval()
    assert torch.equal(small(x), small(x))
    small = compacted((Flattened().double(), MODELS["flattened"][1]))[1].train()
    before = small.get_buffer("norm.running_mean").clone()
    small(MODELS["flattened"][1](4))
    assert not torch.equal(before, small.get_buffer("norm.running_mean"))


def test_heads_alone() -> None:
    torch.manual_seed(2)
    model = Encoder().double()
    pruned = st.prune(model, Recipe(0.5, Heads()), example=torch.randn(1, 5, 8).double())
    small = pruned.compact()
    assert small.get_parameter("attention.in_proj_weight").shape == (18, 12)
    assert small.get_parameter("wide.weight").shape == (20, 12)


def test_what_a_normalisation_averages_over_goes_on_request() -> None:
    torch.manual_seed(3)
    pruned = st.prune(
        Encoder().double(), Recipe(0.25, Neurons(exact=False), scope="layer"), example=torch.randn(1, 5, 8).double()
    )
    small = pruned.compact()
    assert pruned.form == WRITTEN
    assert small.get_parameter("embed.weight").shape == (9, 8)
    assert small.get_parameter("norm.weight").shape == (9,)


class Resized(nn.Module):
    """Computes with a size: no form of it gives the same."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 12), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x) / x.shape[-1]


def test_a_model_that_computes_with_a_size_is_exported_with_the_number_it_had() -> None:
    pruned = st.prune(Resized().double(), HALF, example=torch.randn(2, 6).double())
    small = pruned.compact()
    assert pruned.form == WRITTEN and small.get_parameter("first.weight").shape == (6, 6)


class Branching(nn.Module):
    """Neither a fixed width nor a branch on numbers can be helped."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 12), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x).view(-1, 12)
        return self.second(hidden if bool(x.sum() > 0) else -hidden)


def test_what_can_be_made_smaller_in_no_form_is_refused_with_both_reasons() -> None:
    model = Branching().double()
    pruned = st.prune(model, HALF, example=torch.ones(2, 6).double())
    with pytest.raises(VerificationError, match=r"spell out a size.*Nor can it be made in another way.*torch\.export"):
        pruned.compact()


class OwnNorm(nn.Module):
    """As every library of language models writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.rand(width) + 0.5), 1e-3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


class FixedHeads(nn.Module):
    """The number of heads in the code, and the user's own norm along the stream that shrinks."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm, self.qkv = nn.Embedding(30, 12), OwnNorm(12), nn.Linear(12, 36)
        self.out, self.head = nn.Linear(12, 12), nn.Linear(12, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        batch, time = tokens.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, time, 3, 4, 3).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, time, -1)
        return self.head(x + self.out(mixed))


def test_a_norm_of_the_users_shrinks_in_the_exported_graph_too() -> None:
    torch.manual_seed(3)
    tokens = torch.randint(0, 30, (2, 6))
    model = FixedHeads().double()
    pruned = st.prune(model, HALF, example=tokens)
    small = pruned.compact()
    assert pruned.form == WRITTEN and pruned.max_error is not None and pruned.max_error < 1e-12
    assert small.get_parameter("table.weight").shape == (30, 6)
    other = torch.randint(0, 30, (3, 9))
    torch.testing.assert_close(small(other), model(other), rtol=1e-10, atol=1e-12)


class Coarse(nn.Module):
    """64-bit weights, and an activation in 32."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(40, 60), nn.Linear(60, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second((1e3 * self.first(x)).float().exp().log1p().double())


def test_outputs_need_be_no_more_alike_than_what_the_model_computes_with() -> None:
    torch.manual_seed(4)
    model = Coarse().double()
    x = torch.randn(2, 40).double() / 50
    assert st.graph(model, x).precision == "float32"
    assert st.graph(Encoder().double(), torch.randn(1, 5, 8).double()).precision == "float64"


class Stepwise(nn.Module):
    """A loop over time, which an exported graph holds for one length alone, and a width in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back, self.out = nn.Linear(5, 12), nn.Linear(12, 12, bias=False), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(x.shape[0], 12)
        for step in x.unbind(1):
            h = torch.tanh(self.into(step) + self.back(h))
        return self.out(h)


def test_a_size_that_the_graph_is_not_for_is_refused() -> None:
    torch.manual_seed(5)
    pruned = st.prune(Stepwise().double(), HALF, example=torch.randn(3, 4, 5).double())
    small = pruned.compact()
    assert pruned.form == WRITTEN and small(torch.randn(7, 4, 5).double()).shape == (7, 3)
    with pytest.raises(ValueError, match=r"written for \(any, 4, 5\)"):
        small(torch.randn(3, 6, 5).double())


class Attending(nn.Module):
    """Attention as it is called by default: with weights that nobody reads, and dropout."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.into, self.attention = nn.Linear(6, 16), nn.MultiheadAttention(16, 4, dropout=0.5, batch_first=True)
        self.out, self.options = nn.Linear(16, 3), options

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        x = self.into(x).view(-1, 5, 16)
        return self.out(self.attention(x, x, x, **self.options)[0]) * scale


@pytest.mark.parametrize("options", [{}, {"need_weights": False}])
def test_attention_as_it_is_called_by_default(options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(6)
    x = torch.randn(2, 5, 6)
    model = Attending(**options).eval()
    pruned = st.prune(model, HALF, example={"x": x, "scale": 3.0})
    small = pruned.compact()
    assert small.get_parameter("attention.in_proj_weight").shape == (24, 8)
    assert pruned.form == WRITTEN
    torch.testing.assert_close(small(x=x, scale=3.0), model(x, 3.0), rtol=1e-5, atol=1e-6)
    torch.save(small, tmp_path / "small.pt")
    again = torch.load(tmp_path / "small.pt", weights_only=False)
    torch.testing.assert_close(again(x=x, scale=3.0), small(x=x, scale=3.0), rtol=0, atol=0)


def test_the_dropout_of_an_attention_follows_the_mode() -> None:
    torch.manual_seed(7)
    x = torch.randn(2, 5, 6)
    small = st.prune(Attending(need_weights=False).eval(), HALF, example=x).compact()
    assert torch.equal(small(x), small(x))
    small.train()
    assert not torch.equal(small(x), small(x))


class Crossed(nn.Module):
    """As in XCiT: normalised queries and keys, and a width of each head that is that of the residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.rand(4, 1, 1) + 0.5)
        self.qkv, self.out, self.rate = nn.Linear(12, 36), nn.Linear(12, 12), 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, time, 3, 4, width // 4).permute(2, 0, 3, 4, 1)
        q, k = functional.normalize(q, dim=-1) * self.temperature, functional.normalize(k, dim=-1)
        rate = self.rate if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=rate, scale=1.0)
        return x + self.out(mixed.permute(0, 3, 1, 2).reshape(batch, time, width))


def test_what_is_one_operation_for_the_tracer_may_be_many_in_the_graph() -> None:
    torch.manual_seed(8)
    model = Crossed().double().eval()
    pruned = st.prune(model, Recipe(0.5, Heads()), example=torch.randn(2, 5, 12).double())
    small = pruned.compact()
    assert pruned.form == WRITTEN and pruned.max_error is not None and pruned.max_error < 1e-12
    assert small.get_parameter("temperature").shape == (2, 1, 1)
    for shape in ((1, 5, 12), (3, 9, 12), (2, 1, 12)):
        x = torch.randn(shape).double()
        torch.testing.assert_close(small(x), model(x), rtol=1e-10, atol=1e-12)
    assert torch.equal(small(x), small(x))
    small.train()
    assert not torch.equal(small(x), small(x))


class Asking(nn.Module):
    """Code that asks for the size of its input, and for the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] % 2:
            x = functional.pad(x, (0, 0, 0, 1))
        if self.training:
            x = x + torch.randn_like(x)
        return self.second(self.first(x).relu()[:, 1:6])


def test_a_branch_that_the_graph_lacks_is_refused_and_what_training_lacks_is_told() -> None:
    torch.manual_seed(9)
    model = Asking().double().eval()
    pruned = st.prune(model, HALF, example=torch.randn(1, 3, 8, 8).double())
    small = pruned.compact()
    assert pruned.form == f"{WRITTEN}, without what its code does in training alone"
    for twin in (small, copy.deepcopy(small)):
        for shape in ((1, 3, 8, 8), (2, 3, 12, 9)):
            x = torch.randn(shape).double()
            torch.testing.assert_close(twin(x), model(x), rtol=1e-10, atol=1e-12)
        with pytest.raises(ValueError, match=r"written for those of which .*% 2.*example"):
            twin(torch.randn(1, 3, 9, 8).double())


class Recurrent(nn.Module):
    """Starts from zeros of as many rows as the input has, and has a size in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(12, 3)
        self.reader = nn.GRU(8, 6, bidirectional=True, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.reader(self.first(x).view(-1, 5, 8))[0])


def test_a_graph_that_makes_new_tensors_is_read_from_a_pickle() -> None:
    torch.manual_seed(0)
    pruned, small = compacted((Recurrent(), lambda batch: torch.randn(batch, 5, 6)))
    assert pruned.form == WRITTEN
    again, fresh = pickle.loads(pickle.dumps(small.eval())), torch.randn(7, 5, 6)
    torch.testing.assert_close(again(fresh), small(fresh))
