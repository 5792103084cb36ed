"""The two tables: the lab's, a portal's, and column for column the reference server's."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import Engine, MetaData, Table, create_engine, delete, event, insert, select, text
from sqlalchemy.exc import IntegrityError

from mcpaudit_lab.filters.dialects import sqlite_moment
from mcpaudit_lab.record import EVENT_COLUMNS, PAYLOAD_COLUMNS
from mcpaudit_lab.record.jsontext import loads, same
from mcpaudit_lab.storage import CONTRACT_ORDER
from mcpaudit_lab.storage.schema import duckdb_tables
from mcpaudit_lab.tables.sqlalchemy_tables import ENGINE_OPTIONS, portal_tables

UPSTREAM = Path(__file__).parent / "data" / "upstream"
MOMENT = datetime(2026, 11, 24, 3, 43, 43, 274318, tzinfo=UTC)


def recorded_columns(table: str) -> set[str]:
    """The columns of the reference server's table, from its INSERT statements."""
    first = (UPSTREAM / "pg" / f"{table}.sql").read_text(encoding="utf-8").partition("VALUES")[0]
    found = re.search(r"\((.*)\)", first)
    assert found is not None
    return set(found.group(1).split(", "))


def test_the_columns_are_the_reference_servers() -> None:
    assert set(EVENT_COLUMNS) == recorded_columns("audit_events")
    assert set(PAYLOAD_COLUMNS) == recorded_columns("audit_payloads")


def test_the_labs_tables_have_those_columns_and_extra() -> None:
    connection = duckdb.connect()
    for statement in duckdb_tables():
        connection.execute(statement)
    for table, columns in (("audit_events", EVENT_COLUMNS), ("audit_payloads", PAYLOAD_COLUMNS)):
        rows = connection.execute(f"describe {table}").fetchall()
        computed = ["trace_id", "span_id"] if table == "audit_events" else []
        assert [row[0] for row in rows] == [*columns, "extra", *computed]
    types = dict(row[:2] for row in connection.execute("describe audit_events").fetchall())
    assert types["id"] == "UUID"
    assert types["ts"] == "TIMESTAMP WITH TIME ZONE"
    assert types["duration_ms"] == "BIGINT"
    assert types["success"] == "BOOLEAN"
    assert types["parameters"] == "JSON"
    connection.close()


def test_in_the_lab_missing_text_is_empty_and_a_document_is_json() -> None:
    connection = duckdb.connect()
    for statement in duckdb_tables():
        connection.execute(statement)
    connection.execute("insert into audit_events (id, ts) values (uuid(), now())")
    row = connection.execute(
        "select user_subject, duration_ms, success, parameters from audit_events"
    ).fetchone()
    assert row == ("", 0, False, None)
    for broken in ('{"a": "\\ud800"}', "{'a': 1}", "NaN,"):
        with pytest.raises(duckdb.Error):
            connection.execute(
                "insert into audit_events (id, ts, parameters) values (uuid(), now(), $text)",
                {"text": broken},
            )
    with pytest.raises(duckdb.ConstraintException):
        connection.execute("insert into audit_events (id) values (uuid())")
    connection.close()


