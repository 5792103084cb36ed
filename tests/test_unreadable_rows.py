"""Rows that others wrote or that were damaged: told and left out, and never in another's way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from portals import an_event
from sqlalchemy import create_engine, text

from mcpaudit_lab.errors import RecordError, UnreadableRow
from mcpaudit_lab.events import EVENT_FIELDS, PAYLOAD_FIELDS, Event, Payload, respell_time
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.jsontext import loads
from mcpaudit_lab.lab import Lab
from mcpaudit_lab.server.sql_logger import SqlLogger

ALL = EventFilter()
BAD_ID = "22222222-0000-4000-8000-000000000002"
IDS = [f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-4000-8000-00000000000{n}" for n in (1, 2, 3)]
# SQL of what a column of SQLite may hold and is no value of its kind.
NO_TEXT = ["x'ff00'", "cast(x'61ff62' as text)"]
SQLITE_BAD: dict[str, list[str]] = {
    "time": [
        *("'yesterday'", "'now'", "''", "'2026-11-24 03:50:12'", "1764042612", "1764042612.5"),
        *("'2026-02-30T00:00:00.000000Z'", "'2026-11-24T24:00:00.000000Z'", "x'00'"),
        *("'0000-01-01T00:00:00.000000Z'", "'2026-11-24T03:50:12.723167+99'", "'infinity'"),
    ],
    "int": ["'many'", "1.5", "1e30", "9e999", "x'31'"],
    "bool": ["2", "-1", "'maybe'", "0.5", "x'01'"],
    "text": NO_TEXT,
    "json": [*NO_TEXT, "'{'", "''", "'NaN'", "'{\"a\":01}'", "'{}{}'", "x'7b7d'", "17.5e400"],
    "id": [*NO_TEXT, "'not-a-uuid'", "'00000000-0000-4000-8000-00000000000g'", "''", "17"],
    "headers": ["'[1]'", "'\"text\"'"],
    "notifications": ["'{\"a\":1}'", "'[1]'"],
    "exact": [*NO_TEXT, "'{'", "'[]'", "'17'", "x'7b7d'"],
}
# What the types of PostgreSQL allow.
POSTGRESQL_BAD: dict[str, list[str]] = {
    "time": ["'infinity'", "'-infinity'", "'12026-01-01+00'", "'0044-03-15 00:00+00 BC'"],
    "id": ["'not-a-uuid'", "''", "'00000000-0000-4000-8000-00000000000g'"],
    "headers": ["'[1]'", "'\"text\"'", "'7'"],
    "notifications": ["'{\"a\":1}'", "'[1]'", "'[{}, null]'"],
    "exact": ["'{'", "'[]'", "'{]}'", "'17'"],
}
# The same tables, every column of text.
TEXT_BAD: dict[str, list[str]] = {
    "time": ["'yesterday'", "'2026-11-24 03:50:12'", "'1764042612'", "'2026-02-30T00:00:00Z'"],
    "int": ["'many'", "'1.5'", "'1e3'", "''", "'99999999999999999999'"],
    "bool": ["'maybe'", "'2'", "''", "'yes'"],
    "json": ["'{'", "''", "'NaN'"],
    **{kind: POSTGRESQL_BAD[kind] for kind in ("id", "headers", "notifications", "exact")},
}
BAD = {"sqlite": SQLITE_BAD, "postgresql": POSTGRESQL_BAD, "texts": TEXT_BAD}


def kinds_of(table: str, column: str) -> list[str]:
    """The kinds of bad values that a column may hold."""
    if column == "exact":
        return ["exact"]
    fields = EVENT_FIELDS if table == "audit_events" else PAYLOAD_FIELDS
    kind: str = next(field.kind for field in fields if field.column == column)
    named = {"request_headers": ["headers"], "notifications": ["notifications"]}
    return [kind, *named.get(column, [])]


def cases(engine: str) -> Iterator[tuple[str, str, str]]:
    """Table, column and bad value. An id that the engine itself refuses there is none."""
    tables = {"audit_events": EVENT_FIELDS, "audit_payloads": PAYLOAD_FIELDS[:-1]}
    for table, fields in tables.items():
        for column in [*(field.column for field in fields), "exact"]:
            for kind in kinds_of(table, column):
                for value in BAD[engine].get(kind, []):
                    if column == "replayed_from" and value in ("null", "''"):
                        continue
                    yield table, column, value
    # One of another event.
    yield "audit_events", "exact", f"'{an_event(id=IDS[2]).to_json()}'"


CASES = [(engine, *case) for engine in BAD for case in cases(engine)]


def good_events() -> list[Event]:
    return [
        an_event(
            number,
            id=event_id,
            duration_ms=5,
            user_subject=f"user {number}",
            tool_name="echo",
            payload=Payload.build(jsonrpc_method="tools/call", request_params={"n": number}),
        )
        for number, event_id in enumerate(IDS, 1)
    ]


def texts_only(url: str) -> None:
    """Tables whose columns are all texts, without keys, as a careless copy has them."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for table, fields in (("audit_events", EVENT_FIELDS), ("audit_payloads", PAYLOAD_FIELDS)):
            columns = [f"{field.column} text" for field in fields]
            columns += ["event_id text"] * (table == "audit_payloads")
            connection.execute(text(f"create table {table} ({', '.join(columns)})"))
    engine.dispose()


