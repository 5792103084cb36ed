"""Events in SQLite and PostgreSQL, both of them really running."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest
from logger_contract import (
    ALL,
    DETAILS,
    HOSTILE,
    UPSTREAM,
    LoggerContract,
    an_event,
    heard,
    lines_of,
    numbers,
)
from own_postgres import empty_database
from sqlalchemy import Engine, create_engine, text

from mcpaudit_lab.errors import FilterError, StoreUnavailable
from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.record import Event, format_time, parse_time
from mcpaudit_lab.record.jsontext import loads
from mcpaudit_lab.server.stores.row_writer import LOSSY_METHOD
from mcpaudit_lab.server.stores.sql_logger import SqlLogger
from mcpaudit_lab.server.stores.store import EventStore
from mcpaudit_lab.server.stores.subscriptions import Stored

# The tables of the reference server: texts may be null, some integers have 32 bits.
REFERENCE_TABLES = """
create table audit_events (
  id text primary key, ts timestamptz not null, duration_ms bigint not null,
  request_id text, session_id text, user_subject text, user_email text, auth_type text,
  api_key_name text, tool_name text not null, tool_group text, parameters jsonb,
  success boolean not null, error_message text, error_category text, request_chars integer,
  response_chars integer, content_blocks integer, transport text not null, source text not null,
  remote_addr text, user_agent text);
create index audit_events_tool_idx on audit_events (tool_name, ts desc);
create table audit_payloads (
  event_id text primary key references audit_events (id) on delete cascade,
  jsonrpc_method text, request_params jsonb, request_size_bytes integer not null default 0,
  request_truncated boolean not null default false, request_headers jsonb,
  request_remote_addr text, response_result jsonb, response_error jsonb,
  response_size_bytes integer not null default 0,
  response_truncated boolean not null default false, notifications jsonb,
  replayed_from text references audit_events (id) on delete set null,
  captured_at timestamptz not null default now());
