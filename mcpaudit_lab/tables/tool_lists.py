"""Tool definitions and the lists they were offered in, as tables of SQLite, PostgreSQL and DuckDB.

``audit_tool_definitions`` has each definition once, by its SHA-256. ``audit_tool_lists`` has one
row for each period in which a server offered the same tools, ``audit_tool_offers`` one for each
tool of such a list. Times are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias
from uuid import uuid4

from mcpaudit_lab.record import ToolDefinition, ToolList

__all__ = ["TOOL_TABLES", "Execute", "read_tool_lists", "store_tool_list"]

TOOL_TABLES: Final = (
    (
        "create table if not exists audit_tool_definitions"
        " (sha256 varchar(64) primary key, name text not null, definition text not null)"
    ),
    (
        "create table if not exists audit_tool_lists (id varchar(36) primary key,"
        " server text not null, first_us bigint not null, last_us bigint not null,"
        " complete integer not null)"
    ),
    (
        "create table if not exists audit_tool_offers (list_id varchar(36) not null,"
        " name text not null, sha256 varchar(64) not null)"
    ),
)

Execute: TypeAlias = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]
"""Runs one statement with values for its ``:name`` parameters, gives its rows."""

_OFFERS: Final = "select name, sha256 from audit_tool_offers where list_id = :id"
_COLUMNS: Final = "select id, first_us, last_us, complete from audit_tool_lists"
_OFFER: Final = "insert into audit_tool_offers (list_id, name, sha256) values (:id, :name, :sha256)"
_LIST: Final = (
    "insert into audit_tool_lists (id, server, first_us, last_us, complete)"
    " values (:id, :server, :first, :last, :complete)"
)
# The list that was in force at a moment, and the one that followed.
_BEFORE: Final = (
    f"{_COLUMNS} where server = :server and first_us <= :at order by first_us desc, id limit 1"
)
_AFTER: Final = (
    f"{_COLUMNS} where server = :server and first_us > :at order by first_us, id limit 1"
)


def store_tool_list(execute: Execute, found: ToolList) -> bool:
    """Store a list, or extend the period of an equal one; returns whether the list was new.

    Storing the same list again changes nothing. The caller holds a transaction.
    """
    offers = {_storable(tool.name): tool.sha256 for tool in found.tools}
    server = _storable(found.server)
    for query in (_BEFORE, _AFTER):
        rows = execute(query, {"server": server, "at": found.first_us})
        for list_id, first_us, last_us, complete in rows:
            known = {str(row[0]): str(row[1]) for row in execute(_OFFERS, {"id": list_id})}
            if known == offers and bool(complete) == found.complete:
                execute(
                    "update audit_tool_lists set first_us = :first, last_us = :last where id = :id",
                    {
                        "id": list_id,
                        "first": min(first_us, found.first_us),
                        "last": max(last_us, found.last_us),
                    },
                )
                return False
    # A list seen inside the period of another one: that one ended before it and came back after.
    for list_id, first_us, last_us, complete in execute(
        _BEFORE, {"server": server, "at": found.first_us}
    ):
        if last_us > found.last_us:
            end = "update audit_tool_lists set last_us = :last where id = :id"
            execute(end, {"id": list_id, "last": first_us})
            again = str(uuid4())
            for name, sha256 in execute(_OFFERS, {"id": list_id}):
                execute(_OFFER, {"id": again, "name": name, "sha256": sha256})
            execute(
                _LIST,
                {
                    "id": again,
                    "server": server,
                    "first": last_us,
                    "last": last_us,
                    "complete": complete,
                },
            )
    list_id = str(uuid4())
    for tool in found.tools:
        execute(
            "insert into audit_tool_definitions (sha256, name, definition)"
            " values (:sha256, :name, :definition) on conflict do nothing",
            {"sha256": tool.sha256, "name": _storable(tool.name), "definition": tool.text},
        )
        execute(_OFFER, {"id": list_id, "name": _storable(tool.name), "sha256": tool.sha256})
    execute(
        _LIST,
        {
            "id": list_id,
            "server": server,
            "first": found.first_us,
            "last": found.last_us,
            "complete": int(found.complete),
        },
    )
    return True


def read_tool_lists(execute: Execute) -> Iterator[ToolList]:
    """Every list, by server and time."""
    rows = execute("select sha256, definition from audit_tool_definitions", {})
    texts = {str(sha256): str(text) for sha256, text in rows}
    lists = execute(
        "select id, server, first_us, last_us, complete from audit_tool_lists"
        " order by server, first_us, id",
        {},
    )
    for list_id, server, first_us, last_us, complete in lists:
        tools = tuple(
            ToolDefinition(str(name), str(sha), texts[str(sha)])
            for name, sha in execute(f"{_OFFERS} order by name", {"id": list_id})
        )
        yield ToolList(str(server), int(first_us), int(last_us), bool(complete), tools)


def _storable(name: str) -> str:
    """A name that every engine can store as text; the definition has it exactly."""
    return name.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
