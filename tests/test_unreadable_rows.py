"""Rows that others wrote or that were damaged: told and left out, and never in another's way."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from portals import an_event
from short_run import each_third
from sqlalchemy import create_engine, text

from mcpaudit_lab import PortalClient
from mcpaudit_lab.errors import PortalError, RecordError, UnreadableRow
from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.lab.lab import Lab
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS, Event, Payload, respell_time
from mcpaudit_lab.record.jsontext import loads
from mcpaudit_lab.server import background_portal
from mcpaudit_lab.server.stores.sql_logger import SqlLogger

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
    """Table, column and bad value: all values in the first column of a kind, one in the others."""
    count: Counter[str] = Counter()
    tables = {"audit_events": EVENT_FIELDS, "audit_payloads": PAYLOAD_FIELDS[:-1]}
    for table, fields in tables.items():
        for column in [*(field.column for field in fields), "exact"]:
            for kind in kinds_of(table, column):
                values = BAD[engine].get(kind, [])
                count[kind] += 1
                if count[kind] > 1 and kind not in ("id", "exact"):
                    values = values[count[kind] % len(values) :][:1] if values else []
                for value in values:
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
    "damaged",
    each_third(CASES),
    indirect=True,
    ids=[f"{e}-{t[6:]}-{c}-{v[:24]}" for e, t, c, v in CASES],
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
    for number, event_id in ((1, IDS[0]), (3, IDS[2])):
        found = store.query(EventFilter(params={"n": number}), payloads=True)
        assert [event.id for event in found] == [event_id]
        assert store.event(event_id) is not None
    assert store.count(EventFilter(params={"n": 2})) == 0
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


# --- times ----------------------------------------------------------------------------------------

MOMENT = "2026-11-24T03:50:12.723167Z"
SPELLINGS = [
    ("2026-11-24 03:50:12.723167+00", MOMENT),
    ("2026-11-24T03:50:12.723167+00:00", MOMENT),
    ("2026-11-24 09:20:12.723167+0530", MOMENT),
    ("2026-11-23 22:50:12.723167 -05", MOMENT),
    ("2026-11-24t03:50:12.723167z", MOMENT),
    ("2026-11-24 03:50:12.723167 UTC", MOMENT),
    ("2026-11-24 03:50:12.723167 +0000 UTC", MOMENT),
    ("2026-11-24 03:50:12+00", "2026-11-24T03:50:12Z"),
    ("2026-11-24 03:50:12.7+00", "2026-11-24T03:50:12.7Z"),
    ("2026-11-24 03:50Z", "2026-11-24T03:50:00Z"),
]


@pytest.mark.parametrize(("spelled", "wire"), SPELLINGS)
def test_a_time_in_any_spelling_of_one_moment_is_read(spelled: str, wire: str) -> None:
    assert respell_time(spelled) == wire


def test_decimals_beyond_microseconds_are_kept() -> None:
    assert respell_time("2026-11-24 03:50:12.723167891+00") == "2026-11-24T03:50:12.723167891Z"
    assert respell_time("2026-11-24 03:50:12.723167890+00") == "2026-11-24T03:50:12.72316789Z"


@pytest.mark.parametrize(
    "text", ["1764042612", "2026-11-24", "2026-11-24 03:50:12", "03:50Z", "now", "", "24.11.2026"]
)
def test_what_names_no_moment_is_no_time(text: str) -> None:
    with pytest.raises(RecordError):
        respell_time(text)


INSERT = (
    "insert into audit_events (id, ts, duration_ms, tool_name, success, transport, source)"
    " values (:id, :ts, '1', 'echo', {true}, 'http', 'mcp')"
)
THEIRS = "00000000-0000-4000-8000-000000000009"


@pytest.fixture(params=["sqlite", "texts"])
def mixed(request: pytest.FixtureRequest, stores: dict[str, SqlLogger]) -> Iterator[SqlLogger]:
    """A store into which others may insert times as texts; emptied afterwards."""
    store = stores[request.param]
    yield store
    run(store, "delete from audit_payloads", "delete from audit_events")
    run(store, "update audit_commits set last = 0")
    store.log(good_events())


def insert(store: SqlLogger, ts: str, event_id: str = THEIRS) -> None:
    true = "1" if store.engine.dialect.name == "sqlite" else "'true'"
    run(store, INSERT.format(true=true), id=event_id, ts=ts)


@pytest.mark.parametrize(("spelled", "wire"), SPELLINGS[:6])
def test_a_row_with_such_a_time_has_its_place(mixed: SqlLogger, spelled: str, wire: str) -> None:
    insert(mixed, spelled)
    # The others are earlier: they begin at three.
    assert shape(mixed)["ids"] == [THEIRS, *IDS[::-1]]
    (newest,) = mixed.query(EventFilter(limit=1))
    assert newest.wire["timestamp"] == wire
    exported = b"".join(mixed.export(ALL)).splitlines()
    assert b'"timestamp":"2026-11-24T03:50:12.723167Z"' in exported[0]
    moment = EventFilter(from_=wire, to=wire)
    assert [event.id for event in mixed.query(moment)] == [THEIRS]
    assert mixed.count(EventFilter(to="2026-11-24T03:50:12.723166Z")) == 3
    assert mixed.event(THEIRS) is not None
    assert mixed.unreadable().count == 0


def test_nanoseconds_of_others_are_kept_in_sqlite(mixed: SqlLogger) -> None:
    insert(mixed, "2026-11-24 03:50:12.723167891+00")
    (newest,) = mixed.query(EventFilter(limit=1))
    kept = "891" if mixed.engine.dialect.name == "sqlite" else ""
    assert newest.wire["timestamp"] == f"2026-11-24T03:50:12.723167{kept}Z"
    assert loads(b"".join(mixed.export(EventFilter(limit=1)))) == newest.wire


# --- ids, numbers, mending ------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", ["sqlite", "postgresql"], indirect=True)
def test_an_id_in_another_spelling_is_found_by_the_usual_one(mixed: SqlLogger) -> None:
    usual = "aaaaaaaa-0000-4000-8000-00000000000a"
    insert(mixed, MOMENT, usual.upper())
    assert shape(mixed)["ids"] == [usual, *IDS[::-1]]
    found = mixed.event(usual)
    assert found is not None
    assert found.id == usual
    insert(mixed, MOMENT, usual)
    assert shape(mixed)["ids"] == [usual, *IDS[::-1]]
    assert mixed.unreadable().ids == (usual.upper(),)


def test_a_row_that_somebody_mends_is_read_again(
    mixed: SqlLogger, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        insert(mixed, "yesterday")
        assert mixed.unreadable().ids == (THEIRS,)
        assert shape(mixed)["ids"] == IDS[::-1]
    told = [record for record in caplog.records if THEIRS in record.getMessage()]
    assert len(told) == 1
    assert "ts: the time is not RFC 3339" in told[0].getMessage()
    assert "yesterday" not in caplog.text
    run(mixed, "update audit_events set ts = :ts where id = :id", ts=MOMENT, id=THEIRS)
    assert mixed.unreadable().count == 0
    assert shape(mixed)["ids"] == [THEIRS, *IDS[::-1]]


@pytest.mark.parametrize("number", ["4", "1000", "-7", "'many'", "0"])
def test_numbers_that_others_gave_stop_neither_writer_nor_reader(
    stores: dict[str, SqlLogger], number: str
) -> None:
    for name in ("sqlite", "postgresql"):
        if name == "postgresql" and number == "'many'":
            continue
        store = stores[name]
        run(
            store,
            "insert into audit_events (id, ts, duration_ms, tool_name, success, transport, source,"
            f" commit_number) values ('{THEIRS}', '{MOMENT}', 1, 'echo', true, 'http', 'mcp',"
            f" {number})",
        )
        new = [an_event(20), an_event(21)]
        for event in new:
            store.log([event])
        assert {event.id for event in new} < set(shape(store)["ids"])
        stored = store.after(3, 10)
        assert {item.event.id for item in stored} == {THEIRS, *(event.id for event in new)}
        assert [item.number for item in stored] == [4, 5, 6]
        run(store, "delete from audit_payloads", "delete from audit_events")
        run(store, "update audit_commits set last = 0")
        store.log(good_events())


def test_a_lost_count_of_numbers_is_made_again(stores: dict[str, SqlLogger]) -> None:
    for name in ("sqlite", "postgresql"):
        run(stores[name], "delete from audit_commits")
        new = an_event(30)
        stores[name].log([new])
        assert [item.event.id for item in stores[name].after(3, 10)] == [new.id]
        run(stores[name], f"delete from audit_payloads where event_id = '{new.id}'")
        run(stores[name], f"delete from audit_events where id = '{new.id}'")
        run(stores[name], "update audit_commits set last = 3")


def test_an_event_is_not_stored_over_an_unreadable_one(mixed: SqlLogger) -> None:
    if mixed.engine.dialect.name == "postgresql":
        return  # those tables have no keys
    run(mixed, f"update audit_events set tool_name = x'ff' where id = '{BAD_ID}'")
    with pytest.raises(RecordError, match="another event has this id"):
        mixed.log([an_event(id=BAD_ID)])
    mixed.log([an_event(40)])
    assert mixed.count(ALL) == 3


# --- load_database --------------------------------------------------------------------------------

# One of each kind in each table: what reads a value is the same.
LOADED = [
    case
    for case in {(c[0], c[1], kinds_of(c[1], c[2])[-1]): c for c in CASES}.values()
    if case[2] != "exact"
]


@pytest.mark.parametrize(
    "damaged",
    each_third(LOADED),
    indirect=True,
    ids=[f"{e}-{t[6:]}-{c}-{v[:24]}" for e, t, c, v in LOADED],
)
def test_load_database_puts_it_into_rejects(damaged: Any) -> None:
    store, table, column = damaged
    url = store.engine.url.render_as_string(hide_password=False)
    questions: list[dict[str, Any]] = [{}, {"tool": "echo", "from_": "2026-11-24T00:00:00Z"}]
    for keywords in questions:
        lab = Lab()
        report = lab.load_database(url, **keywords)
        others = [item for item in IDS if item != BAD_ID]
        assert sorted(lab.events().ids()) == (others if table == "audit_events" else IDS)
        rejected = lab.rejects()
        if keywords and column == "tool_name":
            # Only reading would show it, and the filter selects other rows.
            continue
        assert report.rejected == len(rejected) == 1
        assert report.lines == report.loaded + report.rejected
        assert column in rejected["detail"][0] or store.engine.dialect.name == "postgresql"
        raw: Any = loads(bytes(rejected["raw"][0]))
        assert list(raw) == [table]
        key = "id" if table == "audit_events" else "event_id"
        assert column == key or raw[table][key] == BAD_ID
    with pytest.raises(RecordError):
        Lab().load_database(url, strict=True)


def test_load_database_reads_and_sorts_times_in_other_spellings(mixed: SqlLogger) -> None:
    insert(mixed, SPELLINGS[0][0])
    url = mixed.engine.url.render_as_string(hide_password=False)
    lab = Lab()
    assert lab.load_database(url, limit=2).loaded == 2
    assert lab.events().ids() == [THEIRS, IDS[2]]
    again = Lab()
    assert again.load_database(url, from_=MOMENT, to=MOMENT).loaded == 1
    assert again.event(THEIRS).wire["timestamp"] == MOMENT


def test_a_payload_whose_captured_at_is_no_time_is_loaded_all_the_same(mixed: SqlLogger) -> None:
    run(mixed, f"update audit_payloads set captured_at = 'once' where event_id = '{BAD_ID}'")
    assert mixed.unreadable().count == 0
    lab = Lab()
    url = mixed.engine.url.render_as_string(hide_password=False)
    report = lab.load_database(url)
    assert (report.loaded, report.rejected) == (3, 1)
    if mixed.engine.dialect.name == "sqlite":
        assert lab.event(BAD_ID).payload is not None


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql", "texts"])
def portal(
    request: pytest.FixtureRequest, stores: dict[str, SqlLogger]
) -> Iterator[tuple[SqlLogger, PortalClient]]:
    """A portal on one of the stores with an unreadable event and an unreadable payload."""
    store = stores[request.param]
    url = store.engine.url.render_as_string(hide_password=False)
    bad_time = "'yesterday'" if request.param != "postgresql" else "'infinity'"
    run(
        store,
        f"update audit_events set ts = {bad_time} where id = '{IDS[0]}'",
        f"update audit_payloads set request_headers = '[1]' where event_id = '{BAD_ID}'",
    )
    with (
        background_portal(database=url) as at,
        PortalClient(at.url, at.api_key) as client,
    ):
        yield store, client
    run(store, "delete from audit_payloads", "delete from audit_events")
    run(store, "update audit_commits set last = 0")
    store.log(good_events())


def test_a_portal_tells_of_them_everywhere(portal: tuple[SqlLogger, PortalClient]) -> None:
    _, client = portal
    base = "/api/v1/portal/audit"
    listed = client.http.get(f"{base}/events").json()
    assert [row["id"] for row in listed["events"]] == [IDS[2], BAD_ID]
    assert (listed["total"], listed["unreadable"]) == (2, 2)
    answer = client.http.get(f"{base}/export?payloads=true")
    assert answer.headers["x-export-unreadable"] == "2"
    assert answer.headers["x-export-total"] == "2"
    lines = [loads(line) for line in answer.content.splitlines()]
    assert ["payload" in line for line in lines if isinstance(line, dict)] == [True, False]
    meta = client.meta()
    assert (meta["unreadable"], meta["unreadable_ids"]) == (2, [IDS[0], BAD_ID])
    assert client.http.get("/readyz").text == "ready, 2 rows unreadable"
    for event_id, reason in ((IDS[0], "ts"), (BAD_ID, "request_headers")):
        detail = client.http.get(f"{base}/events/{event_id}")
        assert detail.status_code == 422
        told = detail.json()
        assert reason in told["reason"]
        assert told["columns"]["audit_events"]["id"] == event_id
        assert told["columns"]["audit_payloads"]["event_id"] == event_id
        replay = client.http.post(f"{base}/events/{event_id}/replay")
        assert replay.status_code == 422
    for path in ("timeseries?bucket=1h", "breakdown?by=success", "breakdown?by=tool"):
        rows = client.http.get(f"{base}/{path}").json()
        assert sum(row["count"] for row in rows.get("points") or rows["breakdown"]) == 2
    assert client.http.get("/api/v1/portal/dashboard").status_code == 200


def test_a_pull_ends_and_tells_of_them(portal: tuple[SqlLogger, PortalClient]) -> None:
    _, client = portal
    lab = Lab()
    report = lab.pull(client, progress=False)
    assert report.complete
    assert (report.new, report.missing, report.unreadable) == (2, 0, 0)
    assert report.unreadable_there == 2
    assert "2 rows are not readable by the portal itself" in str(report)
    assert lab.event(IDS[2]).payload is not None
    assert lab.event(BAD_ID).payload is None
    again = lab.pull(client, progress=False)
    assert (again.complete, again.new) == (True, 0)
    assert lab.pull(client, progress=False, params={"n": 3}).complete


def test_a_client_reads_past_them(portal: tuple[SqlLogger, PortalClient]) -> None:
    _, client = portal
    assert [event.id for event in client.events()] == [IDS[2], BAD_ID]
    assert [event.id for event in client.export(payloads=True)] == [IDS[2], BAD_ID]
    # What the portal cannot ask, the client does, of each event by itself.
    assert [event.id for event in client.events(error_category="", params={"n": 3})] == [IDS[2]]
    with pytest.raises(PortalError) as caught:
        client.event(BAD_ID)
    assert caught.value.status == 422


def test_a_resumed_stream_goes_on_past_them(portal: tuple[SqlLogger, PortalClient]) -> None:
    store, client = portal
    with client.http.stream(
        "GET", "/api/v1/portal/audit/stream", headers={"Last-Event-ID": "0"}
    ) as answer:
        ids: list[str] = []
        for line in answer.iter_lines():
            if line.startswith("id: "):
                ids.append(line.removeprefix("id: "))
            if len(ids) == 2:
                break
    assert ids == ["2", "3"]
    if store.engine.dialect.name == "sqlite":
        insert(store, "yesterday")
    else:
        run(store, f"update audit_events set ts = ts where id = '{IDS[0]}'")
    new = an_event(60)
    store.log([new])
    with client.http.stream(
        "GET", "/api/v1/portal/audit/stream", headers={"Last-Event-ID": "3"}
    ) as answer:
        line = next(line for line in answer.iter_lines() if line.startswith("data: "))
    assert Event.from_json(line.removeprefix("data: ")).id == new.id
