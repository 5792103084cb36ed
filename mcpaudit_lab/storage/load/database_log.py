"""Reads the Merkle log in a portal's database, and what it takes to compare rows with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mcpaudit_lab.proof import Leaf, TreeLog
from mcpaudit_lab.tables import EXACT

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["DatabaseLog", "read_log"]


class DatabaseLog(NamedTuple):
    """A Merkle log in a portal's database.

    Attributes:
        leaves: in order.
        checkpoints: signed notes.
        damage: what is wrong with the stored tree.
        exact: event id to table to the text of ``exact`` there, where it is not null.
        numbers: event id to commit number.
    """

    leaves: list[Leaf]
    checkpoints: list[str]
    damage: list[str]
    exact: dict[str, dict[str, str]]
    numbers: dict[str, Any]


def read_log(connection: Connection) -> DatabaseLog | None:
    """The log; None where the database has no tables for one."""
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("audit_tree_leaves"):
        return None

    def execute(query: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        found: Sequence[Sequence[Any]] = connection.execute(text(query), values).fetchall()
        return found

    log = TreeLog(execute)
    leaves = list(log.leaves(0, log.size()))
    exact: dict[str, dict[str, str]] = {}
    for table, key in (("audit_events", "id"), ("audit_payloads", "event_id")):
        query = f"select {key}, {EXACT} from {table} where {EXACT} is not null"
        for event_id, value in execute(query, {}):
            exact.setdefault(str(event_id), {})[table] = str(value)
    numbers = execute("select id, commit_number from audit_events", {})
    return DatabaseLog(
        leaves,
        log.checkpoints(),
        log.damage(leaves),
        exact,
        {str(event_id): number for event_id, number in numbers},
    )
