"""A small network, really pruned by the core, and the records that a report of it is drawn from."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import masks as mask_operations
from secateur.adapter import Parameter
from secateur.ranking import ranking
from secateur.recipe import Gradient, Magnitude, Neurons, Percentile, Recipe, Weights
from secateur.report import (
    Agreement,
    Curve,
    DemoReport,
    DemoRun,
    Details,
    Outcome,
    PruningReport,
    RunNumbers,
    StageMetrics,
    details,
    measured,
    recipe_words,
)
from secateur.structure.coupling import couple
from secateur.structure.graph import Graph
from secateur.structure.removal import plan, removable
from structure.building import GraphBuilder

SIZES = (6, 12, 4)


def graph() -> Graph:
    builder = GraphBuilder()
    hidden = builder.activation(builder.linear(builder.input(2, SIZES[0]), SIZES[1], name="fc1.weight"))
    return builder.build(builder.linear(hidden, SIZES[2], name="fc2.weight"))


def parameters(seed: int = 0) -> list[Parameter]:
    random = np.random.default_rng(seed)
    return [
        Parameter(
            name,
            shape.role,
            random.normal(0.0, 0.3, shape.shape).astype(np.float32),
            shape.axes,
            name.split(".")[0] if "." in name else "",
        )
        for name, shape in graph().parameters.items()
    ]


def statistics(seed: int = 1) -> dict[str, dict[str, npt.NDArray[Any]]]:
    random = np.random.default_rng(seed)
    kernels = {item.name: item.view.shape for item in parameters() if item.role == "kernel"}
    return {
        "mean_abs_gradient": {
            name: random.exponential(0.01, shape).astype(np.float32) for name, shape in kernels.items()
        },
    }


def recipe(granularity: str = "neurons", score: str = "magnitude", percentile: float = 50.0) -> Recipe:
    parts = {"neurons": Neurons(), "weights": Weights(), "magnitude": Magnitude(), "gradient": Gradient()}
    return Recipe(Percentile(percentile), granularity=parts[granularity], score=parts[score])


@cache
def outcome(granularity: str = "neurons", score: str = "magnitude") -> Outcome:
    """Half of the network pruned, exactly as the pruner does it."""
    chosen, structure, dense = recipe(granularity, score), graph(), parameters()
    ranked = ranking(chosen, dense, structure)
    scores = ranked.scores(dense, chosen.score, statistics())
    kept_list = mask_operations.keep_largest(list(scores.values()), chosen.target.keep(list(scores.values())))
    kept = dict(zip(scores, kept_list, strict=True))
    masks = ranked.masks(kept)
    pruned = [
        dataclasses.replace(item, view=item.view * masks[item.name]) if item.name in masks else item for item in dense
    ]
    coupling = couple(structure)
    largest = max(float(score[~kept[name]].max(initial=-np.inf)) for name, score in scores.items())
    return Outcome(
        recipe=chosen,
        parameters=pruned,
        masks=masks,
        before=measured(dense, statistics()),
        kept=kept,
        scores=scores,
        thresholds={"model": largest},
        statistics=statistics(2),
        graph=structure,
        coupling=coupling,
        plan=plan(structure, coupling, removable(structure, coupling, masks)),
        notes=("Everything was checked.",),
    )


CURVES = (
    Curve("training", (1.0, 2.0, 3.0), (2.0, 1.0, 0.5), "epoch", "loss"),
    Curve("validation", (1.0, 2.0, 3.0), (2.1, 1.3, 0.9), "epoch", "loss"),
    Curve("validation", (1.0, 2.0, 3.0), (0.5, 0.7, 0.9), "epoch", "accuracy"),
)


def stage(accuracy: float | None, parameters: int = 136, nonzero: int = 136) -> StageMetrics:
    return StageMetrics(
        accuracy=accuracy,
        precision=accuracy,
        recall=accuracy,
        f1=accuracy,
        parameters=parameters,
        nonzero=nonzero,
        flops=240 * parameters // 136,
        bytes=4 * parameters,
        latency_ms=0.05,
    )


def stages() -> dict[str, StageMetrics]:
    return {
        "dense": stage(0.975),
        "pruned": stage(0.5, nonzero=70),
        "finetuned": stage(0.9625, nonzero=70),
        "compact": stage(0.9625, 70, 70),
    }


def all_details(granularity: str = "neurons", score: str = "magnitude") -> Details:
    return dataclasses.replace(details(outcome(granularity, score)), curves=CURVES)


def pruning_report(granularity: str = "neurons", score: str = "magnitude") -> PruningReport:
    return PruningReport(
        model="Sequential",
        framework="torch",
        backend="torch",
        recipe=recipe_words(recipe(granularity, score)),
        stages=stages(),
        details=all_details(granularity, score),
        max_error=2.5e-7,
        form="the user's own module",
    )


def run_numbers(framework: str = "torch", backend: str = "torch", **changes: Any) -> RunNumbers:
    words = {"model": "mlp", "granularity": "neurons", "score": "magnitude", "target": "percentile 50"}
    return RunNumbers(
        **{"framework": framework, "backend": backend, "schedule": "static", "max_error": 1e-7, **words}
        | stages()
        | changes
    )


def demo_report() -> DemoReport:
    runs = tuple(
        DemoRun(run_numbers(framework, backend, granularity=granularity), all_details(granularity))
        for granularity in ("weights", "neurons")
        for framework, backend in (("torch", "torch"), ("keras", "tensorflow"))
    )
    return DemoReport(
        runs=runs,
        agreement=(
            Agreement(0, 1, "same arrays", 120, 0),
            Agreement(2, 3, "same arrays", 120, 0),
            Agreement(2, 3, "own gradients", 120, 3, "Each framework adds in its own order."),
        ),
        data={"data set": "digits"},
        environment={"Python": "3.11"},
    )
