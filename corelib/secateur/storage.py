"""The folder that a pruned model is saved in: recipe, removal plan and bit-packed masks beside the framework's weights.

A folder is written whole under a temporary name and then renamed, so a crash leaves the old one as it was. A manifest
has the SHA-256 of each file, so that what was damaged later is not taken for weights. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import masks as mask_operations
from secateur.errors import FileFormatError
from secateur.recipe import Recipe

BoolArray = npt.NDArray[np.bool_]

RECIPE, PLAN, MASKS, MANIFEST = "recipe.json", "plan.json", "masks.safetensors", "manifest.json"
FORMAT = 1


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A new empty folder that takes the place of ``folder`` when the block ends well, and vanishes when it does not.

    Raises:
        FileFormatError: ``folder`` exists and is not one that Secateur wrote, so it is not replaced.
    """
    if folder.exists() and not (folder / RECIPE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileFormatError(f"{folder} exists and is not a folder that Secateur wrote; choose another or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fresh = workspace / "new"
        fresh.mkdir()
        yield fresh
        _open_to_others(fresh)
        old = workspace / "old"
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(workspace)


def _open_to_others(folder: Path) -> None:
    """Give each file the mode of any new file under the user's umask: safetensors' writer lets only the owner read."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.iterdir():
        path.chmod(mode)


def write(
    folder: Path, framework: str, recipe: Recipe, masks: Mapping[str, BoolArray], plan: dict[str, Any] | None
) -> None:
    """Write recipe, plan (None if the structure is not known) and masks (canonical layout, 1 bit an element).

    The manifest is written last: it covers these files, and all that the folder holds already.
    """
    from safetensors.numpy import save_file

    packed = {name: np.atleast_1d(mask_operations.pack(mask)) for name, mask in masks.items()}
    shapes = {name: json.dumps(mask.shape) for name, mask in masks.items()}
    save_file(packed, folder / MASKS, metadata=shapes)
    (folder / PLAN).write_text(json.dumps({"format": FORMAT, "framework": framework, "plan": plan}), "utf-8")
    (folder / RECIPE).write_text(recipe.to_json(), "utf-8")
    sums = {path.name: _checksum(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps({"sha256": sums}, indent=1), "utf-8")


def read(folder: Path, framework: str) -> tuple[Recipe, dict[str, BoolArray]]:
    """The recipe and masks of a saved folder.

    Raises:
        FileFormatError: a file is missing, damaged, of a newer format or written by the other framework's adapter.
    """
    _require_whole(folder)
    about = _json(folder / PLAN)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise FileFormatError(
            f"{folder / PLAN} is not of format {FORMAT}; it may come from a newer version of Secateur"
        )
    if about.get("framework") != framework:
        raise FileFormatError(f"{folder} was saved from {about.get('framework')}; load it with that adapter")
    document = _json(folder / RECIPE)
    try:
        recipe = Recipe.from_dict(document)
    except FileFormatError as error:
        raise FileFormatError(f"{folder / RECIPE}: {error}") from error
    return recipe, _masks(folder / MASKS)


def _require_whole(folder: Path) -> None:
    """Refuse files that are not as they were written; a folder from before there was a manifest is taken as it is."""
    if not (folder / MANIFEST).exists():
        return
    manifest = _json(folder / MANIFEST)
    sums = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(sums, dict):
        raise FileFormatError(f"{folder / MANIFEST} holds no checksums; is this a folder that Secateur saved?")
    for name, told in sums.items():
        try:
            found = _checksum(folder / name)
        except OSError as error:
            raise FileFormatError(
                f"{folder / name} cannot be read: {error}; it belongs to this folder by its {MANIFEST}"
            ) from error
        if found != told:
            raise FileFormatError(
                f"{folder / name} is damaged: its SHA-256 is {found[:12]}..., not {str(told)[:12]}... as {MANIFEST} "
                f"says; take it from a copy of the folder, or save the model again (without {MANIFEST} nothing is "
                "checked)"
            )


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}; is this a folder that Secateur saved?") from error


def _masks(path: Path) -> dict[str, BoolArray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            shapes = file.metadata() or {}
            return {
                name: mask_operations.unpack(file.get_tensor(name), tuple(json.loads(shapes[name])))
                for name in file.keys()  # noqa: SIM118 - not a mapping
            }
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}; is this a folder that Secateur saved?") from error
