"""What one forward pass tells about a model's structure: every kind of operation, and honesty about the rest."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur.errors import ExampleError, TraceError
from secateur.structure.coupling import couple
from secateur.structure.graph import Graph, Operation
from secateur_torch.tracing import graph


class Function(nn.Module):
    """A forward of the test's own, with the layers that it uses."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)


def operations(model: nn.Module, example: Any) -> tuple[Operation, ...]:
    return st.graph(model, example).operations


def single(run: Callable[..., Any], *inputs: torch.Tensor, **parts: Any) -> Operation:
    (operation,) = operations(Function(run, **parts), inputs)
    return operation


IMAGE, ROW = torch.randn(2, 4, 6, 6), torch.randn(2, 4)

KINDS: dict[str, tuple[Callable[[torch.Tensor], Any], torch.Tensor, str, dict[str, Any]]] = {
    "relu": (lambda x: torch.relu(x), ROW, "elementwise", {"zero": "all"}),
    "method": (lambda x: x.sigmoid(), ROW, "elementwise", {}),
    "in place": (lambda x: functional.relu(x.clone(), inplace=True), ROW, "elementwise", {"zero": "all"}),
    "operator": (lambda x: 2 - x, ROW, "elementwise", {}),
    "reverse": (
        lambda x: 1 / x,
        ROW,
        "unknown",
        {"reason": "it divides by what would be zero without a unit"},
    ),
    "power": (lambda x: x**2, ROW, "elementwise", {"zero": "all"}),
    "root": (lambda x: x**0.5, ROW, "unknown", {}),
    "quotient": (lambda x: x / 2, ROW, "elementwise", {"zero": "all"}),
    "quotient of tensors": (lambda x: 2 * x / x, ROW, "elementwise", {"zero": "any"}),
    "where": (lambda x: torch.where(torch.ones(4, dtype=torch.bool), x, 0.0), ROW, "elementwise", {"zero": "any"}),
    "dropout": (lambda x: functional.dropout(x, 0.5), ROW, "elementwise", {"zero": "all"}),
    "cast": (lambda x: x.double(), ROW, "elementwise", {"zero": "all"}),
    "type of another": (lambda x: x.type_as(torch.zeros(7).double()), ROW, "elementwise", {"zero": "all"}),
    "to another": (lambda x: x.to(torch.zeros(7, 7).double()), ROW, "elementwise", {"zero": "all"}),
    "max pool": (lambda x: functional.max_pool2d(x, 2), IMAGE, "pool", {"channel_axis": 1}),
    "adaptive pool": (lambda x: functional.adaptive_avg_pool2d(x, 1), IMAGE, "pool", {"channel_axis": 1}),
    "pad": (
        lambda x: functional.pad(x, (1, 0, 2, 1), value=3.0),
        IMAGE,
        "pad",
        {"axis": 2, "before": 2, "after": 1, "zero": False},
    ),
    "interpolate": (lambda x: functional.interpolate(x, scale_factor=2), IMAGE, "pool", {"channel_axis": 1}),
    "expand": (lambda x: x[:, :, None].expand(-1, -1, 5), ROW, "expand", {"shape": (2, 4, 5)}),
    "flatten": (lambda x: x.flatten(1), IMAGE, "reshape", {"shape": (2, 144)}),
    "view": (lambda x: x.view(-1, 12, 12), IMAGE, "reshape", {"shape": (2, 12, 12)}),
    "unsqueeze": (lambda x: x.unsqueeze(-1), ROW, "reshape", {"shape": (2, 4, 1)}),
    "none": (lambda x: x[:, None], ROW, "reshape", {"shape": (2, 1, 4)}),
    "in place unsqueeze": (lambda x: x.clone().unsqueeze_(1), ROW, "reshape", {"shape": (2, 1, 4)}),
    "unflatten": (lambda x: x.unflatten(1, (2, 2)), ROW, "reshape", {"shape": (2, 2, 2)}),
    "squeeze": (lambda x: torch.squeeze(x[..., None], dim=2), ROW, "reshape", {"shape": (2, 4)}),
    "permute": (lambda x: x.permute(0, 2, 3, 1), IMAGE, "permute", {"order": (0, 2, 3, 1)}),
    "transpose": (lambda x: torch.transpose(input=x, dim0=1, dim1=-1), IMAGE, "permute", {"order": (0, 3, 2, 1)}),
    "movedim": (lambda x: x.movedim(1, -1), IMAGE, "permute", {"order": (0, 2, 3, 1)}),
    "T": (lambda x: x.T, ROW, "permute", {"order": (1, 0)}),
    "mT": (lambda x: x.mT, IMAGE, "permute", {"order": (0, 1, 3, 2)}),
    "mean": (lambda x: x.mean((2, 3)), IMAGE, "reduce", {"axes": (2, 3), "keepdims": False}),
    "sum": (
        lambda x: torch.sum(x, dim=-1, keepdim=True),
        IMAGE,
        "reduce",
        {"axes": (3,), "keepdims": True, "sum": True},
    ),
    "axis": (lambda x: x.mean(axis=1), IMAGE, "reduce", {"axes": (1,), "keepdims": False}),
    "all": (lambda x: x.amax(), ROW, "reduce", {"axes": (0, 1), "keepdims": False}),
    "biased": (lambda x: x.std(False), ROW, "unknown", {}),
    "softmax": (lambda x: functional.softmax(x, 1), ROW, "softmax", {"axis": 1}),
    "log softmax": (lambda x: x.log_softmax(dim=-1), ROW, "softmax", {"axis": -1}),
    "maximum along an axis": (lambda x: x.max(1), ROW, "reduce", {"axes": (1,), "keepdims": False}),
    "item": (lambda x: torch.tensor(x.sum().item()), ROW, "unknown", {}),
    "slice": (lambda x: x[:, 1:], ROW, "slice", {"axis": 1, "start": 1, "stop": 4, "step": 1}),
    "gather": (lambda x: x[:, torch.tensor([1, 0])], ROW, "take", {"axis": 1, "indices": (1, 0)}),
    "channels padded": (
        lambda x: functional.pad(x, (0, 0, 0, 0, 1, -1)),
        IMAGE,
        "pad",
        {"axis": 1, "before": 1, "after": 0},
    ),
    "pool with indices": (lambda x: functional.max_pool2d(x, 2, return_indices=True), IMAGE, "unknown", {}),
    "bits": (lambda x: x.view(torch.int32), ROW, "unknown", {}),
    "layer norm": (lambda x: functional.layer_norm(x, (4,)), ROW, "standardize", {"axes": (-1,)}),
    "einsum": (
        lambda x: torch.einsum("bi,bj->bij", x, x),
        ROW,
        "contract",
        {"labels": ((1, 8), (1, 9)), "result": (1, 8, 9)},
    ),
    "implicit softmax": (lambda x: functional.softmax(x, _stacklevel=3, dtype=torch.float64), ROW, "unknown", {}),
}


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_operation(name: str) -> None:
    run, example, kind, settings = KINDS[name]
    last = operations(Function(lambda self, x: run(x)), example)[-1]
    assert last.kind == kind
    assert dict(last.settings) == settings


