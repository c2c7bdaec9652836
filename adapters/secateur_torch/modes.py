"""Training and evaluation in an exported graph, which is written of evaluation and must do both."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from secateur.errors import ExampleError, TraceError
from secateur.structure.graph import Graph
from secateur_torch import tracing
from secateur_torch.inference import training_mode
from secateur_torch.recording import Recorder

MODES = {"dropout": 2, "feature_dropout": 2, "alpha_dropout": 2, "batch_norm": 5, "lstm": 6, "gru": 6, "rnn_tanh": 6}
"""Operations, and which of their arguments tells whether the model trains."""


class Training(nn.Module):
    """Tells the operations of an exported graph whether the model that holds them trains."""

    def forward(self) -> bool:
        """Whether it does."""
        return self.training


def trains_otherwise(model: nn.Module, example: Any) -> bool:
    """Whether the user's own code does something else in training, beside the dropout that :func:`follow` knows."""
    evaluated = tracing.record(model, example, Recorder)[1]
    try:
        trained = tracing.record(model, example, Recorder, training_mode)[1]
    except (ExampleError, TraceError):  # it wants labels too
        return True
    return _form(trained) != _form(evaluated)


def _form(graph: Graph) -> list[tuple[str, str]]:
    return [(operation.kind, operation.label) for operation in graph.operations]


class _Rates(TorchFunctionMode):
    """Notes how much each attention that the user's code calls for drops."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """As usual."""
        given = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention:
            self.rates.append(float(args[4] if len(args) > 4 else given.get("dropout_p", 0.0)))
        return func(*args, **given)


def attention_dropout(model: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]) -> list[float]:
    """How much each call of ``scaled_dot_product_attention`` drops in training; PyTorch's own modules aside."""
    with training_mode(model), _Rates() as noted:
        try:
            model(*positional, **named)
        except Exception:  # whatever it lacks for training
            return []
    return noted.rates


def follow(written: fx.GraphModule, model: nn.Module, rates: list[float]) -> None:
    """Let operations that differ in training ask the module whether it trains.

    Args:
        written: the exported graph.
        model: what it was written of.
        rates: what :func:`attention_dropout` found; evaluation leaves no trace of it.
    """
    written.add_submodule("_training", Training())
    with written.graph.inserting_before(next(iter(written.graph.nodes))):
        asked = written.graph.call_module("_training")
    for node in list(written.graph.nodes):
        position = MODES.get(_name(node), len(node.args))
        if position < len(node.args) and isinstance(node.args[position], bool):
            node.update_arg(position, asked)
    for node, rate in _dropped(written, model, rates).items():
        if rate:
            with written.graph.inserting_before(node):
                now = written.graph.call_function(operator.mul, (asked, rate))
            node.args = (*(*node.args, None)[:4], now, *node.args[5:])
    if not asked.users:
        written.graph.erase_node(asked)
    written.recompile()


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", "")).partition(".")[0]


def _dropped(written: fx.GraphModule, model: nn.Module, rates: list[float]) -> dict[fx.Node, float]:
    """How much each attention drops: those in an ``nn.MultiheadAttention`` what it says, the others in their order."""
    modules = dict(model.named_modules())
    found: dict[fx.Node, float] = {}
    others = []
    for node in written.graph.nodes:
        if _name(node) == "scaled_dot_product_attention":
            paths = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
            owner = modules.get(paths[-1]) if paths else None
            if isinstance(owner, nn.MultiheadAttention):
                found[node] = float(owner.dropout)
            else:
                others.append(node)
    return found | dict(zip(others, rates, strict=True)) if len(others) == len(rates) else found
