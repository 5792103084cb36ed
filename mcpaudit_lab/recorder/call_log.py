"""The Merkle log of a recorder's store: a leaf for each stored call, and signed checkpoints."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.proof import LOG_TABLES, Leaf, TreeLog, absent_leaf, leaf_of
from mcpaudit_lab.record import EVENT_COLUMNS, PAYLOAD_COLUMNS, Event
from mcpaudit_lab.tables import EXACT, PortalRows

if TYPE_CHECKING:
    from mcpaudit_lab.proof import LogSigner

__all__ = ["CallLog"]

_PAGE: Final = 64
# PortalRows reads the columns of the event, then those of the payload without captured_at.
_SUMMARY: Final = (*EVENT_COLUMNS, EXACT)
_PAYLOAD: Final = (*PAYLOAD_COLUMNS[:-1], EXACT)
_COLUMNS: Final = ", ".join(
    chain((f"e.{name}" for name in _SUMMARY), (f"p.{name}" for name in _PAYLOAD))
)
_ROWS: Final = (
    f"select e.commit_number, {_COLUMNS} from audit_events e"  # noqa: S608 - constant columns
    " left join audit_payloads p on p.event_id = e.id"
    " where e.commit_number > :size order by e.commit_number limit :page"
)


class CallLog:
    """The log of one SQLite store. The caller holds the transaction; other processes add to it too.

    Args:
        connection: to the store.
        key_file: the private key, made if missing, with mode 0600.
    """

    def __init__(self, connection: sqlite3.Connection, key_file: Path) -> None:
        self._connection = connection
        self._key_file = key_file
        self._signer: LogSigner | None = None
        self._signed = -1
        self._rows = PortalRows("sqlite")
        for statement in LOG_TABLES:
            connection.execute(statement)

    def _execute(self, query: str, values: Any) -> list[Any]:
        return self._connection.execute(query, values).fetchall()

    def add(self, first: int, events: Sequence[Event]) -> None:
        """Add leaves for events that were just stored.

        Args:
            first: the commit number of the first; the others follow.
            events: the events as they were stored.
        """
        # A tree of its own for each batch: it remembers every node that it makes.
        log = TreeLog(self._execute, self._connection.executemany)
        size = log.size()
        if size < first - 1:
            # Somebody else stored events, and keeps no log.
            size = self._catch_up(log, size, first)
        if size == first - 1:
            log.append(size, [_leaf(first + place, event) for place, event in enumerate(events)])

    def _catch_up(self, log: TreeLog, size: int, before: int) -> int:
        while size < before - 1:
            rows = self._execute(_ROWS, {"size": size, "page": _PAGE})
            leaves = list(self._leaves(size, [row for row in rows if row[0] < before], before))
            size = log.append(size, leaves)
        return size

    def _leaves(self, size: int, rows: Sequence[Sequence[Any]], before: int) -> Iterator[Leaf]:
        number = size + 1
        for at, *values in rows:
            yield from (absent_leaf(gone) for gone in range(number, at))
            split = len(_SUMMARY)
            try:
                yield _leaf(at, self._rows.read(values[:split], values[split:]))
            except RecordError:
                yield absent_leaf(at)
            number = at + 1
        if len(rows) < _PAGE:
            yield from (absent_leaf(gone) for gone in range(number, before))

    def sign(self) -> None:
        """Store a signed checkpoint over the leaves, if there are new ones."""
        log = TreeLog(self._execute)
        size = log.size()
        if size == self._signed:
            return
        if self._signer is None:
            from mcpaudit_lab.proof import LogSigner

            self._signer = LogSigner.from_file(self._key_file)
        log.keep_checkpoint(size, self._signer.sign(size, log.tree.root(size)))
        self._signed = size


def _leaf(number: int, event: Event) -> Leaf:
    try:
        return leaf_of(event)
    except RecursionError:
        return absent_leaf(number)