"""
INSERT = text(
    "insert into audit_events (id, ts, duration_ms, tool_name, success, transport, source)"
    " values (:id, '2026-11-24T00:00:00.000000Z', 1, 'theirs', true, 'http', 'mcp')"
)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'audit.db'}"


def empty(store: SqlLogger) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("delete from audit_events"))
        connection.execute(text("update audit_commits set last = 0"))


class TestSqlite(LoggerContract):
    @pytest.fixture
    def store(self, sqlite_url: str) -> Iterator[EventStore]:
        with SqlLogger(sqlite_url, poll_s=0.02) as store:
            yield store


class TestPostgresql(LoggerContract):
    # Making tables and their indexes costs more than most of the tests.
    kept: ClassVar[dict[str, SqlLogger]] = {}

    @pytest.fixture
    def store(self, postgres_module_database: str) -> Iterator[EventStore]:
        with SqlLogger(postgres_module_database, poll_s=0.02) as store:
            empty(store)
            yield store


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[SqlLogger]:
    """A store on either, empty."""
    url = sqlite_url
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_module_database")
    with SqlLogger(url, poll_s=0.02) as made:
        empty(made)
        yield made


def run(store: SqlLogger, statement: str, **params: Any) -> list[Any]:
    with store.engine.begin() as connection:
        result = connection.execute(text(statement), params)
        return list(result) if result.returns_rows else []


# --- the recordings -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(postgres_admin: Engine) -> Iterator[SqlLogger]:
    """A store on tables that the reference server made and filled."""
    with empty_database(postgres_admin) as url:
        _fill_reference(url)
        with SqlLogger(url) as store:
            yield store


def _fill_reference(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        cursor = connection.connection.cursor()
        # Version 1.1 of the reference server had no notifications_truncated.
        cursor.execute(REFERENCE_TABLES)
        cursor.execute(
            "alter table audit_payloads add notifications_truncated boolean not null default false"
        )
        for table in ("audit_events", "audit_payloads"):
            cursor.execute((UPSTREAM / "pg" / f"{table}.sql").read_text())
    engine.dispose()


@pytest.fixture(scope="module")
def embedded(reference: SqlLogger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLogger]:
    """The same events in SQLite."""
    path = tmp_path_factory.mktemp("embedded") / "audit.db"
    with SqlLogger(f"sqlite:///{path}") as store:
        store.log([row.event for row in reference.after(0, 1000, payloads=True)])
        yield store


@pytest.fixture(params=["postgresql", "sqlite"])
def recorded(request: pytest.FixtureRequest) -> SqlLogger:
    store: SqlLogger = request.getfixturevalue(
        "reference" if request.param == "postgresql" else "embedded"
    )
    return store


def recorded_answers(folder: str) -> Iterator[tuple[str, str, bytes]]:
    """Name, query string and body of each recorded GET that was answered 200."""
    index = (UPSTREAM / "INDEX.tsv").read_text().splitlines()
    for line in index[1:]:
        name, method, path, *_, status = line.split("\t")
        if name.startswith(f"{folder}/") and method == "GET" and status.endswith("200 OK"):
            body = (UPSTREAM / name).read_bytes().partition(b"\r\n\r\n")[2]
            yield name, urlsplit(path).query, body


def well_formed(query: str, **paging: int) -> EventFilter | None:
    """The filter of a query string; None where the reference server passed over what is wrong."""
    pairs = [(k, v) for k, v in parse_qsl(query) if k not in ("limit", "offset", "by", "bucket")]
    try:
        asked = EventFilter.from_query(
            "&".join(
                p for p in query.split("&") if not p.startswith(("limit", "offset", "by", "bucket"))
            )
        )
    except FilterError:
        return None
    del asked
    return EventFilter.from_query([*pairs, *((k, str(v)) for k, v in paging.items())])


def test_lists_equal_the_recorded_ones(recorded: SqlLogger) -> None:
    compared = 0
    for name, query, body in recorded_answers("events"):
        answer: Any = loads(body)
        wanted = well_formed(query, limit=min(answer["limit"], 1000), offset=answer["offset"])
        if wanted is None:
            continue
        compared += 1
        assert recorded.count(wanted) == answer["total"], name
        assert recorded.query(wanted) == [Event(wire) for wire in answer["events"] or ()], name
    assert compared > 50


def test_details_equal_the_recorded_ones(recorded: SqlLogger) -> None:
    for event in DETAILS:
        assert recorded.event(event.id) == event


def test_exports_equal_the_recorded_ones_byte_for_byte(recorded: SqlLogger) -> None:
    compared = 0
    for name, query, body in recorded_answers("export"):
        pairs = dict(parse_qsl(query))
        wanted = well_formed(query, limit=int(pairs.get("limit", 100_000)))
        assert wanted is not None
        compared += 1
        assert b"".join(recorded.export(wanted)) == body, name
    assert compared == 6


def test_aggregates_equal_the_recorded_ones(recorded: SqlLogger) -> None:
    series = shares = 0
    for name, query, body in recorded_answers("aggregates"):
        answer: Any = loads(body)
        pairs = dict(parse_qsl(query))
        # The reference server looks at the time only.
        wanted = EventFilter(from_=pairs.get("from"), to=pairs.get("to"))
        if "points" in answer:
            series += 1
            width_s = {"1m0s": 60, "1m30s": 90, "10m0s": 600}[answer["bucket"]]
            points = recorded.timeseries(wanted, timedelta(seconds=width_s))
            assert [
                {
                    "time": format_time(point.time),
                    "count": point.count,
                    "errors": point.errors,
                    "avg_duration_ms": point.avg_duration_ms,
                }
                for point in points
            ] == answer["points"], name
        elif "breakdown" in answer:
            shares += 1
            # Ties come in any order there.
            ordered = sorted(answer["breakdown"], key=lambda share: (-share["count"], share["key"]))
            found = recorded.breakdown(wanted, answer["by"])
            assert [
                {"key": share.key, "count": share.count, "errors": share.errors} for share in found
            ] == ordered, name
        else:
            wanted = EventFilter(
                from_=parse_time(answer["window_from"]), to=parse_time(answer["window_to"])
            )
            stats = recorded.stats(wanted)
            assert {name: getattr(stats, name) for name in answer["stats"]} == answer["stats"]
    assert (series, shares) == (8, 7)


def test_columns_are_added_to_tables_of_the_reference_server_and_rows_kept(
    reference: SqlLogger,
) -> None:
    assert reference.tables.exact
    assert reference.tables.numbered
    assert "content_blocks" in reference.tables.small_columns
    rows = reference.after(0, 1000)
    assert [row.number for row in rows] == list(range(1, 673))
    times = [row.event.timestamp for row in rows]
    assert times == sorted(times)
    with SqlLogger(str(reference.engine.url.render_as_string(hide_password=False))) as again:
        assert again.after(0, 1000) == rows


@pytest.mark.parametrize("name", HOSTILE)
def test_tables_of_the_reference_server_take_every_event(reference: SqlLogger, name: str) -> None:
    before = reference.latest()
    event = HOSTILE[name]
    try:
        reference.log([event])
        assert reference.after(before, 5, payloads=True) == [Stored(before + 1, event)]
    finally:
        run(reference, "delete from audit_events where id = :id", id=event.id)


# --- the order of commit --------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_what_others_insert_is_numbered_when_it_is_committed(
    postgres_database: str, dialect: str
) -> None:
    with SqlLogger(postgres_database) as store:
        assert store.engine.dialect.name == dialect
        ids = [str(uuid4()) for _ in range(3)]
        slow, quick = store.engine.connect(), store.engine.connect()
        slow.execute(INSERT, {"id": ids[0]})
        quick.execute(INSERT, {"id": ids[1]})
        quick.commit()
        ours = an_event()
        store.log([ours])
        # Two are committed; ours was numbered at once, the other now.
        assert [row.event.id for row in store.after(0, 9)] == [ours.id, ids[1]]
        slow.commit()
        quick.execute(INSERT, {"id": ids[2]})
        quick.rollback()
        assert [(row.number, row.event.id) for row in store.after(2, 9)] == [(3, ids[0])]
        assert store.latest() == 3
        slow.close()
        quick.close()


def test_a_writer_that_is_not_done_holds_up_those_with_later_numbers(
    postgres_database: str,
) -> None:
    with SqlLogger(postgres_database) as store, store.engine.connect() as slow:
        # What a portal does that is between its first statement and its commit.
        slow.execute(text("update audit_commits set last = last + 1"))
        slow.execute(INSERT, {"id": (first := str(uuid4()))})
        slow.execute(text("update audit_events set commit_number = 1"))
        second = an_event()
        writer = threading.Thread(target=store.log, args=([second],))
        writer.start()
        waiting = "select count(*) from pg_locks where not granted"
        while run(store, waiting) == [(0,)]:
            pass
        assert store.after(0, 9) == []
        slow.commit()
        writer.join()
        assert [(row.number, row.event.id) for row in store.after(0, 9)] == [
            (1, first),
            (2, second.id),
        ]


def test_a_rollback_leaves_no_hole_and_a_deleted_number_is_not_given_again(
    store: SqlLogger,
) -> None:
    one, two = an_event(), an_event()
    store.log([one])
    with pytest.raises(ValueError, match="another event"):
        store.log([two, Event({**one.wire, "duration_ms": 9})])
    store.log([two])
    assert [row.number for row in store.after(0, 9)] == [1, 2]
    run(store, "delete from audit_events where id = :id", id=two.id)
    store.log([three := an_event()])
    assert store.after(2, 9) == [Stored(3, three)]


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from logger_contract import an_event
from mcpaudit_lab.server.stores.sql_logger import SqlLogger
with SqlLogger(sys.argv[1], busy_timeout_s=30) as store:
    for batch in range(25):
        store.log([an_event(n) for n in range(4)])
"""


