"""The filter means the same in Python, DuckDB, SQLite and PostgreSQL: all four really run here."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from filter_corpus import CASES, EVENTS, LABELS, Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, create_engine, event, select, text
from sqlalchemy.pool import StaticPool

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters.combined import contract_order
from mcpaudit_lab.filters.event_filter import HAS_COLUMNS, EventFilter
from mcpaudit_lab.filters.sql import Compiled, compile_filter, register_functions
from mcpaudit_lab.filters.values import fold
from mcpaudit_lab.record import (
    EVENT_COLUMNS,
    EVENT_FIELDS,
    PAYLOAD_COLUMNS,
    PAYLOAD_FIELDS,
    Event,
    Field,
    Payload,
)
from mcpaudit_lab.record.jsontext import JsonDecimal, dumps, loads, replace_surrogates
from mcpaudit_lab.storage import CONTRACT_ORDER, opening
from mcpaudit_lab.storage.rows import PAYLOAD_PREFIX, row_of
from mcpaudit_lab.storage.schema import duckdb_tables
from mcpaudit_lab.tables.sqlalchemy_tables import ENGINE_OPTIONS, portal_tables

UPSTREAM = Path(__file__).parent / "data" / "upstream"
ENGINES = ("duckdb", "sqlite", "postgresql")


def selection(compiled: Compiled, what: str = "cast(e.id as varchar)", tail: str = "") -> str:
    """The statement around a condition; in the contract's order unless something else follows."""
    tail = tail or CONTRACT_ORDER
    return f"select {what} from audit_events e where {compiled.where} {tail}"


class Target(ABC):
    """An engine with the two tables."""

    dialect: str
    # The events in the tables, while these are the corpus.
    corpus: dict[str, Event] | None = None

    def load(self, events: Iterable[Event]) -> None:
        """Replace what is in the tables."""
        self.events = {event.id: event for event in events}
        self._load(list(self.events.values()))

    @abstractmethod
    def _load(self, events: list[Event]) -> None: ...

    @abstractmethod
    def run(self, statement: str, params: dict[str, Any]) -> list[tuple[Any, ...]]: ...

    def change(self, statement: str) -> None:
        """Change what is in the tables behind our back."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None: ...

    def rows(self, compiled: Compiled) -> list[str]:
        """The ids that the SQL alone selects, in the contract's order."""
        return [row[0] for row in self.run(selection(compiled), compiled.params)]

    def ids(self, *filters: EventFilter) -> list[str]:
        """The ids that the filters select."""
        compiled = compile_filter(filters, self.dialect)
        found = self.rows(compiled)
        if not compiled.residual:
            return found
        return [id_ for id_ in found if all(item.matches(self.events[id_]) for item in filters)]


