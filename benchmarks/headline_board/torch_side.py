"""PyTorch's half: builds, trains and keeps the networks. Twin of ``keras_side``, function by function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import secateur_torch as st
from benchmarks.headline_board.jobs import BATCH, CAFFE, PERCEPTRON, SCORED, SNIP, TEACHER_WEIGHT, TEMPERATURE, Job
from secateur import Recipe
from secateur.demo.data import Examples
from secateur_torch.demo import download_mnist as download

Array = npt.NDArray[Any]

__all__ = ["about", "arrays", "download", "load", "predicted", "save", "train"]


def about() -> dict[str, str]:
    """What else the results should tell."""
    return {"backend": "torch"}


def network(name: str, dropout: float = 0.0, input_dropout: float = 0.0) -> nn.Sequential:
    """Without activation behind the convolutions, as Caffe has it, or with one, as in the code of SNIP."""
    if name == PERCEPTRON:
        layers = [
            nn.Flatten(),
            nn.Dropout(input_dropout),
            *_dense(784, 300, dropout),
            *_dense(300, 100, dropout),
            nn.Linear(100, 10),
        ]
        return nn.Sequential(*layers)
    between = {CAFFE: [], SNIP: [nn.ReLU()]}[name]
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), *between, nn.MaxPool2d(2)),
        *(nn.Conv2d(20, 50, 5), *between, nn.MaxPool2d(2)),
        *(nn.Flatten(), *_dense(800, 500, dropout), nn.Linear(500, 10)),
    ).to(memory_format=torch.channels_last)  # twice as fast on processors


def _dense(before: int, after: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]


def train(
    job: Job, recipe: Recipe | None, rates: list[float], part: Examples, seed: int, teacher: nn.Module | None
) -> tuple[nn.Module, st.Pruner | None]:
    """A network of the job, trained for an epoch a rate, and its pruner."""
    torch.manual_seed(seed)
    model = network(job.network, job.dropout, job.input_dropout)
    images, labels = inputs(job.network, part.images), torch.from_numpy(part.labels)
    optimizer = torch.optim.Adam(model.parameters(), rates[0], fused=True)
    scored = list(zip(images[:SCORED].split(BATCH), labels[:SCORED].split(BATCH), strict=True))
    said = labels if teacher is None else _outputs(teacher, images)  # of the same images in each epoch: once is enough
    loss = st.Distillation(lambda which: said[which], TEACHER_WEIGHT, TEMPERATURE)
    pruner = None if recipe is None else st.Pruner(model, recipe, optimizer, scored, cross_entropy)
    model.train()
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        for which in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            with _precision(job.network):
                outputs = model(images[which])
            learnt = outputs.float(), labels[which]
            (cross_entropy(*learnt) if teacher is None else loss(*learnt, which)).backward()
            optimizer.step()
    return model, pruner


def _precision(name: str) -> torch.autocast:
    """Convolutions in mixed precision: weights stay float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=name != PERCEPTRON)


def inputs(name: str, images: Array) -> torch.Tensor:
    """(n, 1, 28, 28), laid out as the network's kernels."""
    layout = torch.contiguous_format if name == PERCEPTRON else torch.channels_last
    return torch.from_numpy(images[:, np.newaxis]).to(memory_format=layout)


def _outputs(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part) for part in images.split(2000)])


def predicted(model: nn.Module, name: str, images: Array) -> Array:
    """Classes, int64[n], in full precision."""
    return _outputs(model, inputs(name, images)).argmax(1).numpy()


def arrays(model: nn.Module) -> dict[str, Array]:
    """All of its arrays, under the names that masks have, row after row."""
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in model.state_dict().items()}


def save(model: nn.Module, path: Path) -> None:
    """Keep a teacher."""
    torch.save(model.state_dict(), path)


def load(name: str, path: Path) -> nn.Module:
    """A teacher that was kept."""
    model = network(name)
    model.load_state_dict(torch.load(path))
    return model
