"""What holds for the source tree as a whole: which way imports point, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("numba", "scipy", "torch", "keras", "tensorflow", "jax", "plotly", "rich", "typer", "sklearn", "tensorboard")


def test_imports_point_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after the statement."""
    tell = "print(*{name.split('.')[0] for name in sys.modules})"
    code = f"import sys; sys.path[:0] = ['corelib', 'adapters']\n{statement}\n{tell}"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(output.split())


def test_importing_the_core_loads_no_framework_and_no_compiler() -> None:
    assert loaded_by("import secateur").isdisjoint(HEAVY)


def test_importing_every_core_module_loads_no_framework() -> None:
    modules = [
        ".".join(path.relative_to(ROOT / "corelib").with_suffix("").parts)
        for path in sorted((ROOT / "corelib" / "secateur").rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py") and "cuda" not in path.name
    ]
    loaded = loaded_by("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in modules))
    assert loaded.isdisjoint(("torch", "keras", "tensorflow", "jax"))


@pytest.mark.parametrize(
    ("package", "framework", "extra"), [("secateur_torch", "torch", "torch"), ("secateur_keras", "keras", "keras")]
)
def test_a_missing_framework_says_how_to_install_it(package: str, framework: str, extra: str) -> None:
    code = (
        f"import sys; sys.path[:0] = ['corelib', 'adapters']; sys.modules[{framework!r}] = None\n"
        f"try:\n    import {package}\nexcept ImportError as error:\n    print(type(error).__name__, error)"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.startswith("MissingDependencyError")
    assert f"pip install 'secateur[{extra}]'" in output