class PythonTarget(Target):
    dialect = "python"

    def _load(self, events: list[Event]) -> None:
        pass

    def run(self, statement: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def ids(self, *filters: EventFilter) -> list[str]:
        found = (
            event for event in self.events.values() if all(item.matches(event) for item in filters)
        )
        return [event.id for event in contract_order(found)]


class DuckTarget(Target):
    """The lab's tables, with the rows that the lab makes."""

    dialect = "duckdb"

    def __init__(self, register: Callable[[Any], None] = opening.register_functions) -> None:
        self.connection = duckdb.connect()
        register(self.connection)
        for statement in duckdb_tables():
            self.connection.execute(statement)

    def _load(self, events: list[Event]) -> None:
        self.connection.execute("delete from audit_payloads")
        self.connection.execute("delete from audit_events")
        rows = [row_of(event) for event in events]
        columns = (*EVENT_COLUMNS, "extra")
        self._insert("audit_events", columns, [[row[name] for name in columns] for row in rows])
        columns = (*PAYLOAD_COLUMNS[1:], "extra")
        self._insert(
            "audit_payloads",
            ("event_id", *columns),
            [
                [row["id"], *(row[PAYLOAD_PREFIX + name] for name in columns)]
                for row in rows
                if row["has_payload"]
            ],
        )

    def _insert(self, table: str, columns: tuple[str, ...], rows: list[list[Any]]) -> None:
        if rows:
            marks = ", ".join("?" * len(columns))
            self.connection.executemany(
                f"insert into {table} ({', '.join(columns)}) values ({marks})",
                rows,
            )

    def run(self, statement: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement, params).fetchall()

    def change(self, statement: str) -> None:
        self.connection.execute(statement)

    def close(self) -> None:
        self.connection.close()


class PortalTarget(Target):
    """A portal's tables, by SQLAlchemy."""

    def __init__(
        self, dialect: str, url: str, register: Callable[[Any], None] = register_functions
    ) -> None:
        self.dialect = dialect
        if dialect == "sqlite":
            self.engine = create_engine(url, poolclass=StaticPool, **ENGINE_OPTIONS)
            event.listen(self.engine, "connect", lambda raw, _: register(raw))
        else:
            self.engine = create_engine(url, **ENGINE_OPTIONS)
        metadata = MetaData()
        self.tables = portal_tables(metadata)
        metadata.create_all(self.engine)

    def _load(self, events: list[Event]) -> None:
        summaries, payloads = self.tables
        with self.engine.begin() as connection:
            connection.execute(payloads.delete())
            connection.execute(summaries.delete())
            if events:
                connection.execute(summaries.insert(), [self._summary(item) for item in events])
            rows = [self._payload(item.id, item.payload) for item in events if item.payload]
            if rows:
                connection.execute(payloads.insert(), rows)

    def _summary(self, item: Event) -> dict[str, Any]:
        row = {field.column: self._value(item, field) for field in EVENT_FIELDS}
        return {**row, "duration_ms": min(item.duration_ms, 2**63 - 1)}

    def _payload(self, event_id: str, payload: Payload) -> dict[str, Any]:
        row = {field.column: self._value(payload, field) for field in PAYLOAD_FIELDS[:-1]}
        row["notifications"] = self._storable(payload.wire.get("notifications"))
        return {**row, "event_id": event_id, "captured_at": datetime(2026, 11, 24, tzinfo=UTC)}

    def _value(self, record: Any, field: Field) -> Any:
        return self._storable(getattr(record, field.name))

    def _storable(self, value: Any) -> Any:
        """What the columns can hold: U+FFFD takes the place of what they cannot."""
        if isinstance(value, str) and self.dialect == "sqlite":
            return replace_surrogates(value)
        if isinstance(value, str | dict | list) and self.dialect == "postgresql":
            # A backslash of the text itself stands twice, and is passed over as a pair.
            lossy = re.compile(r"(\\\\)|\\u0000|\\ud[89a-f][0-9a-f]{2}")
            return loads(lossy.sub(lambda found: found.group(1) or "\ufffd", dumps(value)))
        return value

    def run(self, statement: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement), params)]

    def change(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement))

    def close(self) -> None:
        self.engine.dispose()


def make_target(name: str, request: pytest.FixtureRequest) -> Target:
    if name == "python":
        return PythonTarget()
    if name == "duckdb":
        return DuckTarget()
    if name == "sqlite":
        return PortalTarget(name, "sqlite://")
    return PortalTarget(name, request.getfixturevalue("postgres_module_database"))


@pytest.fixture(scope="module")
def targets(request: pytest.FixtureRequest) -> Iterator[dict[str, Target]]:
    made = {name: make_target(name, request) for name in ("python", *ENGINES)}
    yield made
    for target in made.values():
        target.close()


@pytest.fixture(params=ENGINES)
def engine(targets: dict[str, Target], request: pytest.FixtureRequest) -> Target:
    """One of the engines, with the corpus in it."""
    target = targets[request.param]
    if target.corpus is None or target.corpus is not target.events:
        target.load(EVENTS.values())
        target.corpus = target.events
    return target