def test_layers_and_their_functions_are_the_same() -> None:
    layer = nn.Conv2d(4, 6, 3, groups=2)
    by_layer = operations(nn.Sequential(layer), IMAGE)
    run = Function(lambda self, x: functional.conv2d(x, self.layer.weight, self.layer.bias, groups=2), layer=layer)
    by_function = operations(run, IMAGE)
    assert [o.kind for o in by_layer] == [o.kind for o in by_function] == ["convolution"]
    assert by_layer[0].settings == by_function[0].settings == {"channel_axis": 1, "groups": 2}
    assert by_layer[0].parameters == {"kernel": "0.weight", "bias": "0.bias"}
    assert by_function[0].parameters == {"kernel": "layer.weight", "bias": "layer.bias"}


def test_batch_normalisation_names_its_parts() -> None:
    (operation,) = operations(nn.BatchNorm2d(4), IMAGE)
    assert operation.kind == "normalize"
    assert operation.parameters == {
        "scale": "weight",
        "shift": "bias",
        "mean": "running_mean",
        "variance": "running_var",
    }


def test_learned_operands_buffers_and_constants() -> None:
    model = Function(
        lambda self, x: x * self.scale + self.buffer - torch.arange(4) + self.scalar,
        scale=nn.Parameter(torch.ones(4)),
        buffer=torch.ones(4),
        scalar=nn.Parameter(torch.ones(())),
    )
    graph = st.graph(model, ROW)
    first, held, second, third, fourth = graph.operations
    assert (first.kind, dict(first.parameters), len(first.inputs)) == ("elementwise", {"operand1": "scale"}, 1)
    assert (dict(second.parameters), len(second.inputs)) == ({}, 2)
    assert (dict(third.parameters), len(third.inputs)) == ({}, 2)
    assert dict(fourth.parameters) == {"operand1": "scalar"}
    written = {tensor for operation in graph.operations for tensor in operation.outputs}
    assert (held.kind, dict(held.parameters), held.outputs) == ("weight", {"weight": "buffer"}, second.inputs[1:])
    assert graph.parameters["buffer"].role == "constant"
    assert third.inputs[1] not in written
    assert third.inputs[1] not in graph.inputs


