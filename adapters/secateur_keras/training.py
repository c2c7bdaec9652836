"""Pruning while ``model.fit`` runs: a Keras callback that follows the optimizer's steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from secateur import pruner
from secateur.checks import require_callable
from secateur.errors import HoldError
from secateur.recipe import Recipe
from secateur.report.overview import Overview
from secateur.scoring import Statistics
from secateur.tasks import Tasks, TaskTable
from secateur_keras import backends, optimizers
from secateur_keras.adapter import KerasAdapter
from secateur_keras.distillation import student
from secateur_keras.files import counterparts


class Pruner(keras.callbacks.Callback):
    """Prunes step by step during ``model.fit(..., callbacks=[pruner])``; a later ``fit`` goes on where the last ended.

    Put it last in the list: at the end of training it masks what ``EarlyStopping(restore_best_weights=True)`` has
    brought back from an epoch in which less was pruned. Of a ``keras.distillation.Distiller``, the student is pruned.

    Args:
        recipe: what to prune, and when: steps of its schedule are training batches.
        data: for scores that are computed from data: ``(x, y)`` or any iterable of batches, read again at every update.
        loss: for the same; None for the loss that the model was compiled with.
        example: an input, needed only if the model does not know its own input shape.
        statistics: statistics that are known already, instead of ``data``.
        steps_per_epoch: batches in an epoch, if the recipe counts epochs; None for what ``fit`` knows.
        after_round: called with this callback after each pruning of the schedule. Where weights are rewound, or the
            learning rate starts again with each round (``Iterative``), let a ``LearningRateScheduler`` depend on
            :attr:`round_step`. A learning rate that is a schedule of Keras's starts again with a rewinding by itself.
        resume: a folder that ``pruner.save(folder)`` wrote in the middle of this training, in another process perhaps:
            weights, masks and the place in the schedule are taken over. The optimizer's own state comes with the model,
            from ``keras.models.load_model``.
        tasks: for a score of several tasks, ``MultiTask``: name -> :class:`secateur.Task`; see :attr:`tasks`.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Any | None = None,
        loss: Any | None = None,
        example: Any | None = None,
        statistics: Statistics | None = None,
        steps_per_epoch: int | None = None,
        after_round: Callable[[Pruner], Any] | None = None,
        resume: str | Path | None = None,
        tasks: Tasks | None = None,
    ) -> None:
        super().__init__()
        require_callable("after_round", after_round)
        self.recipe = recipe
        self._options: dict[str, Any] = {"data": data, "loss": loss, "example": example, "statistics": statistics}
        self._options |= {"resume": resume, "counterparts": counterparts, "tasks": tasks}
        self._steps_per_epoch, self._after_round = steps_per_epoch, after_round
        self._session: pruner.Pruner | None = None
        self._batches = 0
        self._applied = 0

    def __getstate__(self) -> dict[str, Any]:
        """A pruner that has no model yet may be copied, as tuners do. Raises CopyError once it has one."""
        copy.deepcopy(self._session)
        return dict(vars(self))

    @property
    def pruned(self) -> pruner.Pruner:
        """The session behind this callback.

        Raises:
            HoldError: training has not begun, so no model is known yet.
        """
        if self._session is None:
            raise HoldError("this pruner has no model yet; pass it to model.fit(..., callbacks=[pruner]) first")
        return self._session

    def on_train_begin(self, logs: Any | None = None) -> None:
        """Take the model, and prune at step 0 if that is due."""
        trained = student(self.model)
        if self._session is None:
            self._session = pruner.Pruner(
                KerasAdapter(),
                trained,
                self.recipe,
                optimizer=self.model.optimizer,
                steps_per_epoch=self._steps_per_epoch or self.params.get("steps"),
                after_round=self._round_ended,
                **self._options,
            )
        elif self._session.model is not trained:
            raise HoldError("this pruner already belongs to another model; make a new one")
        self._applied = optimizers.applied(self.model.optimizer)

    def on_epoch_begin(self, epoch: int, logs: Any | None = None) -> None:
        """Batches are counted anew in each epoch."""
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: Any | None = None) -> None:
        """Follow the training; with ``steps_per_execution`` several batches end at once."""
        steps, self._batches = self._steps(batch + 1), batch + 1
        session = self.pruned
        if any(session.is_due(session.step + step) for step in range(1, steps + 1)):
            backends.synchronise(self.model)
        session.advance(steps)

    def _round_ended(self, session: pruner.Pruner) -> None:
        self._session, self._applied = session, optimizers.applied(self.model.optimizer)
        if self._after_round is not None:
            self._after_round(self)

    def _steps(self, end: int) -> int:
        """Batches since the last call. Of an execution that the data do not fill, Keras tells the end that it had if
        they did: then the number of batches in an epoch tells, or, where that is not known, the optimizer.
        """
        steps, total = end - self._batches, self.params.get("steps")
        if steps == 1:
            return 1
        if total is not None:
            return min(end, total) - self._batches
        backends.synchronise(self.model)
        before, self._applied = self._applied, optimizers.applied(self.model.optimizer)
        return min(steps, self._applied - before)

    def on_train_end(self, logs: Any | None = None) -> None:
        """Mask weights that another callback has put in place of those that were trained, unless released."""
        self.pruned.enforce()

    @property
    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """See :attr:`secateur.pruner.Pruned.masks`."""
        return self.pruned.masks

    @property
    def sparsity(self) -> float:
        """See :attr:`secateur.pruner.Pruned.sparsity`."""
        return self.pruned.sparsity

    @property
    def step(self) -> int:
        """Training batches seen so far."""
        return self.pruned.step

    @property
    def rounds(self) -> int:
        """How often the schedule has pruned."""
        return self.pruned.rounds

    @property
    def round_step(self) -> int:
        """See :attr:`secateur.pruner.Pruner.round_step`."""
        return self.pruned.round_step

    @property
    def finished(self) -> bool:
        """Whether the schedule has reached its final sparsity."""
        return self.pruned.finished

    def compact(self, example: Any | None = None) -> Any:
        """See :meth:`secateur.pruner.Pruned.compact`."""
        return self.pruned.compact(example)

    @property
    def tasks(self) -> TaskTable:
        """See :attr:`secateur.pruned.Pruned.tasks`."""
        return self.pruned.tasks

    @property
    def max_error(self) -> float | None:
        """See :class:`secateur.pruned.Pruned`."""
        return self.pruned.max_error

    def summary(self, example: Any | None = None) -> Overview:
        """See :meth:`secateur.pruned.Pruned.summary`."""
        return self.pruned.summary(example)

    def report(self, path: str | Path, example: Any | None = None) -> Path:
        """See :meth:`secateur.pruned.Pruned.report`."""
        return self.pruned.report(path, example)

    def enforce(self, model: keras.Model | None = None) -> None:
        """See :meth:`secateur.pruned.Pruned.enforce`."""
        self.pruned.enforce(model)

    def save(self, folder: str | Path) -> None:
        """See :meth:`secateur.pruner.Pruned.save`."""
        self.pruned.save(folder)

    def release(self) -> None:
        """See :meth:`secateur.pruner.Pruned.release`."""
        self.pruned.release()