# --- the corpus -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_engine_gives_the_answer_written_by_hand(engine: Target, case: Case) -> None:
    wanted = case.labels
    if case.portal is not None and isinstance(engine, PortalTarget):
        wanted = case.portal
    found = engine.ids(case.filter)
    assert {LABELS[id_] for id_ in found} == wanted
    assert found == [item.id for item in contract_order(engine.events[id_] for id_ in found)]


def test_only_texts_that_a_column_cannot_hold_need_a_second_look(engine: Target) -> None:
    for case in CASES:
        check_second_look(engine, case)


def check_second_look(engine: Target, case: Case) -> None:
    compiled = compile_filter(case.filter, engine.dialect)
    asked = repr(case.filter)
    lossy = ["\\ud", "\ufffd"]
    if engine.dialect == "postgresql":
        lossy += ["\\x00", "\\u0000"]
    beyond = case.name == "the bottom" or case.name.startswith("beyond PostgreSQL")
    unsaid = beyond and engine.dialect == "postgresql"
    wanted = unsaid or any(mark in asked for mark in lossy)
    assert compiled.residual is wanted, case.name


def test_several_filters_must_all_hold(engine: Target) -> None:
    echo, alice = EventFilter(tool="echo", limit=1), EventFilter(user="alice")
    assert {LABELS[id_] for id_ in engine.ids(echo, alice)} == {"echo-alice"}
    one, two = EventFilter(headers={"x-multi": "one"}), EventFilter(headers={"x-count": "42"})
    assert {LABELS[id_] for id_ in engine.ids(one, two)} == {"curl"}
    assert len(engine.ids()) == len(EVENTS)


def test_the_condition_serves_counts_aggregates_and_pages(engine: Target) -> None:
    compiled = compile_filter(EventFilter(params={"code": 200}, q="CORPUS"), engine.dialect)
    counted = selection(compiled, "count(*)", "limit 1")
    assert engine.run(counted, compiled.params) == [(3,)]
    grouped = selection(
        compiled, "e.tool_name, count(*), max(e.duration_ms)", "group by e.tool_name"
    )
    assert engine.run(grouped, compiled.params) == [("corpus", 3, 1)]
    page = engine.run(f"{selection(compiled)} limit 2 offset 1", compiled.params)
    assert [LABELS[id_] for (id_,) in page] == ["float", "int"]


def test_values_paths_and_names_are_bound_and_never_in_the_text() -> None:
    mark = "zq7"
    params: dict[Any, Any] = {
        f"{mark}.0": mark,
        (mark, f"{mark}'\"--"): 7654321.5,
        f"{mark}.n": 7654321,
    }
    item = EventFilter(
        tool=mark,
        user=[mark, f"{mark}2"],
        session=mark,
        error_category=mark,
        source=mark,
        tool_group=mark,
        auth_type=mark,
        q=f"{mark}\u00e9",
        min_duration_ms=7654321,
        from_="2026-11-24T00:00:00Z",
        params=params,
        responses={f"{mark}.a": True, f"{mark}.b": None},
        headers={mark: mark},
        has=HAS_COLUMNS,
    )
    for dialect in ENGINES:
        compiled = compile_filter(item, dialect)
        assert mark not in compiled.where.lower()
        assert "7654321" not in compiled.where
        assert "2026" not in compiled.where
        marker = "$" if dialect == "duckdb" else ":"
        assert set(re.findall(rf"\{marker}(\w+)", compiled.where)) == set(compiled.params)


