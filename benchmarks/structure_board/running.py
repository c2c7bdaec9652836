"""Every model and tool in a process of its own with a time limit, so that a crash or a hang is one more result.

Times are processor times, and each process computes on one thread: other programs on the machine disturb little.

The processes are copies of one that has imported the frameworks, which takes longer than most models.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PATIENCE = 20
"""A process that waits instead of computing is ended after so many times its limit."""

WORKERS = {framework: f"benchmarks.structure_board.{framework}_worker" for framework in ("torch", "keras")}


class Runner:
    """Runs the cases of one framework."""

    def __init__(self, framework: str, limit: int) -> None:
        self._worker, self._limit = WORKERS[framework], limit
        roots = (Path(__file__).resolve().parents[2] / part for part in (".", "corelib", "adapters"))
        os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, roots), os.environ.get("PYTHONPATH", "")])
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([self._worker])
        self._ask(_answer_nothing)

    def run(self, name: str, tool: str, target: str) -> dict[str, Any]:
        """What the worker's ``run`` returns; ``status`` may also be ``timeout`` or ``crash``."""
        return self._ask(_answer, self._limit, self._worker, name, tool, target)

    def _ask(self, function: Any, *arguments: Any) -> dict[str, Any]:
        receiver, sender = self._context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "written"
            process = self._context.Process(target=function, args=(sender, str(written), *arguments), daemon=True)
            process.start()
            sender.close()
            patience = PATIENCE * self._limit if arguments else None  # the first one waits for the imports
            try:
                return receiver.recv() if receiver.poll(patience) else {"status": "timeout"}
            except EOFError:
                process.join(5)
                if process.exitcode == -signal.SIGXCPU:
                    return {"status": "timeout"}
                return {"status": "crash", "error": f"exit code {process.exitcode}; {_last_line(written)}"}
            finally:
                process.kill()
                process.join()
                receiver.close()


def _answer(sender: Connection, written: str, limit: int, worker: str, name: str, tool: str, target: str) -> None:
    _quiet(written)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    sender.send(importlib.import_module(worker).run(name, tool, target))


def _answer_nothing(sender: Connection, written: str) -> None:
    sender.send({})


def _quiet(written: str) -> None:
    """Send to a file what the tools and their libraries say."""
    file = os.open(written, os.O_WRONLY | os.O_CREAT)
    sys.stdout.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)


def _last_line(written: Path) -> str:
    lines = written.read_text("utf-8", "replace").strip().splitlines() if written.exists() else []
    return lines[-1] if lines else "nothing was said"