def test_several_processes_write_and_a_reader_misses_nothing(store: SqlLogger) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    code = [sys.executable, "-c", WRITER, url, str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    writers = [subprocess.Popen(code, env=environment) for _ in range(2)]
    theirs = [str(uuid4()) for _ in range(20)]
    seen: list[Stored] = []
    while any(writer.poll() is None for writer in writers):
        if theirs:
            with store.engine.begin() as connection:
                connection.execute(INSERT, {"id": theirs.pop()})
        seen += store.after(seen[-1].number if seen else 0, 7)
    assert [writer.wait() for writer in writers] == [0, 0]
    while rows := store.after(seen[-1].number if seen else 0, 50):
        seen += rows
    assert [row.number for row in seen] == list(range(1, len(seen) + 1))
    assert len({row.event.id for row in seen}) == len(seen) == store.count(ALL)
    assert len(seen) == 220 - len(theirs)


@pytest.mark.anyio
async def test_subscribers_hear_of_other_processes_in_order(store: SqlLogger) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    with SqlLogger(url) as other:
        async with store.subscribe() as reader:
            await asyncio.to_thread(other.log, [an_event()])
            assert numbers(await heard(reader, 1)) == [1], "found by looking"
            await asyncio.to_thread(other.log, [an_event(), an_event()])
            await asyncio.to_thread(store.log, [an_event()])
            assert numbers(await heard(reader, 3)) == [2, 3, 4]
            if store.engine.dialect.name == "postgresql":
                run(store, INSERT.text, id=str(uuid4()))
                assert numbers(await heard(reader, 1)) == [5]


# --- what the database does -----------------------------------------------------------------------


def test_payloads_go_with_their_events_and_replays_stay(store: SqlLogger) -> None:
    original = an_event(payload={"response_result": 1})
    replay = an_event(payload={"replayed_from": original.id})
    early = an_event(payload={"replayed_from": (late := an_event()).id})
    store.log([early, replay, original, late])
    assert store.event(early.id) == early
    assert store.query(EventFilter(has="replayed_from")) == sorted(
        [early.summary, replay.summary], key=lambda event: event.id
    )
    run(store, "delete from audit_events where id = :id", id=original.id)
    found = store.event(replay.id)
    assert found is not None
    assert found.payload is not None
    assert found.payload.replayed_from is None
    assert run(store, "select count(*) from audit_payloads") == [(2,)]


def test_a_payload_says_when_it_was_stored(sqlite_url: str) -> None:
    moment = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
    with SqlLogger(sqlite_url, now=lambda: moment) as store:
        store.log([an_event(payload={})])
        assert run(store, "select captured_at from audit_payloads") == [
            ("2026-11-24T01:02:03.000000Z",)
        ]


def test_only_what_columns_cannot_hold_is_stored_beside_them(store: SqlLogger) -> None:
    store.log(DETAILS)
    events = run(store, "select count(*) from audit_events where exact is not null")
    assert events[0][0] <= 1
    originals = {event.id for event in DETAILS}
    lost = [
        event
        for event in DETAILS
        if event.payload and event.payload.replayed_from not in {None, *originals}
    ]
    payloads = run(store, "select event_id from audit_payloads where exact is not null")
    assert {row[0] for row in payloads} == {event.id for event in lost}


def test_sqlite_is_opened_for_many_readers_and_for_a_power_cut(sqlite_url: str) -> None:
    with SqlLogger(sqlite_url, busy_timeout_s=7) as store:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        assert [run(store, f"pragma {name}")[0][0] for name in pragmas] == ["wal", 2, 1, 7000]


def test_a_running_query_is_stopped(store: SqlLogger) -> None:
    store.log([an_event(n) for n in range(600)])
    pages = store.stream(ALL)
    next(pages)
    # A condition that takes hours: a stream of it is cancelled while it runs.
    if store.engine.dialect.name == "sqlite":
        slow = (
            "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
        )
    else:
        slow = "select pg_sleep(3600)"
    started = threading.Event()
    running = _running_of(pages)

    def query(connection: Any) -> Any:
        started.set()
        return connection.execute(text(slow)).all()

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(running.run(query)))
    thread.start()
    started.wait(10)
    while thread.is_alive():
        pages.close()
        thread.join(0.05)
    assert found == [()]
    assert store.count(ALL) == 600


