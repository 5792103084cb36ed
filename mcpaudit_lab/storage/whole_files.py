"""Files that appear whole or not at all, readable by their owner only."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcpaudit_lab.errors import LabError

__all__ = ["appearing"]


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A file beside the wanted one, renamed to it at the end, removed if anything goes wrong."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise LabError(f"cannot write {str(path)!r}: {error.strerror}") from error
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
