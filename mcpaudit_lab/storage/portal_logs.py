"""What a lab remembers of portals' logs: the key, the newest checkpoint, the leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.storage.queries import read_events

if TYPE_CHECKING:
    import duckdb

    from mcpaudit_lab.record import Event

__all__ = ["KnownLog", "PortalLogs"]

_TABLES: Final = (
    (
        "create table if not exists portal_logs (portal varchar primary key, log_key varchar,"
        " size bigint, note varchar, seen_at timestamptz)"
    ),
    (
        "create table if not exists portal_leaves (portal varchar, place bigint,"
        " event_id varchar, hash varchar, checked boolean)"
    ),
    # A lab of an earlier version.
    "alter table portal_leaves add column if not exists checked boolean",
)
_EXISTS: Final = "select count(*) from duckdb_tables() where table_name = 'portal_logs'"
# The events of a portal's log that the lab has; with $all, those that were compared before, too.
_KNOWN: Final = (
    "(select try_cast(event_id as uuid) from portal_leaves where portal = $portal"
    " and ($all or checked is not true) and try_cast(event_id as uuid) is not null)"
)


@dataclass(frozen=True, slots=True)
class KnownLog:
    """What a lab knows of one portal's log.

    Attributes:
        portal: the portal's URL.
        key: the key that verified its checkpoints, as text.
        size: the number of leaves in the newest checkpoint.
        note: that checkpoint.
    """

    portal: str
    key: str
    size: int
    note: str


class PortalLogs:
    """The tables ``portal_logs`` and ``portal_leaves`` of a lab.

    Args:
        connection: a cursor of the lab; for changes, in a transaction.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def _exists(self) -> bool:
        row = self._connection.execute(_EXISTS).fetchone()
        return row is not None and bool(row[0])

    def known(self) -> list[KnownLog]:
        """The logs that the lab knows."""
        if not self._exists():
            return []
        rows = self._connection.execute(
            "select portal, log_key, size, note from portal_logs order by portal"
        ).fetchall()
        return [KnownLog(*row) for row in rows]

    def of(self, portal: str) -> KnownLog | None:
        """The log of a portal, or None."""
        return next((log for log in self.known() if log.portal == portal), None)

    def add(self, log: KnownLog, start: int, leaves: Sequence[tuple[str, str]]) -> None:
        """Remember a newer checkpoint, and the leaves since the last one."""
        import pyarrow as pa

        for statement in _TABLES:
            self._connection.execute(statement)
        values = {"portal": log.portal, "key": log.key, "size": log.size, "note": log.note}
        self._connection.execute(
            "insert or replace into portal_logs values ($portal, $key, $size, $note, now())", values
        )
        table = pa.table(
            {
                "place": pa.array(range(start, start + len(leaves)), pa.int64()),
                "event_id": pa.array([event_id for event_id, _ in leaves], pa.string()),
                "hash": pa.array([value for _, value in leaves], pa.string()),
            }
        )
        self._connection.register("mcpaudit_leaves", table)
        self._connection.execute(
            "insert into portal_leaves by name"
            " select $portal as portal, place, event_id, hash, false as checked"
            " from mcpaudit_leaves",
            {"portal": log.portal},
        )
        self._connection.unregister("mcpaudit_leaves")

    def hashes(self, portal: str) -> list[bytes]:
        """The hashes of a portal's leaves, in order."""
        rows = self._connection.execute(
            "select hash from portal_leaves where portal = $portal order by place",
            {"portal": portal},
        ).fetchall()
        return [bytes.fromhex(value) for (value,) in rows]

    def leaves(self, portal: str) -> dict[str, tuple[int, str]]:
        """Event id to place and hash of a portal's leaves."""
        rows = self._connection.execute(
            "select event_id, place, hash from portal_leaves"
            " where portal = $portal and event_id <> ''",
            {"portal": portal},
        ).fetchall()
        return {event_id: (place, value) for event_id, place, value in rows}

    def events(
        self,
        portal: str,
        *,
        only_new: bool = False,
        damaged: Callable[[str], object] | None = None,
    ) -> Iterator[Event]:
        """The lab's events that are leaves of a portal's log.

        Args:
            portal: the portal's URL.
            only_new: leave out events that were found equal to their leaf before.
            damaged: called with the id of each row that cannot be read; None raises.
        """
        values = {"portal": portal, "all": not only_new}
        yield from read_events(self._connection, _KNOWN, values, damaged=damaged)

    def mark_checked(self, portal: str, event_ids: Sequence[str]) -> None:
        """Remember which events were found equal to their leaf."""
        self._connection.execute(
            "update portal_leaves set checked = true where portal = $portal"
            " and event_id in (select unnest($ids))",
            {"portal": portal, "ids": list(event_ids)},
        )

    def lost(self, portal: str) -> list[str]:
        """The ids of logged events that were pulled and that the lab has no more."""
        rows = self._connection.execute(
            "select distinct event_id::varchar from pulled join pulls on pulls.id = pulled.pull_id"
            " semi join portal_leaves l on l.event_id = pulled.event_id::varchar"
            " and l.portal = $portal"
            " anti join audit_events e on e.id = pulled.event_id where pulls.portal = $portal"
            " order by 1",
            {"portal": portal},
        ).fetchall()
        return [event_id for (event_id,) in rows]

    def listed(self, portal: str, question: str) -> set[str]:
        """The ids that the portal listed in the newest pull of a question."""
        rows: Iterable[tuple[str]] = self._connection.execute(
            "select event_id::varchar from pulled join pulls on pulls.id = pulled.pull_id"
            " where portal = $portal and question = $question",
            {"portal": portal, "question": question},
        ).fetchall()
        return {event_id for (event_id,) in rows}
