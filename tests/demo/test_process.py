"""The demo's processes: what is missing is passed over, what fails is told with its reason, prints disturb nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateur.demo.plan import Options
from secateur.demo.platforms import Platform, platforms
from secateur.demo.process import Worker
from secateur.errors import MissingDependencyError, RecipeError, WorkerError

FAKE = Platform("fake", "fake")
SPEAKING = """
    print("a library that talks while it is imported")

    def versions():
        return {"fake": "1.0"}
"""


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install an adapter of the name ``fake`` whose ``demo`` module has the given source."""

    def install(demo: str, package: str = "") -> None:
        (tmp_path / "fake_adapter").mkdir()
        (tmp_path / "fake_adapter" / "__init__.py").write_text(textwrap.dedent(package))
        (tmp_path / "fake_adapter" / "demo.py").write_text(textwrap.dedent(demo))
        facts = tmp_path / "fake-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text("[secateur.adapters]\nfake = fake_adapter\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return install


def worker(folder: Path, events: list[dict[str, Any]] | None = None) -> Worker:
    heard = [] if events is None else events
    return Worker(FAKE, Options(models=("mlp",), frameworks=("fake",)), folder, lambda _, event: heard.append(event))


def test_prints_do_not_disturb_the_protocol(adapter: Callable[..., None], tmp_path: Path) -> None:
    adapter(SPEAKING)
    with worker(tmp_path) as process:
        process.wait_ready()
        assert process.versions == {"fake": "1.0"}


def test_a_framework_that_is_not_installed_says_so(adapter: Callable[..., None], tmp_path: Path) -> None:
    package = """
        from secateur.errors import MissingDependencyError
        raise MissingDependencyError("fake needs Fake: pip install fake")
    """
    adapter(SPEAKING, package)
    with worker(tmp_path) as process, pytest.raises(MissingDependencyError, match="pip install fake"):
        process.wait_ready()


def test_a_process_that_dies_leaves_its_last_words(adapter: Callable[..., None], tmp_path: Path) -> None:
    adapter("raise RuntimeError('the library is broken')")
    with worker(tmp_path) as process, pytest.raises(WorkerError, match=r"(?s)status 1.*the library is broken"):
        process.wait_ready()


def test_a_task_that_fails_tells_why_and_the_process_goes_on(adapter: Callable[..., None], tmp_path: Path) -> None:
    download = """
    from secateur.errors import DataNotFoundError

    def download_mnist(path):
        if path.name == "missing":
            raise DataNotFoundError("no network")
        if path.name == "broken":
            raise ZeroDivisionError("by zero")
    """
    adapter(SPEAKING + download)
    with worker(tmp_path) as process:
        process.wait_ready()
        with pytest.raises(WorkerError, match="fake could not download: no network"):
            process.ask("download", path="missing")
        with pytest.raises(WorkerError, match=r"(?s)ZeroDivisionError: by zero.*Traceback"):
            process.ask("download", path="broken")
        with pytest.raises(WorkerError, match="no such task: celebrate"):
            process.ask("celebrate")
        assert process.ask("download", path="fine") == {}


def test_whoever_waits_hears_that_the_process_was_ended(adapter: Callable[..., None], tmp_path: Path) -> None:
    adapter(SPEAKING)
    with worker(tmp_path) as process:
        process.wait_ready()
        process.end()
        with pytest.raises(WorkerError, match="ended"):
            process.ask("time")


def test_each_framework_and_backend_is_one_platform() -> None:
    assert [platform.name for platform in platforms(["torch", "torch"], [])] == ["torch"]
    wanted = platforms(["keras"], ["jax", "torch", "jax"])
    assert [platform.name for platform in wanted] == ["keras/jax", "keras/torch"]
    assert [platform.environment()["KERAS_BACKEND"] for platform in wanted] == ["jax", "torch"]


def test_keras_has_a_backend_even_if_none_is_named() -> None:
    (platform,) = platforms(["keras"], [])
    assert platform.backend in ("tensorflow", "jax", "torch")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(MissingDependencyError, match=r"--framework caffe.*torch"):
        platforms(["caffe"], [])
    with pytest.raises(RecipeError, match="--backend mxnet: use one of tensorflow, jax, torch"):
        platforms(["keras"], ["mxnet"])
