"""Events copied from a portal's own tables equal those of its export and details."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import MetaData, create_engine, insert, text

from mcpaudit_lab import Event, Lab, SourceError
from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS
from mcpaudit_lab.record.jsontext import loads
from mcpaudit_lab.tables.jsonb import respell
from mcpaudit_lab.tables.sqlalchemy_tables import ENGINE_OPTIONS, portal_tables

UPSTREAM = Path(__file__).parent / "data" / "upstream"


@pytest.fixture(scope="module")
def files() -> Iterator[Lab]:
    with Lab() as lab:
        lab.load([UPSTREAM / "export.jsonl", UPSTREAM / "details.jsonl"])
        yield lab


@pytest.fixture(scope="module")
def reference(postgres_module_database: str) -> str:
    """A PostgreSQL database with the rows that the reference server wrote."""
    engine = create_engine(postgres_module_database, **ENGINE_OPTIONS)
    metadata = MetaData()
    portal_tables(metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for name in ("audit_events", "audit_payloads"):
            cursor = connection.connection.cursor()
            cursor.execute((UPSTREAM / "pg" / f"{name}.sql").read_text())
    engine.dispose()
    return postgres_module_database


@pytest.fixture
def sqlite(tmp_path: Path, files: Lab) -> str:
    """A portal's SQLite database with the recorded events."""
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    engine = create_engine(url, **ENGINE_OPTIONS)
    metadata = MetaData()
    events, payloads = portal_tables(metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for record in files.events():
            connection.execute(insert(events), columns(record.summary, EVENT_FIELDS))
        for record in files.events(has="response_result"):
            assert record.payload is not None
            row = columns(record.payload, PAYLOAD_FIELDS)
            connection.execute(insert(payloads), {"event_id": record.id, **row})
    engine.dispose()
    return url


def columns(record: Any, fields: Any) -> dict[str, Any]:
    return {
        field.column: getattr(record, field.name)
        if field.kind != "json"
        else record.wire.get(field.name)
        for field in fields
    }


def test_frames_from_postgresql_equal_those_from_files(reference: str, files: Lab) -> None:
    lab = Lab()
    report = lab.load_database(reference)
    assert (report.lines, report.loaded) == (672, 672)
    pd.testing.assert_frame_equal(lab.events().df(), files.events().df())
    lines = (UPSTREAM / "details.jsonl").read_bytes().splitlines()
    ids = tuple(Event.from_json(line).id for line in lines)
    ours, theirs = (EventSet(each, wanted=ids).df(payloads=True) for each in (lab, files))
    pd.testing.assert_frame_equal(ours, theirs)
    assert lab.load_database(reference).duplicates == 672


def test_a_database_fills_in_the_payloads_that_an_export_lacks(reference: str) -> None:
    lab = Lab()
    lab.load(UPSTREAM / "export.jsonl")
    report = lab.load_database(reference)
    assert (report.merged, report.duplicates, report.rejected) == (672, 0, 0)


def test_rows_from_sqlite_equal_those_from_files(sqlite: str, files: Lab) -> None:
    lab = Lab()
    assert lab.load_database(sqlite).loaded == 672
    pd.testing.assert_frame_equal(lab.events().df(), files.events().df())
    again = Lab()
    again.load(UPSTREAM / "details.jsonl")
    assert again.load_database(sqlite).rejected == 0


def test_only_what_a_filter_selects_is_copied(reference: str, sqlite: str, files: Lab) -> None:
    keywords: dict[str, Any] = {"tool": ["echo", "flaky"], "params": {"message": "nested"}}
    for url in (reference, sqlite):
        lab = Lab()
        lab.load_database(url, **keywords)
        wanted = files.events(tool="echo", q="echo").count()
        assert 0 < lab.events().count() < wanted
        paged = Lab()
        paged.load_database(url, limit=10, offset=5)
        assert paged.events().ids() == files.events().ids()[5:15]


def test_what_only_python_can_check_is_checked(sqlite: str, reference: str) -> None:
    for url in (sqlite, reference):
        lab = Lab()
        assert lab.load_database(url, params={"message": "a\ufffd"}, limit=3).loaded == 0


def test_the_ledger_knows_which_database_and_what_was_asked(reference: str) -> None:
    lab = Lab()
    lab.load_database(reference, tool="slow")
    (source,) = lab.sources().to_dict("records")
    assert (source["kind"], source["loaded"]) == ("database", 35)
    assert '"f0": "slow"' in source["request"]
    rows = b"".join(event.to_json().encode() + b"\n" for event in lab.events())
    assert source["bytes"] == len(rows)
    assert source["sha256"] == hashlib.sha256(rows).hexdigest()
    event_, payload = lab.provenance(lab.events().ids()[4])
    assert (event_.kind, event_.line, event_.raw) == ("database", 5, None)
    assert event_.request == payload.request == source["request"]
    assert "cannot be read again" in event_.note


def test_a_password_is_shown_nowhere(reference: str) -> None:
    secret = reference.replace("postgres:", "postgres:hunter2", 1)
    lab = Lab()
    lab.load_database(secret, tool="slow")
    shown = [repr(lab.sources().to_dict()), repr(lab.provenance(lab.events().ids()[0]))]
    assert all("hunter2" not in one for one in shown)
    wrong = "postgresql+psycopg://someone:hunter2@127.0.0.1:1/nothing?connect_timeout=1"
    with pytest.raises(SourceError) as caught:
        lab.load_database(wrong)
    chain = [repr(caught.value), str(caught.value), repr(caught.value.__context__)]
    assert caught.value.__suppress_context__
    assert all("hunter2" not in one for one in chain[:2])


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("nonsense", "looks like postgresql"),
        ("mysql://a:hunter2@b/c", "PostgreSQL or SQLite, not mysql"),
        ("sqlite:///no/such/file.db", "no such database"),
        ("sqlite://", "no such database"),
    ],
)
def test_what_is_no_portals_database_is_refused(url: str, match: str) -> None:
    lab = Lab()
    with pytest.raises(SourceError, match=match) as caught:
        lab.load_database(url)
    assert "hunter2" not in str(caught.value)


