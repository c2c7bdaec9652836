"""A process of the demo: imports one framework, then does the tasks that it reads, one JSON line each.

``python -m secateur.demo.worker '<job>'`` is started by :mod:`secateur.demo.process` with the framework's environment
set. It answers with JSON lines: ``ready`` or ``missing`` once; for each task any number of events, then ``done`` with
the result, ``refused`` with an error of Secateur's own, or ``failed``. Whatever a library prints goes to the error
stream.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from secateur.demo.exchange import Exchange
from secateur.demo.experiment import Experiment
from secateur.demo.plan import Options
from secateur.demo.twin import load
from secateur.errors import MissingDependencyError, SecateurError

TASKS = ("train", "compare", "run", "time", "download")


def main(job: dict[str, Any], tasks: TextIO, events: TextIO) -> None:
    """Serve until the task stream ends.

    Args:
        job: ``framework``, ``platform``, ``folder`` and ``options``.
        tasks: where tasks are read: ``{"task": <one of TASKS>, ...}``.
        events: where events are written.
    """

    def emit(event: str, **fields: Any) -> None:
        events.write(json.dumps({"event": event, **fields}) + "\n")
        events.flush()

    try:
        twin = load(job["framework"])
    except MissingDependencyError as error:
        emit("missing", message=str(error))
        return
    options = Options(**{**job["options"], "out": Path(job["options"]["out"])})
    experiment = Experiment(twin, job["platform"], options, Exchange(Path(job["folder"])), emit)
    emit("ready", versions=twin.versions())
    for line in tasks:
        _perform(experiment, json.loads(line), emit)


def _perform(experiment: Experiment, message: dict[str, Any], emit: Callable[..., None]) -> None:
    task = message.pop("task")
    if task not in TASKS:
        emit("refused", message=f"no such task: {task}")
        return
    try:
        emit("done", result=getattr(experiment, task)(**message))
    except SecateurError as error:
        emit("refused", message=str(error))
    except Exception as error:  # the other process must hear of anything that goes wrong here
        traceback.print_exc()
        emit("failed", message=f"{type(error).__name__}: {error}")


def _private_stdout() -> TextIO:
    """The process's standard output, while everyone else's prints go to standard error."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return private


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.stdin, _private_stdout())
