"""Pruning while a PyTorch training loop runs: the pruner counts the optimizer's own steps."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from secateur import pruner
from secateur.recipe import Recipe
from secateur.scoring import Statistics
from secateur.tasks import Tasks
from secateur_torch.adapter import TorchAdapter
from secateur_torch.masking import Hold, owned_by, require_optimizer
from secateur_torch.watching import is_nested, was_skipped


class Pruner(pruner.Pruner):
    """Prunes step by step in any training loop; one line before the loop is all that it needs.

    Masks hold through any optimizer, but only ``optimizer`` drives the schedule. If another takes its place before the
    end, a warning says so; :meth:`advance` counts steps by hand.

    Args:
        model: the model that trains.
        recipe: what to prune, and when: steps of its schedule are steps of ``optimizer``, without those that mixed
            precision skips.
        optimizer: the optimizer that trains the model.
        data: for scores that are computed from data: ``(x, y)`` or a data loader, read again at every update. Without
            any, weights come back (``RigL``, ``DynamicSurgery``) and ``Movement`` adds up by the gradients of the
            training steps themselves.
        loss: for the same: a callable ``loss(outputs, labels)``.
        example: an input, needed to prune neurons and to compact; the first batch of ``data`` if None.
        statistics: statistics that are known already, instead of ``data``.
        steps_per_epoch: optimizer steps in an epoch, ``len(loader)``, if the recipe counts epochs.
        after_round: called with the pruner after each pruning of the schedule. Where weights are rewound, or the
            learning rate starts again with each round (``Iterative``), restart a scheduler here, or let it depend on
            :attr:`round_step`: ``LambdaLR(optimizer, lambda _: rate(pruner.round_step))``.
        resume: a folder that ``pruner.save(folder)`` wrote in the middle of this training, in another process perhaps:
            weights, masks and the place in the schedule are taken over. Load the optimizer's own state as ever
            (``optimizer.load_state_dict``), and that of your learning-rate scheduler and random numbers.
        tasks: for a score of several tasks, ``MultiTask``: name -> :class:`secateur.Task`; see :attr:`tasks`.

    Raises:
        FileFormatError: ``resume`` is no such folder, or of another model or recipe.
        HoldError: ``optimizer`` is none, has no step hooks, or owns none of the masked weights. Nothing was changed.

    Example:
        >>> import torch, secateur_torch as st
        >>> from secateur import Cubic, Recipe
        >>> model = torch.nn.Linear(8, 4)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> pruner = st.Pruner(model, Recipe(0.5, schedule=Cubic(begin=0, end=4, every=1)), optimizer=optimizer)
        >>> for _ in range(4):
        ...     model(torch.randn(2, 8)).sum().backward()
        ...     optimizer.step()
        >>> pruner.sparsity
        0.5
    """

    def __init__(
        self,
        model: torch.nn.Module,
        recipe: Recipe,
        optimizer: torch.optim.Optimizer,
        data: Any | None = None,
        loss: Any | None = None,
        example: Any | None = None,
        statistics: Statistics | None = None,
        steps_per_epoch: int | None = None,
        after_round: Callable[[Pruner], Any] | None = None,
        resume: str | Path | None = None,
        tasks: Tasks | None = None,
    ) -> None:
        require_optimizer(optimizer)
        super().__init__(
            TorchAdapter(),
            model,
            recipe,
            optimizer=optimizer,
            data=data,
            loss=loss,
            example=example,
            statistics=statistics,
            steps_per_epoch=steps_per_epoch,
            after_round=after_round,
            resume=resume,
            tasks=tasks,
        )
        self._watch = _Watch(optimizer)
        if isinstance(self._hold, Hold) and not self.finished:
            self._hold.other_stepped = torch.compiler.disable(self._watch.other_stepped)
        count = torch.compiler.disable(self._count)  # the core is not to be traced into a compiled step
        self._counter = optimizer.register_step_post_hook(count)
        look = torch.compiler.disable(lambda *_: self.before_step())
        self._looker = optimizer.register_step_pre_hook(look) if self._evidence.follows_steps else None

    def advance(self, steps: int = 1) -> None:
        """See :meth:`secateur.pruner.Pruner.advance`; each step of the pruner's own optimizer calls it."""
        super().advance(steps)
        self._watch.advanced(self.step, self.finished)

    def _count(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """A step has ended: one for the schedule, unless it is a part of another or changed nothing."""
        if not is_nested(optimizer) and not was_skipped(optimizer):
            self.advance()

    def release(self) -> None:
        """Stop pruning and holding; the weights train freely from now on."""
        self._counter.remove()
        if self._looker is not None:
            self._looker.remove()
        super().release()


class _Watch:
    """Warns, once, when a schedule stands still because another optimizer has taken its own one's place.

    That is, when one that owns the same weights steps twice with no step of the own one between. Optimizers that share
    the weights among them, or call one another, do not. It does not keep the pruner, which goes with its optimizer.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._own = weakref.ref(optimizer)
        self._others: set[int] = set()
        self._step, self._is_over = 0, False

    def advanced(self, step: int, finished: bool) -> None:
        """The schedule has come to this step."""
        self._others.clear()
        self._step, self._is_over = step, self._is_over or finished

    def other_stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """Another optimizer has stepped weights that are held."""
        own = self._own()
        is_apart = own is not None and owned_by(own).isdisjoint(owned_by(optimizer))
        if self._is_over or is_apart or is_nested(optimizer):
            return
        if id(optimizer) in self._others:
            self._is_over = True
            warnings.warn(_standing(self._step, optimizer), stacklevel=2)
        self._others.add(id(optimizer))


def _standing(step: int, optimizer: torch.optim.Optimizer) -> str:
    return (
        f"The schedule stands still at step {step}: another optimizer ({type(optimizer).__name__}) trains the pruned "
        "weights now, and a pruner counts the steps of the one that it was given. Masks hold. To prune further, call "
        "pruner.advance() after each step, or release() it and make a new Pruner with this optimizer."
    )