def test_prelu_with_one_slope_and_with_many() -> None:
    assert single(lambda self, x: self.act(x), ROW, act=nn.PReLU()).kind == "elementwise"
    many = single(lambda self, x: self.act(x), ROW, act=nn.PReLU(4))
    assert (many.kind, many.settings, many.parameters) == ("normalize", {"axis": 1}, {"slope": "act.weight"})


def test_computed_weights_are_tensors_that_are_multiplied() -> None:
    model = Function(lambda self, x: functional.linear(x, self.layer.weight.abs()), layer=nn.Linear(4, 4))
    assert [o.kind for o in operations(model, ROW)] == ["weight", "elementwise", "contract"]
    normed = Function(lambda self, x: functional.linear(x, self.layer.weight.softmax(1)), layer=nn.Linear(4, 4))
    assert couple(st.graph(normed, ROW)).count == 0


def test_a_weight_used_in_both_directions() -> None:
    tied = Function(lambda self, x: functional.linear(self.layer(x), self.layer.weight.t()), layer=nn.Linear(4, 3))
    graph = st.graph(tied, ROW)
    assert [o.kind for o in graph.operations] == ["linear", "weight", "permute", "contract"]
    assert couple(graph).count == 3


def test_a_kernel_that_no_layer_owns_takes_its_axes_from_its_use() -> None:
    for run, axes in (
        (lambda self, x: x @ self.weight, ("in", "out")),
        (lambda self, x: x @ self.weight.T, ("out", "in")),
        (lambda self, x: torch.addmm(self.bias, x, self.weight), ("in", "out")),
        (lambda self, x: functional.linear(x, self.weight.t()), ("in", "out")),
        (lambda self, x: torch.einsum("...i,io->...o", x, self.weight), ("in", "out")),
        (lambda self, x: torch.einsum("bi,oi->bo", x, self.weight), ("out", "in")),
    ):
        parts = {"weight": nn.Parameter(torch.randn(4, 4)), "bias": nn.Parameter(torch.randn(4))}
        graph = st.graph(Function(run, **parts), ROW)
        assert [o.kind for o in graph.operations] == ["linear"]
        assert (graph.parameters["weight"].role, graph.parameters["weight"].axes) == ("kernel", axes)


def test_a_transposed_convolutions_weight_used_as_a_convolutions() -> None:
    model = Function(lambda self, x: functional.conv2d(x, self.layer.weight), layer=nn.ConvTranspose2d(3, 4, 1))
    assert single(lambda self, x: self.model(x), IMAGE, model=model).kind == "unknown"


def hidden_units(run: Callable[..., Any], **parts: Any) -> int:
    """Removable units of linear -> ``run`` -> linear, 6 wide."""
    model = Function(
        lambda self, x: self.last(run(self, self.first(x))), first=nn.Linear(4, 6), last=nn.Linear(6, 2), **parts
    )
    return couple(st.graph(model, ROW)).count


