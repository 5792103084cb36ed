"""Events copied from a portal's own tables, PostgreSQL or SQLite, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import MissingExtra, SourceError
from mcpaudit_lab.events import EVENT_FIELDS, PAYLOAD_FIELDS, Event, Field, Payload
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.jsontext import Json
from mcpaudit_lab.lab.ledger import request_text
from mcpaudit_lab.sql.compile import compile_filter
from mcpaudit_lab.sql.jsonb import NOTIFICATION_KEYS, respell

if TYPE_CHECKING:
    from sqlalchemy import Engine, Row, Select
    from sqlalchemy.engine import URL

__all__ = ["DatabaseSource", "open_database"]

_BATCH_ROWS = 1000


class DatabaseSource:
    """The rows that some filters select from a portal's database.

    Attributes:
        name: the URL without its password.
        request: what is asked, as JSON text, for the ledger.
    """

    def __init__(self, url: str, filters: Sequence[EventFilter]) -> None:
        parsed = _parse(url)
        self.name = parsed.render_as_string(hide_password=True)
        self._filters = tuple(filters)
        self._page = next((f for f in filters if f.limit is not None or f.offset), EventFilter())
        self._engine = _connect(parsed)
        compiled = compile_filter(self._filters, self._engine.dialect.name)
        self._where, self._params, self._residual = (
            compiled.where,
            compiled.params,
            compiled.residual,
        )
        self.request = request_text(
            where=self._where,
            params={name: str(value) for name, value in self._params.items()},
            limit=self._page.limit,
            offset=self._page.offset,
        )

    def count(self) -> int:
        """How many rows the filters select, before a limit."""
        from sqlalchemy import func, select

        statement = select(func.count()).select_from(self._select().order_by(None).subquery())
        with self._reading() as connection:
            return int(connection.execute(statement, self._params).scalar_one())

    def batches(self) -> Iterator[list[Event]]:
        """The events with their payloads, in the contract's order, some at a time."""
        statement = self._select()
        if not self._residual:
            statement = statement.offset(self._page.offset).limit(self._page.limit)
        with self._reading() as connection:
            rows = connection.execution_options(yield_per=_BATCH_ROWS).execute(
                statement, self._params
            )
            spell = respell if self._engine.dialect.name == "postgresql" else _as_stored
            events: Iterator[Event] = (_event(row, spell) for row in rows)
            if self._residual:
                end = None if self._page.limit is None else self._page.offset + self._page.limit
                matching = (e for e in events if all(f.matches(e) for f in self._filters))
                events = islice(matching, self._page.offset, end)
            while batch := list(islice(events, _BATCH_ROWS)):
                yield batch

    def _select(self) -> Select[Any]:
        from sqlalchemy import MetaData, select, text

        from mcpaudit_lab.sql.portal_tables import portal_tables

        events, payloads = portal_tables(MetaData())
        e, p = events.alias("e"), payloads.alias("payload")
        columns = [e.c[field.column].label(f"e_{field.column}") for field in EVENT_FIELDS]
        columns += [p.c[field.column].label(f"p_{field.column}") for field in PAYLOAD_FIELDS]
        columns.append(p.c.event_id.label("p_event_id"))
        return (
            select(*columns)
            .select_from(e.outerjoin(p, p.c.event_id == e.c.id))
            .where(text(self._where))
            .order_by(e.c.ts.desc(), e.c.id)
        )

    def _reading(self) -> Any:
        return _Reading(self._engine, self.name)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


class _Reading:
    """A connection whose errors say which database, and never its password."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name

    def __enter__(self) -> Any:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._connection = self._engine.connect()
        except SQLAlchemyError as error:
            raise _explain(self._name, error) from None
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        self._connection.close()
        if isinstance(error, SQLAlchemyError):
            raise _explain(self._name, error) from None


def _explain(name: str, error: Exception) -> SourceError:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()
    said = reason[0] if reason else type(error).__name__
    if "no such table" in said or ("relation" in said and "does not exist" in said):
        said += " (is it the database of a portal, and a URL that ends in its name?)"
    return SourceError(f"{name}: {said}")


def open_database(url: str, filters: Sequence[EventFilter]) -> DatabaseSource:
    """Prepare to read from a portal's database; nothing is read yet.

    Args:
        url: as SQLAlchemy takes it: ``postgresql+psycopg://user@host/db``, ``sqlite:///audit.db``.
        filters: which events.

    Raises:
        SourceError: it is no URL, the SQLite file is missing, or it is another kind of database.
        MissingExtra: the driver is not installed.
    """
    return DatabaseSource(url, filters)


def _parse(url: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        # The error would show the URL, and with it the password.
        raise SourceError(
            "a database URL looks like postgresql+psycopg://user@host/db or sqlite:///audit.db"
        ) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    backend = parsed.get_backend_name()
    if backend not in ("postgresql", "sqlite"):
        raise SourceError(f"a portal's database is PostgreSQL or SQLite, not {backend}")
    # SQLite would make a file that is missing.
    if backend == "sqlite" and not (parsed.database and Path(parsed.database).is_file()):
        raise SourceError(f"no such database: {parsed.database!r}")
    return parsed


def _connect(url: URL) -> Engine:
    from sqlalchemy import create_engine, event

    from mcpaudit_lab.sql.compile import register_functions
    from mcpaudit_lab.sql.portal_tables import ENGINE_OPTIONS

    try:
        engine = create_engine(url, **ENGINE_OPTIONS)
    except ModuleNotFoundError:
        raise MissingExtra("postgres", "reading from PostgreSQL") from None
    if engine.dialect.name == "sqlite":

        def register(connection: Any, _: object) -> None:
            register_functions(connection)

        event.listen(engine, "connect", register)
    return engine


def _as_stored(value: Json, *, first: tuple[str, ...]) -> Json:  # noqa: ARG001 - as respell
    """SQLite keeps JSON as text, in the spelling it came in."""
    return value


def _event(row: Row[Any], spell: Callable[..., Json]) -> Event:
    """A row as the portal's wire has it: what is zero or empty is left out."""
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping
    payload = None
    if values["p_event_id"] is not None:
        payload = Payload.build(**_members(values, "p_", PAYLOAD_FIELDS, spell))
    return Event.build(**_members(values, "e_", EVENT_FIELDS, spell), payload=payload)


def _members(
    values: Any, prefix: str, fields: Sequence[Field], spell: Callable[..., Json]
) -> dict[str, Any]:
    members = {field.name: values[prefix + field.column] for field in fields}
    for field in fields:
        value = members[field.name]
        if field.kind == "id" and value is not None:
            members[field.name] = str(value)
        elif field.kind == "json":
            first = NOTIFICATION_KEYS if field.name == "notifications" else ()
            members[field.name] = spell(value, first=first)
    return members
