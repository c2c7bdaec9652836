"""One training of a job: data in, a row of results out. Teachers are trained once and kept."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.headline_board import storage
from benchmarks.headline_board.jobs import BATCH, Job, jobs
from secateur.demo.data import Examples, load
from secateur.demo.training import cosine

Array = npt.NDArray[Any]


class Runner:
    """Trains jobs in one framework.

    Args:
        side: ``torch_side`` or ``keras_side``.
        framework: its name in the results.
        teachers: the folder in which teachers are kept.
        validate: whether to train on nine tenths of the training images, and to measure on the last one.
        epochs: of every training, in place of the job's own.
    """

    def __init__(self, side: ModuleType, framework: str, teachers: Path, validate: bool, epochs: int | None) -> None:
        self.side, self.framework, self.epochs = side, framework, epochs
        self.teachers = teachers / ("validate" if validate else "full")
        data = load("mnist", 0, side.download)
        parts = (data.train,) if validate else (data.train, data.validation)
        images = np.concatenate([part.images for part in parts])
        self.centre, self.spread = images.mean(dtype=np.float64), images.std(dtype=np.float64)
        self.train = Examples(self._standardised(images), np.concatenate([part.labels for part in parts]))
        held = data.validation if validate else data.test
        self.test = Examples(self._standardised(held.images), held.labels)

    def run(self, job: Job, seed: int) -> dict[str, Any]:
        """The row of one training."""
        begin = time.perf_counter()
        teaches = any(each.taught == job.name for each in jobs())
        model, pruned = (self._teacher(job.name, seed), None) if teaches else self._trained(job, seed)
        wrong = self.side.predicted(model, job.network, self.test.images) != self.test.labels
        row = {
            "framework": self.framework,
            **self.side.about(),
            "case": job.name,
            "seed": seed,
            "error": 100.0 * float(wrong.mean()),
            "epochs": self._epochs(job),
            "seconds": time.perf_counter() - begin,
        }
        if pruned is not None:
            masks = pruned.masks
            kept, total = (sum(count(mask) for mask in masks.values()) for count in (np.count_nonzero, np.size))
            row |= {"sparsity": 1 - kept / total, "kept": int(kept), "weights": int(total)}
            row["layers"] = {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}
            arrays = self.side.arrays(model)
            row["leak"] = max(float(np.abs(arrays[name][~mask]).max(initial=0.0)) for name, mask in masks.items())
            row["bytes"] = storage.sizes(arrays, masks)
        return row

    def _trained(self, job: Job, seed: int) -> Any:
        epochs = self._epochs(job)
        each = epochs // job.rounds
        rates = [rate for _ in range(job.rounds) for rate in cosine(job.rate, each)]
        epoch = math.ceil(len(self.train) / BATCH)
        recipe = None if job.recipe is None else job.recipe(len(rates) * epoch, epoch)
        teacher = self._teacher(job.taught, seed) if job.taught else None
        return self.side.train(job, recipe, rates, self.train, seed, teacher)

    def _teacher(self, name: str, seed: int) -> Any:
        """The teacher that was kept, or a new one."""
        (job,) = (each for each in jobs() if each.name == name)
        told = (self.framework, name, self._epochs(job), job.rate, job.dropout, job.input_dropout, seed)
        path = self.teachers / " ".join(map(str, told)).replace(", ", "-").replace(" ", "-")
        if not path.exists():
            model, _ = self._trained(job, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.side.save(model, path)
        return self.side.load(job.network, path)

    def _epochs(self, job: Job) -> int:
        return job.epochs if self.epochs is None else self.epochs * job.rounds

    def _standardised(self, images: Array) -> Array:
        return ((images - self.centre) / self.spread).astype(np.float32)
