"""The Merkle log of a store: follows the order of commit, signs checkpoints."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, Engine, text

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.proof import LOG_TABLES, Leaf, LogSigner, TreeLog, absent_leaf, leaf_of
from mcpaudit_lab.server.stores.engine import execute_many_on, execute_on, translate_errors

if TYPE_CHECKING:
    from mcpaudit_lab.record import Event
    from mcpaudit_lab.server.stores.sql_logger import SqlLogger

__all__ = ["EventLog", "log_key_path"]

logger = logging.getLogger(__name__)

_PAGE: Final = 500
_LOCK: Final = 0x6D6370_74726565


def log_key_path(engine: Engine) -> Path | None:
    """The default file of a store's log key; None for a database in memory.

    Beside a SQLite file; for PostgreSQL in the user's data folder, by host, port and database.
    """
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return Path(f"{url.database}.log-key").absolute() if url.database else None
    from platformdirs import user_data_path

    where = f"{url.host} {url.port} {url.database} {sorted(url.query.items())}"
    name = hashlib.sha256(where.encode()).hexdigest()[:16]
    return user_data_path("mcpaudit-lab", appauthor=False) / "log-keys" / name


class EventLog:
    """The log of one store. Any thread and any number of processes may use it.

    Args:
        store: the events.
        signer: signs the checkpoints.

    Raises:
        StoreUnavailable: the database is unavailable, or its tables have no order of commit.
    """

    def __init__(self, store: SqlLogger, signer: LogSigner) -> None:
        if not store.tables.numbered:
            raise StoreUnavailable("these tables have no order of commit, so they have no log")
        self._store = store
        self.signer = signer
        self._mutex = threading.Lock()
        self._note = ""
        self._signed = -1
        with translate_errors(), store.engine.begin() as connection:
            for statement in LOG_TABLES:
                connection.exec_driver_sql(statement)

    def sync(self) -> str:
        """Add a leaf for every event committed so far; returns the newest signed checkpoint.

        Raises:
            StoreUnavailable: the database is unavailable.
        """
        with self._mutex:
            size = self._append_new()
            if size != self._signed:
                self._sign(size)
            return self._note

    def _append_new(self) -> int:
        while True:
            with self.reading() as log:
                size = log.size()
            # Outside of the transaction: it may have to number the rows of other programs first.
            page = self._store.after(size, _PAGE, payloads=True)
            if not page:
                return size
            leaves: list[Leaf] = []
            for item in page:
                missing = range(size + len(leaves) + 1, item.number)
                leaves += [absent_leaf(number) for number in missing]
                leaves.append(_leaf(item.event, item.number))
            with self._writing() as connection:
                log = TreeLog(execute_on(connection), execute_many_on(connection))
                # Another process may have added them meanwhile.
                if log.size() == size:
                    log.append(size, leaves)

    def _sign(self, size: int) -> None:
        with self._writing() as connection:
            log = TreeLog(execute_on(connection))
            self._note = self.signer.sign(size, log.tree.root(size))
            log.keep_checkpoint(size, self._note)
        self._signed = size

    @contextmanager
    def reading(self) -> Iterator[TreeLog]:
        """The tree, for proofs."""
        with translate_errors(), self._store.engine.connect() as connection:
            yield TreeLog(execute_on(connection))

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that only one process has at a time."""
        with translate_errors(), self._store.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            else:
                connection.exec_driver_sql("begin immediate")
            yield connection


def _leaf(event: Event, number: int) -> Leaf:
    try:
        return leaf_of(event)
    except RecursionError:
        logger.warning("event %s is nested too deeply for the log", event.id)
        return absent_leaf(number)
