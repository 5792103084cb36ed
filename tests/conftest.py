"""What tests share: the event loop, a real PostgreSQL, and how tests are spread over processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from browser import chromium
from own_postgres import OwnPostgres, empty_database, run_own_postgres, run_shared_postgres
from sqlalchemy import Engine, create_engine, text

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

__all__ = ["chromium"]

# The modules that take longest, longest first: whatever is started last must be short, or one
# process works alone at the end.
LONG = (
    "test_sql_logger",
    "test_pull_ours",
    "test_event_table",
    "test_hostile_data",
    "test_portal_http",
    "test_demo",
    "test_bad_input",
    "test_pull",
    "test_cli",
    "test_docs",
    "test_proof_portal",
    "test_assistant",
    "test_lab_load",
    "test_unreadable_rows",
    "test_read_only",
    "test_recorder_stdio",
    "test_sandbox",
    "test_replay_mcp",
    "test_auth",
)


def pytest_configure() -> None:
    """Take Ctrl-C again: a shell's background commands begin with it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the long modules; within a module the order stays."""
    rank = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Give a module to one process as a whole: what its tests share is made once."""
    from xdist.scheduler import LoadFileScheduling

    if config.getoption("dist") != "load":
        return None  # somebody asked for another one
    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of asynchronous tests; the servers run on this one too."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of this test run's own, as a SQLAlchemy URL."""
    with run_shared_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_admin(postgres_url: str) -> Iterator[Engine]:
    """Its superuser, outside of transactions. No test needs the data to survive a power cut."""
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in ("fsync", "full_page_writes"):
            connection.execute(text(f"ALTER SYSTEM SET {name} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    yield engine
    engine.dispose()


@pytest.fixture
def postgres_database(postgres_admin: Engine) -> Iterator[str]:
    """An empty database on that server, as a SQLAlchemy URL, for one test."""
    with empty_database(postgres_admin) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_module_database(postgres_admin: Engine) -> Iterator[str]:
    """An empty database on that server, as a SQLAlchemy URL, for the tests of one module."""
    with empty_database(postgres_admin) as url:
        yield url


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    """A PostgreSQL server of one test's own, which it may stop and start."""
    with run_own_postgres() as server:
        yield server