def _running_of(pages: Any) -> Any:
    return pages._cancel.__self__


# --- away -----------------------------------------------------------------------------------------


def test_a_locked_file_is_away_and_then_back(sqlite_url: str, tmp_path: Path) -> None:
    event = an_event()
    with SqlLogger(sqlite_url, busy_timeout_s=0.01) as store:
        with closing(sqlite3.connect(tmp_path / "audit.db")) as other:
            other.execute("begin exclusive")
            with pytest.raises(StoreUnavailable, match="locked"):
                store.log([event])
            assert store.count(ALL) == 0, "readers do not wait"
        store.log([event])
        assert store.query(ALL) == [event]


def test_a_full_disk_is_away(sqlite_url: str) -> None:
    with SqlLogger(sqlite_url) as store:
        (pages,) = run(store, "pragma page_count")[0]
        store.engine.dispose()

        def fill(connection: Any, *_: Any) -> None:
            connection.execute(f"pragma max_page_count = {pages}")

        from sqlalchemy import event as sqlalchemy_event

        sqlalchemy_event.listen(store.engine, "connect", fill)
        big = an_event(payload={"response_result": "x" * 100_000})
        with pytest.raises(StoreUnavailable, match="full"):
            store.log([big])
        sqlalchemy_event.remove(store.engine, "connect", fill)
        store.engine.dispose()
        store.log([big])
        assert store.event(big.id) == big


