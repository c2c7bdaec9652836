"""One PyTorch model, pruned by one tool and judged. Imported once, in the process of which all others are copies."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import math
import os
import warnings
from typing import Any

import torch

import secateur_torch  # noqa: F401 - so that no copy has to import it
from benchmarks.structure_board import cases, outcomes, torch_judging, torch_tools

for package in ("transformers", "torch_pruning", "torch_kirigami"):
    if importlib.util.find_spec(package) is not None:
        importlib.import_module(package)
cases.cases("torch")  # their modules import what the models need

RUNS, ENOUGH = 5, 2.0
"""So often a tool prunes a model, unless it has taken so many seconds."""


def run(name: str, tool: str, target: str) -> dict[str, Any]:
    """What the board says about a model and a tool."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ["SECATEUR_THREADS"] = "1"
    torch.manual_seed(0)
    made, example = cases.case("torch", name).build()
    model, example = torch_judging.prepare(made), torch_judging.widened(example)
    original = copy.deepcopy(model)
    torch_tools.warm(tool, model, example)
    try:
        outcome = _quickest(tool, model, example, target)
    except Exception as error:
        return {"status": "error", "error": outcomes.first_line(error)}
    return {**_told(outcome), **_judged(original, outcome, torch_judging.another(example))}


def _quickest(tool: str, model: torch.nn.Module, example: Any, target: str) -> outcomes.Outcome:
    """Of a few runs on copies; of one that takes long."""
    found: list[outcomes.Outcome] = []
    while len(found) < RUNS and sum(each.seconds["total"] for each in found) < ENOUGH:
        found.append(torch_tools.TOOLS[tool](copy.deepcopy(model), example, target))
    return min(found, key=lambda each: each.seconds["total"])


def _told(outcome: outcomes.Outcome) -> dict[str, Any]:
    return {
        "seconds": dict(outcome.seconds),
        "form": outcome.form,
        "max_error": outcome.max_error,
        "frozen": list(outcome.frozen),
    }


def _judged(original: torch.nn.Module, outcome: outcomes.Outcome, example: Any) -> dict[str, Any]:
    share = _size(outcome.small) / _size(original)
    found: dict[str, Any] = {"share": share, "narrowest": _narrowest(original, outcome.small)}
    try:
        masked = outcome.masked or torch_judging.masked_twin(original, outcome.small)
        difference = torch_judging.difference(masked, outcome.small, example)
    except Exception as error:  # whatever a model of wrong sizes raises
        return {**found, "status": "wrong", "difference": None, "error": outcomes.first_line(error)}
    difference = difference if math.isfinite(difference) else math.inf
    return {**found, "status": outcomes.verdict(share, difference), "difference": min(difference, 1e300)}


def _size(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def _narrowest(original: torch.nn.Module, small: torch.nn.Module) -> float:
    """Of all kernels, the smallest share of rows that is left."""
    remaining = dict(small.named_parameters())
    kernels = ((name, weight) for name, weight in original.named_parameters() if weight.ndim > 1 and name in remaining)
    return min((remaining[name].shape[0] / weight.shape[0] for name, weight in kernels), default=1.0)


with contextlib.suppress(ImportError):
    from benchmarks.structure_board import torch_vision

    torch_vision.load()
