"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from secateur.errors import FileFormatError


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write ``text`` as UTF-8, as :func:`write_bytes` does."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write to a temporary file beside ``path``, which then takes its place; missing folders are made.

    Returns:
        The path written.

    Raises:
        FileFormatError: ``path`` is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise FileFormatError(f"{target} is a folder: give the name of a file, such as {target / 'report.html'}")
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for their owner alone; a report is for whoever may read the folder.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target
