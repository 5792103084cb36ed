"""The chain of the ledger: each source's link covers its row and every row before it.

A link is the SHA-256 over the link before, in hex, and the row in canonical JSON. Whoever knows the
last link notices a change in any row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.record import canonical_json
from mcpaudit_lab.storage import read_value

if TYPE_CHECKING:
    import duckdb

__all__ = ["COUNTS", "LedgerChain", "add_link", "chained_rows", "ensure_chain", "read_chain"]

COUNTS: Final = (
    "bytes",
    "lines",
    "loaded",
    "merged",
    "duplicates",
    "rejected",
    "blank",
    "other",
    "parts",
)
_CHAINED: Final = (
    *("id", "kind", "name", "request", "sha256", "format", "loaded_at"),
    *COUNTS,
)


@dataclass(frozen=True, slots=True)
class LedgerChain:
    """The ledger's chain, computed again.

    Attributes:
        loads: number of sources.
        head: the chain's last link, in hex; empty without one.
        broken: ids of the sources whose row, or an earlier one, is not what it was when it was
            entered.
        unchained: whether the lab was written by a version without a chain.
        unknown: number of events and payloads whose source the ledger does not have.
    """

    loads: int
    head: str
    broken: tuple[int, ...]
    unchained: bool
    unknown: int


def ensure_chain(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a lab of an earlier version its chain."""
    if not _has_chain(connection):
        connection.execute("alter table sources add column chain varchar")
        for row in _source_rows(connection):
            add_link(connection, row["id"])


def read_chain(connection: duckdb.DuckDBPyConnection) -> LedgerChain:
    """Compute the ledger's chain again and compare it."""
    unknown = sum(
        read_value(
            connection, f"select count(*) from {table} anti join sources s on s.id = source_id"
        )
        for table in ("audit_events", "audit_payloads")
    )
    unchained = not _has_chain(connection)
    rows = [] if unchained else _source_rows(connection)
    head, broken = "", []
    for row in rows:
        # Compared with the kept link before it: one changed row breaks one link.
        if _next_link(head, row) != row["chain"]:
            broken.append(int(row["id"]))
        head = row["chain"] or ""
    loads = int(read_value(connection, "select count(*) from sources"))
    return LedgerChain(loads, head, tuple(broken), unchained and loads > 0, unknown)


def _has_chain(connection: duckdb.DuckDBPyConnection) -> bool:
    query = (
        "select count(*) from duckdb_columns()"
        " where table_name = 'sources' and column_name = 'chain' and not internal"
    )
    return bool(read_value(connection, query))


def _source_rows(
    connection: duckdb.DuckDBPyConnection, which: str = "true"
) -> list[dict[str, Any]]:
    columns = ", ".join((*_CHAINED, "chain"))
    relation = connection.sql(f"select {columns} from sources where {which} order by id")
    rows: list[dict[str, Any]] = relation.to_arrow_table().to_pylist()
    return rows


def add_link(connection: duckdb.DuckDBPyConnection, source_id: int) -> None:
    """Give a source the next link of the chain."""
    head = read_value(
        connection,
        "select chain from sources where id < $id order by id desc limit 1",
        {"id": source_id},
    )
    (row,) = _source_rows(connection, f"id = {source_id:d}")
    connection.execute(
        "update sources set chain = $chain where id = $id",
        {"chain": _next_link(head or "", row), "id": source_id},
    )


def chained_rows(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The ledger as JSON values: what each link covers, and the link as ``chain``.

    A lab of an earlier version has no chain, and so no rows here.
    """
    if not _has_chain(connection):
        return []
    return [{**_told(row), "chain": row["chain"]} for row in _source_rows(connection)]


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """What a link covers."""
    told = {name: row[name] for name in _CHAINED}
    told["loaded_at"] = row["loaded_at"].astimezone(UTC).isoformat(timespec="microseconds")
    return told


def _next_link(head: str, row: dict[str, Any]) -> str:
    return hashlib.sha256(f"{head}{canonical_json(_told(row))}".encode()).hexdigest()
