"""Measure whether a model with half of the operations takes half of the time: PyTorch, on this machine.

Run: python benchmarks/latency.py [--only NAME ...] [--rounds 15] [--batch 4] [--threads N]

Dense and smaller model run in turn; the time of each is the lower quartile. The speed-up divided by what the FLOPs
promise is 1 where time falls as the FLOPs do, and should be 0.7 at least. Writes benchmarks/results/latency.json,
unless networks are left out. Beside other programs one thread is measured more steadily than several.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Not this script's folder, whose cuda.py would hide a package of that name, but the one above it.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.console import Console
from rich.table import Table

import secateur_torch as st
from benchmarks import latency_models as models
from benchmarks.kernel_table.results import circumstances, write_results
from secateur import Flops, Neurons, Recipe
from secateur.recipe import Heads
from secateur.structure.cost import cost
from secateur.timing import undisturbed
from secateur_torch.adapter import TorchAdapter

RESULTS = Path(__file__).resolve().parent / "results" / "latency.json"
WANTED = 0.7

HALF_OF_ALL = Recipe(Flops(0.5), Neurons(relative=True, multiple=8))


@dataclass(frozen=True)
class Case:
    """A network, its input for a batch size, and recipes that are carried out one after the other."""

    make: Callable[[], torch.nn.Module]
    example: Callable[[int], torch.Tensor]
    recipes: tuple[Recipe, ...]


def images(batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, 224, 224)


CASES = {
    "ResNet-18": Case(models.resnet18, images, (HALF_OF_ALL,)),
    "MobileNetV2": Case(models.mobilenet_v2, images, (HALF_OF_ALL,)),
    "BERT-like": Case(
        models.Encoder,
        lambda batch: torch.randint(0, 30522, (batch, 128)),
        (
            Recipe(0.5, Neurons(), scope="layer", include=["layers.*.wide.weight"]),
            Recipe(0.5, Heads(), scope="layer", include=["layers.*"]),
        ),
    ),
    "LSTM": Case(models.Tagger, lambda batch: torch.randn(batch, 64, 128), (Recipe(0.5, Neurons(), scope="layer"),)),
}


def measure(case: Case, batch: int, rounds: int) -> dict[str, Any]:
    """Make the smaller model and time both in turn."""
    torch.manual_seed(0)
    model, example = case.make().eval(), case.example(batch)
    small, forms = model, []
    for recipe in case.recipes:
        pruned = st.prune(small, recipe, example=example)
        small = pruned.compact()
        pruned.release()
        forms.append(pruned.form)
    timers = [TorchAdapter().timer(each, example) for each in (model, small)]
    passes = [[timer() for timer in timers] for _ in range(rounds)]
    dense, less = (1000.0 * undisturbed(times) for times in zip(*passes, strict=True))
    flops = [cost(st.graph(each, example)).flops for each in (model, small)]
    promised, speedup = flops[0] / flops[1], dense / less
    return {
        "dense_ms": dense,
        "small_ms": less,
        "dense_flops": flops[0],
        "small_flops": flops[1],
        "speedup": speedup,
        "flops_ratio": promised,
        "kept_promise": speedup / promised,
        "form": forms[-1],
        "batch": batch,
    }


def table(found: dict[str, dict[str, Any]]) -> Table:
    shown = Table("network", "dense ms", "smaller ms", "GFLOPs", "speed-up", "FLOPs ratio", f"kept (≥ {WANTED})")
    for name, row in found.items():
        flops = f"{row['dense_flops'] / 1e9:.2f} → {row['small_flops'] / 1e9:.2f}"
        times = f"{row['dense_ms']:.2f}", f"{row['small_ms']:.2f}"
        shown.add_row(name, *times, flops, *(f"{row[key]:.2f}" for key in ("speedup", "flops_ratio", "kept_promise")))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {name: measure(CASES[name], options.batch, options.rounds) for name in options.only}
    Console().print(table(found))
    if len(found) == len(CASES):
        about = {**circumstances(), "threads": options.threads, "rounds": options.rounds}
        write_results(RESULTS, {**about, "networks": found})


if __name__ == "__main__":
    main()