@pytest.fixture(scope="module")
def stores(
    tmp_path_factory: pytest.TempPathFactory, postgres_url: str, postgres_module_database: str
) -> Iterator[dict[str, SqlLogger]]:
    """One store for each engine, its foreign keys out of the way of a damaged id."""
    folder = tmp_path_factory.mktemp("stores")
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("create database texts_only"))
    texts_url = postgres_url.replace("/postgres?", "/texts_only?")
    texts_only(texts_url)
    with (
        SqlLogger(f"sqlite:///{folder / 'audit.db'}") as sqlite,
        SqlLogger(postgres_module_database) as postgresql,
        SqlLogger(texts_url) as texts,
    ):
        for name in ("event_id", "replayed_from"):
            run(
                postgresql,
                f"alter table audit_payloads drop constraint audit_payloads_{name}_fkey",
            )
        made = {"sqlite": sqlite, "postgresql": postgresql, "texts": texts}
        for store in made.values():
            store.log(good_events())
        yield made
    with engine.connect() as connection:
        connection.execute(text("drop database texts_only with (force)"))
    engine.dispose()


def run(store: SqlLogger, *statements: str, **params: Any) -> None:
    with store.engine.connect() as connection:
        if store.engine.dialect.name == "sqlite":
            connection.exec_driver_sql("pragma foreign_keys = off")
            connection.exec_driver_sql("pragma ignore_check_constraints = on")
        for statement in statements:
            connection.execute(text(statement), params)
        connection.commit()
        if store.engine.dialect.name == "sqlite":
            connection.exec_driver_sql("pragma foreign_keys = on")


@pytest.fixture
def damaged(request: pytest.FixtureRequest, stores: dict[str, SqlLogger]) -> Iterator[Any]:
    """A store with one bad value, and what it is in; mended afterwards."""
    engine, table, column, value = request.param
    store = stores[engine]
    key = "id" if table == "audit_events" else "event_id"
    bound = value.replace(":", "\\:")
    run(store, f"update {table} set {column} = {bound} where {key} = '{BAD_ID}'")
    yield store, table, column
    run(store, "delete from audit_payloads", "delete from audit_events")
    run(store, "update audit_commits set last = 0")
    store.log(good_events())
    assert store.unreadable().count == 0


def shape(store: SqlLogger, wanted: EventFilter = ALL) -> dict[str, Any]:
    """What a store answers, from all of its ways to read."""
    ids = [event.id for event in store.query(wanted)]
    listed = [event.id for page in store.stream(wanted, payloads=True) for event in page]
    exported = [
        Event.from_json(line).id
        for payloads in (False, True)
        for page in store.export(wanted, payloads=payloads)
        for line in page.splitlines()
    ]
    assert listed == ids
    assert exported == ids + ids
    assert sorted(item.event.id for item in store.after(0, 100, wanted, payloads=True)) == sorted(
        ids
    )
    assert store.count(wanted) == len(ids)
    assert store.stats(wanted).total == len(ids)
    assert sum(point.count for point in store.timeseries(wanted, timedelta(minutes=1))) == len(ids)
    shares = store.breakdown(wanted, "tool")
    assert sum(share.count for share in shares) == len(ids)
    return {"ids": ids, "shares": shares}


@pytest.mark.parametrize(
    "damaged", CASES, indirect=True, ids=[f"{e}-{t[6:]}-{c}-{v[:24]}" for e, t, c, v in CASES]
)
def test_a_bad_value_costs_its_own_row_and_nothing_else(damaged: Any) -> None:
    store, table, column = damaged
    whole = IDS[::-1]
    others = [item for item in whole if item != BAD_ID]
    assert shape(store)["ids"] == (others if table == "audit_events" else whole)
    # What only reading shows is counted when it was read.
    assert store.unreadable().count == 1
    assert shape(store, EventFilter(q="echo"))["ids"] == (
        others if table == "audit_events" else whole
    )
    assert shape(store, EventFilter(q="user"))["ids"] == (
        others if table == "audit_events" else whole
    )
    for number, event_id in ((1, IDS[0]), (3, IDS[2])):
        assert shape(store, EventFilter(params={"n": number}))["ids"] == [event_id]
        assert store.event(event_id) is not None
    assert shape(store, EventFilter(params={"n": 2}))["ids"] == []
    assert shape(store, EventFilter(from_="2026-11-24T00:00:00Z"))["ids"] == (
        others if table == "audit_events" else whole
    )
    if column not in ("id", "event_id"):
        with pytest.raises(UnreadableRow) as caught:
            store.event(BAD_ID)
        assert column in caught.value.reason
        assert set(caught.value.columns) == {"audit_events", "audit_payloads"}
        assert caught.value.columns["audit_events"]["id"] == BAD_ID
    new = an_event(9)
    store.log([new])
    assert store.query(EventFilter(limit=1)) == [new.summary]
    assert [item.event.id for item in store.after(3, 10)] == [new.id]