def test_duckdb_folds_case_as_python_does() -> None:
    known = [char for char in map(chr, range(1, 0x20000)) if not "\ud800" <= char <= "\udfff"]
    cased = [char for char in known if len({char, char.lower(), char.upper(), fold(char)}) > 1]
    together: dict[str, set[str]] = {}
    for char in {*cased, *map(fold, cased)}:
        together.setdefault(fold(char), set()).add(char)
    everything = "".join(sorted({*cased, *map(fold, cased)}))
    connection = duckdb.connect()
    for chars in together.values():
        for char in chars:
            found = connection.execute(
                "select regexp_extract_all($text, $char)",
                {"text": everything, "char": f"(?i){re.escape(char)}"},
            ).fetchall()
            assert set(found[0][0]) == chars, char


def test_another_dialect_is_an_error_that_names_the_three() -> None:
    with pytest.raises(ValueError, match="duckdb, postgresql, sqlite"):
        compile_filter(EventFilter(), "mysql")


# --- what each engine is trusted with -------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["duckdb", "sqlite"])
def test_usual_values_in_usual_documents_never_call_python(dialect: str) -> None:
    called: list[tuple[Any, ...]] = []

    def one(text: str) -> str:
        called.append((text,))
        return text

    def two(document: str, test: str) -> bool:
        called.append((document, test))
        return False

    def three(extra: str, name: str, least: str) -> bool:
        called.append((extra, name, least))
        return False

    def register_duckdb(connection: Any) -> None:
        texts = ["VARCHAR"] * 3
        connection.create_function("mcpaudit_json_test", two, texts[:2], "BOOLEAN")
        connection.create_function("mcpaudit_at_least", three, texts, "BOOLEAN")

    def register_sqlite(connection: Any) -> None:
        connection.create_function("mcpaudit_json_test", 2, two)
        connection.create_function("mcpaudit_fold", 1, one)

    target: Target = (
        DuckTarget(register_duckdb)
        if dialect == "duckdb"
        else PortalTarget("sqlite", "sqlite://", register_sqlite)
    )
    labels = "int float half digits true null nested curl zero-key echo-bob long-beside-short"
    target.load(EVENTS[label] for label in labels.split())
    cases: list[tuple[dict[str, Any], str]] = [
        ({"params": {"code": 200}}, "int"),
        ({"params": {"code": 200.5}}, "half"),
        ({"params": {"code": "200"}}, "digits"),
        ({"params": {"flag": True}}, "true"),
        ({"params": {"nick": None}}, "null"),
        ({"params": {"n": 7}}, "long-beside-short"),
        ({"params": {"items.0": "x"}}, "zero-key"),
        ({"headers": {"X-Multi": "two"}}, "curl"),
        ({"q": "ECHO", "min_duration_ms": 5}, "echo-bob"),
    ]
    for keywords, label in cases:
        assert EVENTS[label].id in target.ids(EventFilter(**keywords))
    target.close()
    assert not called


def test_duckdb_reads_json_however_it_is_spelled_and_survives_what_is_none() -> None:
    connection = duckdb.connect()
    opening.register_functions(connection)
    connection.execute("create table audit_events (id integer, extra varchar)")
    connection.execute("create table audit_payloads (event_id integer, request_params varchar)")
    documents = [
        '{ "user" : {"id":"al\\u0069ce\\/"} }',
        '{"us\\u0065r":{"id":"alice/"}}',
        '{"user":{"id":"alice/"},"odd":"\\ud800"}',
        "not JSON: alice/",
        "",
        None,
        '[{"user":{"id":"alice/"}}]',
    ]
    for number, document in enumerate(documents):
        connection.execute("insert into audit_events values (?, null)", [number])
        connection.execute("insert into audit_payloads values (?, ?)", [number, document])
    compiled = compile_filter(EventFilter(params={"user.id": "alice/"}), "duckdb")
    found = connection.execute(
        selection(compiled, "e.id", "order by 1"), compiled.params
    ).fetchall()
    # The third is no JSON to DuckDB; its JSON type would have refused to store it.
    assert found == [(0,), (1,)]
    connection.close()