def test_a_database_without_the_tables_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("create table t (i int)"))
    engine.dispose()
    with pytest.raises(SourceError, match="no such table: audit_events"):
        Lab().load_database(f"sqlite:///{path}")


def test_a_database_that_fails_half_way_changes_nothing(sqlite: str) -> None:
    lab = Lab()
    engine = create_engine(sqlite)
    with engine.begin() as connection:
        # The oldest row, read last, holds what is no time.
        oldest = "(select min(ts) from audit_events)"
        connection.execute(text(f"update audit_events set ts = 'never' where ts = {oldest}"))
    engine.dispose()
    with pytest.raises(RecordError, match="ts: the time is not RFC 3339"):
        lab.load_database(sqlite, strict=True)
    assert lab.events().count() == 0
    assert lab.sources().empty


@pytest.mark.parametrize(
    ("stored", "wire"),
    [
        ("100000000000000000000000", "1e+23"),
        ("123456789012345680000000000000", "1.2345678901234568e+29"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("0.0000001", "1e-7"),
        ("0.000001", "0.000001"),
        ("1.0", "1.0"),
        ("9007199254740993", "9007199254740993"),
        ("0", "0"),
        ("true", "true"),
        (
            '{"bb":1,"a":{"d":[{"z":1,"c":2}],"cc":null}}',
            '{"a":{"cc":null,"d":[{"c":2,"z":1}]},"bb":1}',
        ),
    ],
)
def test_jsonb_is_spelled_as_the_wire_spells_it(stored: str, wire: str) -> None:
    from mcpaudit_lab.record.jsontext import dumps

    assert dumps(respell(loads(stored))) == wire