class Custom(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


@torch.jit.script
def scripted(x: torch.Tensor) -> torch.Tensor:
    return x.cumsum(1)


def _setitem(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x[:, 0] = x[:, 1]
    return x


def _through_numpy(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return x + torch.from_numpy(x.numpy().cumsum(1))


def _written_view(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x.as_strided((2, 3), (6, 2))[:, 0] = 1.0
    return x


def _branch(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return x if x[0].max() > 0 else x * 2


def _data(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x.data.copy_(x.cumsum(1))
    return x


FREEZING = {
    "custom autograd function": lambda self, x: x + Custom.apply(x),
    "scripted function": lambda self, x: x + scripted(x),
    "operator by its name": lambda self, x: x + torch.ops.aten.cumsum(x, 1),
    "setitem": _setitem,
    "numpy": _through_numpy,
    "a view that nobody can follow": _written_view,
    "branch on values": _branch,
    "data": _data,
    "constant": lambda self, x: x + torch.arange(6.0),
    "softmax": lambda self, x: x.softmax(1),
    "unknown": lambda self, x: x.cumsum(1),
    "out": lambda self, x: torch.cumsum(x, 1, out=torch.empty(2, 6)) + x,
    "expand to a live shape": lambda self, x: x.mean(1, keepdim=True).expand_as(x) + x,
    "weight written in place": lambda self, x: x + self.last.weight.data.mul_(1.0).sum(),
    "positions that depend on data": lambda self, x: x + x[:, x.argmax(1)].mean(),
    "chunks of unequal size": lambda self, x: torch.cat(x.chunk(4, 1), 1) + torch.cat(x.cumsum(1).chunk(4, 1), 1),
}


@pytest.mark.parametrize("name", FREEZING)
def test_what_is_not_understood_holds_back_what_it_touches(name: str) -> None:
    assert hidden_units(FREEZING[name]) == 0


TRANSPARENT = {
    "a sum of what is zero": lambda self, x: x.sum(1, keepdim=True).expand_as(x) + x,
    "one value of a constant": lambda self, x: x * 2 if torch.ones(3)[1] > 0 else x,
    "padded and cut off": lambda self, x: functional.pad(x, (1, 2))[:, 1:-2],
    "rolled and rolled back": lambda self, x: x.roll(2, 1).flip(1).flip(-1).roll(-2, 1),
    "split and joined": lambda self, x: torch.cat([part.relu() for part in x.split([2, 2, 2], 1)], 1),
    "unbound and stacked": lambda self, x: torch.stack(list(x), 0) + torch.stack(x.unbind(0), 0),
    "repeated": lambda self, x: x.repeat(1, 2)[:, :6] + x.repeat_interleave(2, 1)[:, ::2],
    "divided by a norm along nothing that is live": lambda self, x: x / torch.arange(1.0, 3.0)[:, None],
    "normed along space": lambda self, x: functional.normalize(x[:, :, None].expand(-1, -1, 3), dim=2)[..., 0],
    "added zeros": lambda self, x: x + torch.zeros(2, 6) + x.new_zeros(x.shape) + torch.zeros_like(x),
    "in place on a piece, which others see": lambda self, x: (x[:, :3].add_(1.0), x)[1],
    "nothing": lambda self, x: x,
    "a view written elementwise": lambda self, x: x.view(2, 6, 1).mul_(2).relu_().view(2, 6),
    "sizes read": lambda self, x: x.view(x.size(0), x.shape[1]) * (x.dim() + len(x) + x.numel()),
    "a message": lambda self, x: x if f"{x.dtype} {x.device} {x.requires_grad}" else x * 2,
    "a scalar tensor": lambda self, x: x * torch.tensor(2.0),
    "contiguous": lambda self, x: x.contiguous().clone().detach(),
    "out": lambda self, x: torch.add(x, x.relu(), out=x),
    "inside checkpointing": lambda self, x: torch.utils.checkpoint.checkpoint(torch.relu, x, use_reentrant=False),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_what_is_harmless_holds_back_nothing(name: str) -> None:
    assert hidden_units(TRANSPARENT[name]) == 6


def test_unknown_operations_are_listed_with_their_source() -> None:
    class Ranked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.tanh() + x.quantile(0.5, 1, keepdim=True)

    model = nn.Sequential(nn.Linear(4, 6), Ranked(), nn.Linear(6, 2))
    unknown = [o for o in operations(model, ROW) if o.kind == "unknown"]
    assert [operation.label for operation in unknown] == ["quantile"]
    assert unknown[0].source.startswith("1 (Ranked) at test_tracing.py:")
    frozen = [item for item in couple(st.graph(model, ROW)).frozen if item.label == "quantile"]
    assert frozen
    assert frozen[0].parameters == ("0.weight",)


def test_a_module_called_twice_is_one_set_of_weights() -> None:
    layer = nn.Linear(4, 4)
    graph = st.graph(Function(lambda self, x: self.layer(self.layer(x).relu()), layer=layer), ROW)
    assert [o.kind for o in graph.operations] == ["linear", "elementwise", "linear"]
    assert list(graph.parameters) == ["layer.weight", "layer.bias"]


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@dataclasses.dataclass
class Record:
    logits: torch.Tensor
    note: str = "fine"


@pytest.mark.parametrize(
    ("wrap", "count"),
    [
        (lambda x, y: {"a": x, "b": [y, (x,)]}, 3),
        (lambda x, y: Pair(x, y), 2),
        (lambda x, y: OrderedDict(a=x, b=None, c="text"), 1),
        (lambda x, y: Record(x), 1),
    ],
)
def test_nested_outputs_are_all_outputs(wrap: Any, count: int) -> None:
    model = Function(lambda self, x: wrap(self.a(x), self.b(x)), a=nn.Linear(4, 3), b=nn.Linear(4, 3))
    graph = st.graph(model, ROW)
    assert len(graph.outputs) == count
    assert couple(graph).count == 0


@pytest.mark.parametrize("result", [lambda x: object(), lambda x: None, lambda x: (x, {x})])
def test_outputs_that_cannot_be_seen(result: Any) -> None:
    with pytest.raises(TraceError, match="in which tensors cannot be found"):
        st.graph(Function(lambda self, x: result(self.a(x)), a=nn.Linear(4, 3)), ROW)


def test_inputs_of_every_form() -> None:
    model = Function(lambda self, a, b=None: self.layer(a) + (0 if b is None else b), layer=nn.Linear(4, 4))
    for example in [ROW, (ROW,), [ROW.numpy()], ROW.numpy().astype("float64"), {"a": ROW}, (ROW, ROW), (ROW, None)]:
        graph = st.graph(model, example)
        assert graph.operations[0].kind == "linear"
    assert len(st.graph(model, {"a": ROW, "b": ROW}).inputs) == 2
    embedding = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))
    assert [o.kind for o in operations(embedding, torch.zeros(2, 3, dtype=torch.int64))][-1] == "linear"


def test_an_input_without_a_batch() -> None:
    graph = st.graph(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(4))
    assert couple(graph).count == 6
    convolution = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    assert couple(st.graph(convolution, IMAGE[0])).count == couple(st.graph(convolution, IMAGE)).count == 6


def test_a_model_in_training_mode_is_traced_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 2)).train()
    kinds = [o.kind for o in operations(model, ROW[:1])]
    assert kinds == ["linear", "normalize", "elementwise", "linear"]
    assert all(module.training for module in model.modules())
    assert model[1].num_batches_tracked == 0


def test_tracing_leaves_no_hooks_and_no_gradients() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    st.graph(model, ROW)
    with pytest.raises(ExampleError):
        st.graph(model, torch.zeros(2, 5))
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert model[0].weight.grad is None
    assert model(ROW).requires_grad


def test_a_compiled_model_is_traced_as_its_own_code() -> None:
    model = torch.compile(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), backend="eager")
    assert couple(st.graph(model, ROW)).count == 6
    model(ROW)
    assert couple(st.graph(model, ROW)).count == 6


@pytest.mark.parametrize(
    ("example", "match"),
    [
        (None, "pass example="),
        (torch.zeros(2, 5), r"does not accept the example \(torch.float32 \(2, 5\)\): RuntimeError"),
        ((ROW, ROW), "takes 2 positional arguments|TypeError"),
        ({"image": ROW}, r"image: torch.float32 \(2, 4\)"),
        ("text", r"\(str\)"),
        (torch.zeros(2, 4, dtype=torch.int64), "int64"),
    ],
)
def test_examples_that_the_model_does_not_accept(example: Any, match: str) -> None:
    with pytest.raises(ExampleError, match=match):
        st.graph(nn.Sequential(nn.Linear(4, 6)), example)


def test_the_graph_is_the_same_each_time_and_of_any_batch() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2))
    first, second = st.graph(model, IMAGE), st.graph(model, IMAGE)
    assert first == second
    assert isinstance(first, Graph)
    one = couple(st.graph(model, IMAGE[:1]))
    assert one.count == couple(first).count == 6