def test_functions_can_be_registered_again_and_are_known_to_cursors() -> None:
    connection = duckdb.connect()
    opening.register_functions(connection)
    opening.register_functions(connection)
    cursor = connection.cursor()
    opening.register_functions(cursor)
    test = compile_filter(EventFilter(params={"a": 10**20}), "duckdb")
    written = next(value for value in test.params.values() if str(value).startswith("["))
    for document, answer in (('{"a":1e20}', True), ('{"a":1}', False), ("{", False), (None, None)):
        row = cursor.execute("select mcpaudit_json_test(?, ?)", [document, written]).fetchone()
        assert row == (answer,)
    connection.close()


def test_postgresql_answers_from_its_index(targets: dict[str, Target]) -> None:
    target = targets["postgresql"]
    target.load(EVENTS.values())
    assert isinstance(target, PortalTarget)
    compiled = compile_filter(EventFilter(params={"user.id": "alice"}), "postgresql")
    with target.engine.connect() as connection:
        connection.execute(text("set enable_seqscan = off"))
        plan = connection.execute(text(f"explain {selection(compiled)}"), compiled.params)
        assert "audit_payloads_request_params_gin" in "\n".join(row[0] for row in plan)


def test_json_null_and_an_empty_text_are_nothing(engine: Target) -> None:
    item = EventFilter(has="response_error")
    assert {LABELS[id_] for id_ in engine.ids(item)} == {"has-all"}
    kind = "jsonb" if engine.dialect == "postgresql" else "varchar"
    for empty in ("null", '""', "[]", "{}"):
        value = f"cast('{empty}' as {kind})"
        engine.change(f"update audit_payloads set response_error = {value}")
        assert engine.ids(item) == []
    engine.load(EVENTS.values())


@pytest.mark.parametrize("id_type", ["text", "uuid"])
def test_tables_of_the_reference_server_may_have_null_for_missing_text(
    postgres_database: str, id_type: str
) -> None:
    engine = create_engine(postgres_database, **ENGINE_OPTIONS)
    texts = "tool_name text, user_subject text, error_message text, error_category text"
    payload = f"event_id {id_type}, request_params jsonb, replayed_from {id_type}"
    ids = [item.id for item in EVENTS.values()][:3]
    with engine.begin() as connection:
        for statement in (
            f"create table audit_events (id {id_type}, ts timestamptz, {texts})",
            f"create table audit_payloads ({payload})",
        ):
            connection.execute(text(statement))
        for id_, category in zip(ids, ("tool", "", None), strict=True):
            connection.execute(
                text("insert into audit_events values (:id, now(), 'echo', null, null, :category)"),
                {"id": id_, "category": category},
            )
        connection.execute(
            text("insert into audit_payloads values (:id, cast(:params as jsonb), :original)"),
            {"id": ids[2], "params": '{"a":1}', "original": ids[0]},
        )
    for item, wanted in (
        (EventFilter(error_category=""), ids[1:]),
        (EventFilter(error_category=["tool", ""]), ids),
        (EventFilter(error_category="tool"), ids[:1]),
        (EventFilter(q="ECHO"), ids),
        (EventFilter(params={"a": 1.0}, has="replayed_from"), ids[2:]),
    ):
        compiled = compile_filter(item, "postgresql")
        with engine.connect() as connection:
            rows = connection.execute(text(selection(compiled)), compiled.params)
            assert [row[0] for row in rows] == wanted
    engine.dispose()


