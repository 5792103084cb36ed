"""A filter as SQL for DuckDB, SQLite and PostgreSQL.

The condition uses two aliases: ``e`` is ``audit_events``, and tests on a payload are one ``EXISTS``
over ``audit_payloads p``. It can be used wherever a condition can::

    select count(*) from audit_events e where {compiled.where}

Values are always bound, paths and header names too. The dialects share everything but the few
operators that differ (:mod:`mcpaudit_lab.filters.dialects`).

:meth:`.filters.event_filter.EventFilter.matches` is the reference. What an engine cannot express is
finished by a small Python function registered with it (:func:`register_functions`), called only for
doubtful rows. PostgreSQL has no such functions, and no engine's text can hold every Python text:
there the condition selects a superset and says so (``residual``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from mcpaudit_lab.filters.condition_sql import condition_sql
from mcpaudit_lab.filters.dialect import Dialect
from mcpaudit_lab.filters.dialects import DIALECTS
from mcpaudit_lab.filters.event_filter import TEXT_FIELDS, EventFilter, PathTest
from mcpaudit_lab.filters.sql_functions import register_functions

__all__ = ["Compiled", "compile_filter", "register_functions", "text_condition"]

_PAYLOAD_OF_EVENT: Final = "p.event_id = e.id"
_COLUMNS: Final = {
    "params": "request_params",
    "responses": "response_result",
    "headers": "request_headers",
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A condition over ``audit_events e``.

    Attributes:
        where: the SQL. Its parameters are ``$f0`` … for DuckDB and ``:f0`` … for the others, as
            ``sqlalchemy.text`` takes them.
        params: their values, by name.
        residual: whether the rows are a superset, each to be checked with
            :meth:`~mcpaudit_lab.filters.event_filter.EventFilter.matches` of every filter.
        source: what to select from.
    """

    where: str
    params: dict[str, Any]
    residual: bool
    source: str = "audit_events e"


def compile_filter(
    filters: EventFilter | Iterable[EventFilter],
    dialect: str,
    *,
    payloads_from: str = "audit_payloads p",
    payload_where: str = "",
) -> Compiled:
    """Make the condition that selects what all the filters match.

    ``limit`` and ``offset`` are left to the statement around it.

    Args:
        filters: one filter, or several that must all hold; an empty sequence selects everything.
        dialect: ``duckdb``, ``sqlite`` or ``postgresql``.
        payloads_from: the SQL used instead of ``audit_payloads p``.
        payload_where: a further SQL condition on payloads; the caller binds its parameters.

    Raises:
        ValueError: for another dialect.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"the dialect is one of {', '.join(DIALECTS)}")
    writer = DIALECTS[dialect]()
    events: list[str] = []
    payloads: list[str] = []
    of_event = " and ".join([_PAYLOAD_OF_EVENT, *filter(None, [payload_where])])
    found = f"from {payloads_from} where {of_event}"
    for item in (filters,) if isinstance(filters, EventFilter) else filters:
        events += _event_conditions(item, writer)
        payloads += _payload_conditions(item, writer)
        if item.where is not None:
            events.append(condition_sql(item.where, writer, found))
    if payloads:
        events.append(f"exists (select 1 {found} and {' and '.join(payloads)})")
    return Compiled(" and ".join(events) or "1 = 1", writer.params, writer.residual)


def text_condition(text: str, documents: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """DuckDB: the error message or a JSON document may contain a text, in any case.

    It selects a superset: JSON may spell a character by its code.

    Args:
        text: the text.
        documents: columns with JSON text.

    Returns:
        The condition, and what it binds.
    """
    writer = DIALECTS["duckdb"]()
    # The longest run of characters that JSON can only spell in one way, or by their code.
    piece = max(re.split(r'["\\/\x00-\x1f\ud800-\udfff\ufffd]', text), key=len)
    if not piece:
        return "1 = 1", {}
    columns = tuple(f"cast({document} as varchar)" for document in documents)
    found = writer.contains(("e.error_message", *columns), piece)
    coded = " or ".join(f"contains({column}, '\\u')" for column in columns)
    return f"({found} or {coded})", writer.params


def _event_conditions(item: EventFilter, writer: Dialect) -> Iterable[str]:
    if item.from_ is not None:
        yield f"e.ts >= {writer.moment(item.from_)}"
    if item.to is not None:
        yield f"e.ts <= {writer.moment(item.to)}"
    for name, column in TEXT_FIELDS.items():
        wanted = getattr(item, name)
        if wanted:
            # A foreign row may have NULL where ours have ''.
            operand = f"coalesce(e.{column}, '')" if "" in wanted else f"e.{column}"
            yield f"{operand} in ({', '.join(map(writer.text, wanted))})"
    if item.success is not None:
        yield f"e.success = {writer.bind(item.success)}"
    if item.min_duration_ms is not None:
        yield writer.at_least("duration_ms", item.min_duration_ms)
    for test in item.extra:
        if (condition := writer.beyond("eq", test)) is None:
            writer.residual = True
        else:
            yield condition
    if item.q:
        yield writer.contains(("e.tool_name", "e.error_message", "e.user_subject"), item.q)


def _payload_conditions(item: EventFilter, writer: Dialect) -> Iterable[str]:
    for keyword, column in _COLUMNS.items():
        tests: tuple[PathTest, ...] = getattr(item, keyword)
        for test in tests:
            if not writer.can_say(test):
                writer.residual = True
                yield f"p.{column} is not null"
            elif keyword == "headers":
                yield writer.header(f"p.{column}", test)
            else:
                yield writer.value(f"p.{column}", test)
    for column in item.has:
        yield writer.present(f"p.{column}")
