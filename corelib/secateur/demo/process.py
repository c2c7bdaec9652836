"""The demo's side of its worker processes: start one, hand it tasks, hear its events."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from secateur.demo.plan import Options
from secateur.demo.platforms import Platform
from secateur.errors import MissingDependencyError, WorkerError

OnEvent = Callable[[Platform, dict[str, Any]], None]


class Worker:
    """One platform's process; a context manager that ends it.

    Args:
        platform: what it runs.
        options: what the user asked for.
        folder: where arrays are exchanged; its error stream is kept there too.
        on_event: called with every event that is not an answer, from the thread that waits for the answer.

    Attributes:
        versions: name -> version of what it imported, after :meth:`wait_ready`.
    """

    def __init__(self, platform: Platform, options: Options, folder: Path, on_event: OnEvent) -> None:
        self.platform = platform
        self.versions: dict[str, str] = {}
        self._on_event = on_event
        self._log = folder / f"{platform.name.replace('/', '-')}.log"
        job = {
            "framework": platform.framework,
            "platform": platform.name,
            "folder": str(folder),
            "options": {**asdict(options), "out": str(options.out)},
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "secateur.demo.worker", json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=platform.environment(),
                encoding="utf-8",
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process and release its pipes."""
        self.end()
        self._process.communicate()

    def end(self) -> None:
        """End the process, whatever it is doing: it has nothing to lose. Who waits for an answer gets a WorkerError."""
        self._process.kill()

    def wait_ready(self) -> None:
        """Wait until the framework is imported.

        Raises:
            MissingDependencyError: it is not installed.
            WorkerError: the process ended.
        """
        answer = self._answer({"ready", "missing"})
        if answer["event"] == "missing":
            raise MissingDependencyError(answer["message"])
        self.versions = answer["versions"]

    def ask(self, task: str, **fields: Any) -> dict[str, Any]:
        """Hand over a task and wait for its result.

        Raises:
            WorkerError: the task failed, or the process ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"task": task, **fields}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        answer = self._answer({"done", "refused", "failed"})
        if answer["event"] != "done":
            message = f"{self.platform.name} could not {task}: {answer['message']}"
            raise WorkerError(message) if answer["event"] == "refused" else self._error(message)
        result: dict[str, Any] = answer["result"]
        return result

    def _answer(self, wanted: set[str]) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] in wanted:
                return event
            self._on_event(self.platform, event)
        raise self._ended()

    def _ended(self) -> WorkerError:
        return self._error(f"the process of {self.platform.name} ended (status {self._process.wait()})")

    def _error(self, message: str, lines: int = 20) -> WorkerError:
        """With what the process wrote last to its error stream."""
        last = self._log.read_text("utf-8", errors="replace").splitlines()[-lines:]
        return WorkerError("\n".join([message, *last]))