# --- any events, any filters ----------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "0", "", "a.b", 'q"', "é", "~1/", "a\x00"])
VALUES = st.sampled_from(
    [
        *(None, True, False, 0, 1, 1.0, -0.0, 200, 200.5, 0.1, 2**53, 2**53 + 1, float(2**53)),
        *(10**30, 1e30, -(2**63), JsonDecimal("1e400"), JsonDecimal("1e-400"), JsonDecimal("0.10")),
        *(JsonDecimal("0.1000000000000000000001"), JsonDecimal("1e-7"), 1e-7, 2.5e-8, 5e-324),
        *("", "a", "A", "é", "1", "true", "null", "a\x00", "a\x00b", '"', "\\", "\ud800", "\ufffd"),
    ]
)
DOCUMENTS = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["Accept", "X-A", "x-a", 'a"', "0"])
HEADERS = st.dictionaries(
    NAMES,
    st.lists(st.sampled_from(["a", "b", "", "a\x00", "1", 1, None]), max_size=2) | st.just("a"),
    max_size=2,
)
TEXTS = st.sampled_from(
    ["", "a", "A", "K\u212a", "k", "ß", "ẞ", "ss", "İ", "i", "Σ", "ς", "100%_\\"]
)
MOMENTS = st.sampled_from(
    [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=n) for n in range(3)]
)
DURATIONS = st.sampled_from([0, 1, 2**31, 2**63 - 1])
PAYLOADS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "request_params": DOCUMENTS,
        "request_headers": HEADERS,
        "response_result": DOCUMENTS,
        "response_error": DOCUMENTS,
        "notifications": st.just([]) | st.just([{"method": "m"}]),
    },
)


@st.composite
def some_events(draw: st.DrawFn) -> list[Event]:
    events = []
    for number in range(draw(st.integers(1, 5))):
        wire: dict[str, Any] = {
            "id": f"00000000-0000-4000-8000-{number:012x}",
            "timestamp": draw(MOMENTS).isoformat(),
            "duration_ms": draw(DURATIONS),
            "tool_name": draw(TEXTS),
            "error_message": draw(TEXTS),
            "success": draw(st.booleans()),
        }
        payload = draw(PAYLOADS)
        events.append(Event(wire if payload is None else {**wire, "payload": payload}))
    return events


ASKED: dict[str, st.SearchStrategy[Any]] = {
    "tool": TEXTS | st.lists(TEXTS, min_size=1, max_size=2),
    "error_category": st.sampled_from(["", "tool"]),
    "success": st.booleans(),
    "from_": MOMENTS,
    "to": MOMENTS,
    "q": TEXTS,
    "min_duration_ms": DURATIONS,
    "has": st.sampled_from(HAS_COLUMNS),
    "headers": st.dictionaries(
        NAMES, st.sampled_from(["a", "", "a\x00", "1"]), min_size=1, max_size=1
    ),
    "params": st.dictionaries(
        st.lists(KEYS, min_size=1, max_size=2).map(tuple), VALUES, min_size=1, max_size=1
    ),
}


@st.composite
def some_filters(draw: st.DrawFn, events: list[Event]) -> EventFilter:
    names = draw(st.lists(st.sampled_from([*ASKED, "there", "there"]), max_size=2, unique=True))
    keywords = {name: draw(ASKED[name]) for name in names if name in ASKED}
    if "there" in names:
        # A value that stands somewhere, or one that is near it.
        document = draw(st.sampled_from(events)).wire.get("payload", {}).get("response_result")
        path = []
        while isinstance(document, dict) and document:
            path.append(draw(st.sampled_from(sorted(document))))
            document = document[path[-1]]
        if path:
            near = document if not isinstance(document, dict | list) else None
            keywords["responses"] = {tuple(path): draw(st.just(near) | VALUES)}
    return EventFilter(**keywords)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_all_engines_agree_with_matches_on_anything(
    targets: dict[str, Target], data: st.DataObject
) -> None:
    events = data.draw(some_events())
    for target in targets.values():
        target.load(events)
    for _ in range(3):
        filters = data.draw(st.lists(some_filters(events), min_size=1, max_size=2))
        answers = {name: target.ids(*filters) for name, target in targets.items()}
        assert answers == dict.fromkeys(targets, answers["python"])


# --- the recordings -------------------------------------------------------------------------------

