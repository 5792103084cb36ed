"""The filter means the same in Python, DuckDB, SQLite and PostgreSQL: all four really run here."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from filter_corpus import CASES, EVENTS, LABELS, Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, MetaData, Table, create_engine, event, text
from sqlalchemy.pool import StaticPool

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.events import EVENT_FIELDS, PAYLOAD_FIELDS, Event, Field, Payload
from mcpaudit_lab.filters import HAS_COLUMNS, EventFilter, PathTest, contract_order
from mcpaudit_lab.jsontext import dumps, loads, replace_surrogates
from mcpaudit_lab.lab.rows import PAYLOAD_PREFIX, row_of
from mcpaudit_lab.sql.compile import Compiled, compile_filter, register_functions
from mcpaudit_lab.sql.portal_tables import ENGINE_OPTIONS, portal_tables
from mcpaudit_lab.sql.schema import EVENT_COLUMNS, PAYLOAD_COLUMNS, duckdb_tables, event_order

UPSTREAM = Path(__file__).parent / "data" / "upstream"


class Target(ABC):
    """An engine with the two tables."""

    dialect: str

    def load(self, events: Iterable[Event]) -> None:
        """Replace what is in the tables."""
        self.events = {event.id: event for event in events}
        self._load(list(self.events.values()))

    @abstractmethod
    def _load(self, events: list[Event]) -> None: ...

    @abstractmethod
    def run(self, statement: str, params: dict[str, Any]) -> list[tuple[Any, ...]]: ...

    @abstractmethod
    def close(self) -> None: ...

    def rows(self, compiled: Compiled) -> list[str]:
        """The ids that the SQL alone selects, in the contract's order."""
        statement = (
            f"select cast(e.id as varchar) from audit_events e where {compiled.where} "  # noqa: S608 - our own condition
            f"order by {event_order()}"
        )
        return [row[0] for row in self.run(statement, compiled.params)]

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

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        register_functions(self.connection)
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
                f"insert into {table} ({', '.join(columns)}) values ({marks})",  # noqa: S608 - our own names
                rows,
            )

    def run(self, statement: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement, params).fetchall()

    def close(self) -> None:
        self.connection.close()


class PortalTarget(Target):
    """A portal's tables, by SQLAlchemy."""

    def __init__(self, dialect: str, url: str) -> None:
        self.dialect = dialect
        if dialect == "sqlite":
            self.engine = create_engine(url, poolclass=StaticPool, **ENGINE_OPTIONS)
            event.listen(self.engine, "connect", lambda raw, _: register_functions(raw))
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

    def close(self) -> None:
        self.engine.dispose()


TARGETS = ("python", "duckdb", "sqlite", "postgresql")


def make_target(name: str, request: pytest.FixtureRequest) -> Target:
    if name == "python":
        return PythonTarget()
    if name == "duckdb":
        return DuckTarget()
    url = (
        request.getfixturevalue("postgres_module_database") if name == "postgresql" else "sqlite://"
    )
    return PortalTarget(name, url)


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    made = make_target(request.param, request)
    made.load(EVENTS.values())
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_target_gives_the_answer_written_by_hand(target: Target, case: Case) -> None:
    wanted = case.labels
    if case.portal is not None and isinstance(target, PortalTarget):
        wanted = case.portal
    found = target.ids(case.filter)
    assert {LABELS[id_] for id_ in found} == wanted
    assert found == [item.id for item in contract_order(target.events[id_] for id_ in found)]