def test_ids_and_times_order_as_the_contract_says() -> None:
    connection = duckdb.connect()
    connection.execute("create table audit_events (id uuid, ts timestamptz)")
    ids = [f"{digit}0000000-0000-4000-8000-000000000000" for digit in "f08a7"]
    connection.executemany(
        "insert into audit_events values (?, '2026-01-01 00:00:00+00')", [[id_] for id_ in ids]
    )
    connection.execute("insert into audit_events values (uuid(), '2026-01-02 00:00:00+00')")
    ordered = (
        connection.table("audit_events")
        .set_alias("e")
        .order(CONTRACT_ORDER.removeprefix("order by "))
    )
    rows = ordered.project("cast(id as varchar)").fetchall()
    assert [row[0] for row in rows][1:] == sorted(ids)
    connection.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def portal(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A portal's database: the engine and its two tables."""
    if request.param == "sqlite":
        engine = create_engine(f"sqlite:///{tmp_path / 'portal.db'}", **ENGINE_OPTIONS)
        event.listen(engine, "connect", lambda raw, _: raw.execute("pragma foreign_keys = on"))
    else:
        engine = create_engine(request.getfixturevalue("postgres_database"), **ENGINE_OPTIONS)
    metadata = MetaData()
    tables = portal_tables(metadata)
    metadata.create_all(engine)
    yield engine, *tables
    engine.dispose()


def test_a_portals_tables_take_the_recorded_rows(portal: tuple[Engine, Table, Table]) -> None:
    engine, events, payloads = portal
    for table in (events, payloads):
        assert {column.name for column in table.c} == recorded_columns(table.name)
    if engine.dialect.name != "postgresql":
        return
    with engine.begin() as connection:
        for table in (events, payloads):
            statements = (UPSTREAM / "pg" / f"{table.name}.sql").read_text(encoding="utf-8")
            connection.exec_driver_sql(statements.replace("%", "%%"))
        rows = connection.execute(select(events.c.ts, events.c.parameters)).all()
    assert len(rows) == 672
    assert all(row.ts.tzinfo is UTC for row in rows)


@pytest.mark.parametrize(
    "written",
    [
        '{"n":9007199254740993,"f":1.0,"d":1.10,"big":1e400,"deep":[[{}]],"t":"é\\u0001","e":1E5}',
        "1.0",
        "123456789012345678901234567890",
        '"1.0"',
        "[null]",
        "true",
        "{}",
    ],
)
def test_json_comes_back_with_its_value(portal: tuple[Engine, Table, Table], written: str) -> None:
    engine, events, _ = portal
    with engine.begin() as connection:
        connection.execute(insert(events), {"id": "a", "ts": MOMENT, "parameters": loads(written)})
        found = connection.execute(select(events.c.parameters)).scalar()
    # jsonb forgets the spelling, not the value.
    assert same(found, loads(written), spelling=engine.dialect.name == "sqlite")


def test_none_is_null_and_missing_text_is_empty(portal: tuple[Engine, Table, Table]) -> None:
    engine, events, _ = portal
    with engine.begin() as connection:
        connection.execute(insert(events), {"id": "a", "ts": MOMENT, "parameters": None})
        row = connection.execute(
            text("select parameters, tool_name, duration_ms from audit_events")
        )
        assert tuple(row.one()) == (None, "", 0)


def test_times_come_back_in_utc_and_sort_as_times(portal: tuple[Engine, Table, Table]) -> None:
    engine, events, payloads = portal
    moments = [
        datetime(1, 1, 1, tzinfo=UTC),
        MOMENT.replace(microsecond=0),
        MOMENT,
        (MOMENT + timedelta(microseconds=1)).astimezone(timezone(timedelta(hours=-5))),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ]
    with engine.begin() as connection:
        for number, moment in enumerate(reversed(moments)):
            connection.execute(insert(events), {"id": str(number), "ts": moment})
        connection.execute(insert(payloads), {"event_id": "0"})
        found = connection.execute(select(events.c.ts).order_by(events.c.ts)).scalars().all()
        captured = connection.execute(select(payloads.c.captured_at)).scalar()
    assert list(found) == moments
    assert all(moment.tzinfo is UTC for moment in found)
    assert captured is None


def test_an_event_takes_its_payload_along_and_clears_its_replays(
    portal: tuple[Engine, Table, Table],
) -> None:
    engine, events, payloads = portal
    with engine.begin() as connection:
        connection.execute(insert(events), [{"id": id_, "ts": MOMENT} for id_ in ("a", "b")])
        connection.execute(
            insert(payloads),
            [{"event_id": "a", "replayed_from": None}, {"event_id": "b", "replayed_from": "a"}],
        )
        connection.execute(delete(events).where(events.c.id == "a"))
        rows = connection.execute(select(payloads.c.event_id, payloads.c.replayed_from)).all()
    assert [tuple(row) for row in rows] == [("b", None)]


def test_an_error_does_not_show_what_was_bound(portal: tuple[Engine, Table, Table]) -> None:
    engine, events, _ = portal
    row = {"id": "a", "ts": MOMENT, "user_agent": "hunter2"}
    with engine.begin() as connection:
        connection.execute(insert(events), row)
    with pytest.raises(IntegrityError) as raised, engine.begin() as connection:
        connection.execute(insert(events), row)
    assert "hunter2" not in str(raised.value)


def test_sqlite_keeps_a_time_with_six_decimals_always() -> None:
    assert sqlite_moment(MOMENT) == "2026-11-24T03:43:43.274318Z"
    assert sqlite_moment(MOMENT.replace(microsecond=0)) == "2026-11-24T03:43:43.000000Z"
    assert sqlite_moment(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000000Z"


def test_the_filter_and_the_labs_tables_need_no_sqlalchemy() -> None:
    code = (
        "import sys, mcpaudit_lab.tables, mcpaudit_lab.filters.sql;"
        "print(sorted({'sqlalchemy', 'duckdb', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