# What the reference server read past, and we refuse.
MALFORMED = {
    "success=0.http": "success is true or false",
    "success=no.http": "success is true or false",
    "param.empty-segment.http": "a segment of the path is empty",
    "param.Inf.http": "no JSON numbers",
    "param.nul.http": "the character NUL",  # here it failed: 500
    "has=bogus.http": "choose from request_params",
    "unknown-param.http": "unknown filter",
    "time-from-no-zone.http": "the time has no zone",
    "time-from-unix.http": "not RFC 3339",
    "time-from-garbage.http": "not RFC 3339",
    "limit-abc.http": "limit is a whole number",
    "limit-float.http": "limit is a whole number",
    "offset-neg.http": "offset is a whole number",
    "bad-percent.http": "two hex digits",
    "semicolon.http": "a ; does not separate filters",
    "format-csv.http": "unknown filter",  # the export's own argument
}


def recorded_queries() -> list[tuple[Path, str]]:
    """The recorded lists and exports: file, query string."""
    found = []
    for line in (UPSTREAM / "INDEX.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        name, method, target = line.split("\t")[:3]
        path, _, query = target.partition("?")
        if (
            method == "GET"
            and path.endswith(("/audit/events", "/audit/export"))
            and not name.startswith("errors/")
        ):
            found.append((UPSTREAM / name, query))
    return found


ANSWERED = [(path, query) for path, query in recorded_queries() if path.name not in MALFORMED]


def recorded_answer(path: Path) -> tuple[list[str], int]:
    """The ids of a recorded answer, in order, and the total."""
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    if path.parent.name == "export":
        ids = [json.loads(line)["id"] for line in body.splitlines()]
        return ids, len(ids)
    page = json.loads(body)
    return [item["id"] for item in page["events"]], page["total"]


@pytest.fixture(scope="module")
def recorded(targets: dict[str, Target]) -> Iterator[dict[str, Target]]:
    """All targets with the rows of the recording's database, PostgreSQL by its own INSERTs."""
    postgres = targets["postgresql"]
    assert isinstance(postgres, PortalTarget)
    postgres.load([])
    with postgres.engine.begin() as connection:
        for name in ("audit_events", "audit_payloads"):
            connection.exec_driver_sql(
                (UPSTREAM / "pg" / f"{name}.sql").read_text(encoding="utf-8").replace("%", "%%")
            )
    with postgres.engine.connect() as connection:
        summaries, payloads = (
            connection.execute(select(table)).mappings().all() for table in postgres.tables
        )
    details = {row["event_id"]: Payload.build(**{**row, "event_id": None}) for row in payloads}
    events = [
        Event.build(timestamp=row["ts"], payload=details.get(row["id"]), **{**row, "ts": None})
        for row in summaries
    ]
    postgres.events = {item.id: item for item in events}
    for name in ("python", "duckdb", "sqlite"):
        targets[name].load(events)
    yield targets
    for target in targets.values():
        target.load([])


@pytest.mark.parametrize(
    ("path", "query"), ANSWERED, ids=lambda value: getattr(value, "name", None)
)
@pytest.mark.parametrize("name", ["python", *ENGINES])
def test_a_recorded_query_gives_the_recorded_events(
    recorded: dict[str, Target], name: str, path: Path, query: str
) -> None:
    item = EventFilter.from_query(query)
    found = recorded[name].ids(item)
    ids, total = recorded_answer(path)
    if path.parent.name == "events":
        assert len(found) == total
        limit = min(50 if item.limit is None else item.limit, 1000)
        assert found[item.offset :][:limit] == ids
    elif path.name != "head.http":
        assert found[: item.limit] == ids


def test_only_these_recorded_queries_are_malformed() -> None:
    assert len(ANSWERED) > 60
    for path, query in recorded_queries():
        if path.name in MALFORMED:
            with pytest.raises(FilterError, match=MALFORMED[path.name]):
                EventFilter.from_query(query)