def test_a_recurrent_layer_is_one_operation_for_each_depth_and_direction() -> None:
    lstm = nn.LSTM(4, 5, num_layers=2, bidirectional=True, proj_size=3)
    graph = st.graph(Function(lambda self, x: self.lstm(x)[0], lstm=lstm), torch.randn(2, 3, 4))
    recurrent = [o for o in graph.operations if o.kind == "recurrent"]
    assert [dict(o.parameters)["projection"] for o in recurrent] == [
        f"lstm.weight_hr_l{layer}{side}" for layer in (0, 1) for side in ("", "_reverse")
    ]
    assert all(o.settings == {"axis": -1, "projected": (0, 1)} for o in recurrent)
    assert [graph.tensors[o.outputs[2]] for o in recurrent] == [(3, 5)] * 4
    assert graph.parameters["lstm.bias_hh_l0"].axes == ("gate", "out")
    assert graph.parameters["lstm.bias_hh_l0"].shape == (4, 5)


class Scaled(nn.Module):
    """Looks like a norm by the mean square, and may be one."""

    def __init__(self, run: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.weight, self.eps, self.run = nn.Parameter(torch.rand(4) + 0.5), 1e-5, run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(x, self.weight, self.eps)


def test_a_norm_of_the_users_is_known_by_what_it_does() -> None:
    true = Scaled(lambda x, weight, eps: x.mul(weight) / x.square().mean(-1, keepdim=True).add(eps).sqrt())
    graph = st.graph(nn.Sequential(nn.Linear(4, 4), true, nn.Linear(4, 2)), ROW)
    assert [o.kind for o in graph.operations] == ["linear", "standardize", "linear"]
    assert graph.operations[1].settings == {"axes": (-1,), "rms": True}
    assert dict(graph.operations[1].parameters) == {"scale": "1.weight"}
    for other in (lambda x, w, eps: x * w, lambda x, w, eps: functional.rms_norm(x, (4,), w, eps) + 1e-3):
        kinds = [o.kind for o in operations(nn.Sequential(nn.Linear(4, 4), Scaled(other), nn.Linear(4, 2)), ROW)]
        assert "elementwise" in kinds


def test_pytorchs_own_attention_is_taken_apart() -> None:
    layer = nn.TransformerEncoderLayer(6, 2, dim_feedforward=8, batch_first=True)
    before = torch.backends.mha.get_fastpath_enabled()
    kinds = [o.kind for o in operations(nn.TransformerEncoder(layer, 2), torch.randn(2, 5, 6))]
    assert torch.backends.mha.get_fastpath_enabled() == before
    assert kinds.count("attention") == 2
    assert "unknown" not in kinds
    rows = [o.settings.get("rows") for o in operations(layer, torch.randn(2, 5, 6)) if o.kind == "linear"]
    assert rows == [(0, 6), (6, 12), (12, 18), None, None, None]


def test_weights_of_attention_that_nobody_reads_hold_nothing_back() -> None:
    attention = nn.MultiheadAttention(6, 3, batch_first=True)
    read = Function(lambda self, x: self.attention(x, x, x), attention=attention)
    unread = Function(lambda self, x: self.attention(x, x, x)[0], attention=attention)
    x = torch.randn(2, 5, 6)
    assert couple(st.graph(read, x)).count < couple(st.graph(unread, x)).count
    assert [o.kind for o in operations(read, x)].count("softmax") == 1
    assert [o.kind for o in operations(unread, x)].count("softmax") == 0


def test_modes_are_changed_only_where_something_trains() -> None:
    class Telling(nn.Linear):
        told: list[bool]

        def train(self, mode: bool = True) -> Telling:
            self.told = [*getattr(self, "told", []), mode]
            return super().train(mode)

    layer = Telling(4, 2)
    model = nn.Sequential(layer, nn.Dropout()).eval()
    layer.told = []
    graph(model, torch.zeros(1, 4))
    assert layer.told == []
    model[1].train()
    graph(model, torch.zeros(1, 4))
    assert layer.told == [False]
    assert [module.training for module in model.modules()] == [False, False, True]
