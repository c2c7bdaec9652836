"""Where a network can be trained: a framework and the backend that computes for it, in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from secateur.demo.twin import installed
from secateur.errors import MissingDependencyError, RecipeError

# A framework that is not named here computes by itself.
BACKENDS: dict[str, tuple[str, ...]] = {"keras": ("tensorflow", "jax", "torch")}


@dataclass(frozen=True)
class Platform:
    """A framework and its backend, as results name them: ``torch`` with ``torch``, ``keras`` with ``jax``."""

    framework: str
    backend: str

    @property
    def name(self) -> str:
        """Both in one word: ``torch``, ``keras/jax``."""
        return self.framework if self.framework == self.backend else f"{self.framework}/{self.backend}"

    def environment(self) -> dict[str, str]:
        """The environment of its process, in which all must stand before the framework is imported.

        One thread each on the CPU: the networks are small, the processes share the machine, and sums keep their order.
        """
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
        tensorflow = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        return {
            **os.environ,
            **dict.fromkeys((*threads, *tensorflow, "SECATEUR_THREADS"), "1"),
            "KERAS_BACKEND": self.backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "0",
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
            "PYTHONUNBUFFERED": "1",
        }


def platforms(frameworks: Iterable[str], backends: Iterable[str]) -> list[Platform]:
    """The platforms that the user asked for, once each.

    Args:
        frameworks: entry point names of adapters.
        backends: for frameworks that have a choice of backends; empty for the first that is installed.

    Raises:
        MissingDependencyError: no adapter of such a name.
        RecipeError: a backend that no framework has.
    """
    wanted = list(dict.fromkeys(backends))
    for backend in wanted:
        if not any(backend in known for known in BACKENDS.values()):
            known = ", ".join(dict.fromkeys(name for names in BACKENDS.values() for name in names))
            raise RecipeError(f"--backend {backend}: use one of {known}")
    found: list[Platform] = []
    for framework in dict.fromkeys(frameworks):
        if framework not in installed():
            known = ", ".join(sorted(installed())) or "none; install secateur with pip"
            raise MissingDependencyError(f"--framework {framework}: there is no such adapter (there are: {known})")
        found += [Platform(framework, backend) for backend in _backends(framework, wanted)]
    return found


def _backends(framework: str, wanted: list[str]) -> list[str]:
    known = BACKENDS.get(framework)
    if known is None:
        return [framework]
    return wanted or [next((name for name in known if find_spec(name) is not None), known[0])]