def test_a_file_that_is_no_database_is_away_and_no_url_an_error(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    path.write_bytes(b"x" * 5000)
    with pytest.raises(StoreUnavailable, match="not a database"):
        SqlLogger(f"sqlite:///{path}")
    for url, message in (
        ("nonsense with password", "looks like sqlite"),
        ("mysql://root:secret@host/db", "SQLite or PostgreSQL, not mysql"),
        ("sqlite://", "use MemoryLogger"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            SqlLogger(url)
        assert "secret" not in str(caught.value)
        assert "password" not in str(caught.value)


def test_an_unreachable_server_is_away_and_its_password_unsaid() -> None:
    with pytest.raises(StoreUnavailable, match="refused") as caught:
        SqlLogger("postgresql://user:s3cret@127.0.0.1:1/audit")
    assert "s3cret" not in str(caught.value)


def test_missing_tables_are_away(store: SqlLogger) -> None:
    run(store, "alter table audit_payloads rename to elsewhere")
    try:
        with pytest.raises(StoreUnavailable):
            store.log([an_event(payload={})])
    finally:
        run(store, "alter table elsewhere rename to audit_payloads")
    assert store.count(ALL) == 0


# --- tables that may not be changed ---------------------------------------------------------------


@pytest.fixture
def guest(postgres_database: str) -> Iterator[str]:
    """The URL of a user who may use the reference server's tables, and no more."""
    owner = create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    name = f"guest_{uuid4().hex}"
    with owner.connect() as connection:
        connection.connection.cursor().execute(REFERENCE_TABLES)
        connection.execute(
            text(
                "alter table audit_payloads"
                " add notifications_truncated boolean not null default false"
            )
        )
        connection.execute(text(f"create role {name} login"))
        connection.execute(text(f"grant select, insert on all tables in schema public to {name}"))
    yield owner.url.set(username=name).render_as_string(hide_password=False)
    with owner.connect() as connection:
        connection.execute(text(f"drop owned by {name}"))
        connection.execute(text(f"drop role {name}"))
    owner.dispose()


@pytest.mark.anyio
async def test_tables_that_may_not_be_changed_are_used_and_lossy_rows_marked(
    guest: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), SqlLogger(guest, poll_s=0.02) as store:
        assert "stored with loss" in caplog.text
        plain = an_event(payload={"response_result": 1})
        lossy = an_event(tool_name="a\0b", payload={"response_result": "c\0d"})
        bare = an_event(1, tool_name="e\0f")
        async with store.subscribe() as reader:
            store.log([plain, lossy, bare])
            assert numbers(await heard(reader, 3)) == [1, 2, 3]
        assert store.event(plain.id) == plain
        found = store.event(lossy.id)
        assert found is not None
        assert found.payload is not None
        assert (found.tool_name, found.payload.response_result) == ("a\ufffdb", "c\ufffdd")
        (mark,) = found.payload.notifications
        assert (mark.method, mark.params) == (LOSSY_METHOD, {"lost": ["event", "payload"]})
        assert lines_of(store.export(EventFilter(tool="e\ufffdf")))[0].id == bare.id
        assert store.latest() == 3
        with pytest.raises(StoreUnavailable, match="no commit numbers"):
            store.after(0, 5)


def test_without_tables_and_rights_there_is_no_store(guest: str, postgres_database: str) -> None:
    owner = create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    with owner.connect() as connection:
        connection.execute(text("drop table audit_payloads"))
    owner.dispose()
    with pytest.raises(StoreUnavailable, match="may not create them"):
        SqlLogger(guest)


def test_portals_may_start_at_the_same_time(postgres_database: str, sqlite_url: str) -> None:
    for url in (postgres_database, sqlite_url):
        failed: list[BaseException] = []

        def start(url: str = url, failed: list[BaseException] = failed) -> None:
            try:
                SqlLogger(url).close()
            except BaseException as error:
                failed.append(error)
                raise

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
