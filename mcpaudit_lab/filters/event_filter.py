"""One filter over audit events: from keywords or a query string, with its meaning in Python.

:class:`EventFilter` says which events are wanted. :meth:`EventFilter.matches` is the reference for
what that means; the SQL made from a filter selects the same events, or says that it selects more.

The rules, beyond the portal's contract:

- Values of one text field are alternatives (``tool=["echo", "lorem"]``); everything else is joined
  by "and".
- A path walks objects by key only: a numeric segment is never an index, and a list is not equal to
  one of its elements.
- Numbers are compared by value and exactly, as the decimals that the JSON text says: ``200``,
  ``200.0`` and ``2e2`` are equal, 9007199254740993 and 9007199254740992.0 are not. A boolean is
  never a number, and null is equal to null only.
- ``q`` compares by :func:`fold`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters.arguments import (
    Tests,
    Texts,
    read_checked,
    read_condition,
    read_count,
    read_has,
    read_tests,
    read_texts,
    read_trace,
)
from mcpaudit_lab.filters.conditions import All, Condition, asks_payload, joined
from mcpaudit_lab.filters.named_tests import OPERATORS, keyword_condition
from mcpaudit_lab.filters.query_string import (
    HAS_COLUMNS,
    SOURCES,
    TEXT_FIELDS,
    choices,
    parse_query,
    write_path,
    write_query,
    write_scalar,
)
from mcpaudit_lab.filters.times import Moment, parse_moment, parse_wire_moment
from mcpaudit_lab.filters.values import (
    PathTest,
    fold,
    shown,
    shown_key,
)
from mcpaudit_lab.record import (
    Event,
    Json,
    format_time,
    visible,
)

__all__ = [
    "HAS_COLUMNS",
    "TEXT_FIELDS",
    "EventFilter",
    "PathTest",
]


@dataclass(frozen=True, slots=True, init=False, repr=False)
class EventFilter:
    """Which events are wanted. Hashable; two filters that ask the same in the same words are equal.

    Args:
        from_: the earliest start of a call, inclusive, cut to microseconds: a ``datetime`` with a
            zone; a ``date`` or ``"2026-11-24"``, ``"today"``, ``"yesterday"`` (its first moment);
            ``"2026-11-24T10:00"``; ``"now"``; a span before now: ``"90m"``, ``"24h"``, ``"7d"``,
            ``"1h30m"``, a ``timedelta``. Without a zone it is UTC; the repr shows the Z.
        to: not after this moment, inclusive: the same, a day until its last microsecond.
        since: another word for ``from_``.
        tool: the tool's name, or a list of alternatives.
        user: the subject (``user_subject``), or a list.
        session: the session's id, or a list.
        error_category: ``auth``, ``tool``, ``handler``; ``""`` for events without one; or a list.
        source: ``mcp``, ``portal-tryit``, ``portal-replay``, the name of another recorder's format
            such as ``mcpsnoop``, or a list.
        tool_group: the tool's group, or a list.
        auth_type: ``oidc``, ``apikey``, ``anonymous``, or a list.
        success: True for calls that succeeded, False for calls that failed.
        q: a text contained in the tool's name, the error message or the subject, in any case.
        min_duration_ms: minimum duration, in milliseconds.
        params: dotted path, or tuple of keys, in ``request_params`` -> exactly this JSON value:
            ``{"user.id": "alice"}``. None is null; absent never matches.
        responses: the same in ``response_result``.
        headers: header name, in any case -> one of its values.
        extra: the same in what a record has beyond its columns, as other recorders' files do:
            ``{"server_name": "weather"}``.
        trace: the call's trace id, 32 hex digits; short for ``extra={"trace_id": …}``.
        has: columns of the payload that must be present and not empty: one of :data:`HAS_COLUMNS`,
            or a list, all of them.
        where: a condition in text, ``"tool != echo and (duration_ms > 200 or not success)"``, as
            ``docs/filters.md`` describes it.
        limit: maximum number of events. ``limit`` and ``offset`` page a list; they decide no match.
        offset: number of events to skip at the start.
        now: the moment that spans and ``"today"`` count from; the clock's, unless given.
        **dotted: ``param.<path>``, ``response.<path>``, ``header.<Name>`` and ``extra.<path>``, one
            value each: ``**{"param.user.id": "alice"}``; and ``from``. After a name,
            ``__not``, ``__gt``, ``__ge``, ``__lt``, ``__le``, ``__contains`` or ``__glob`` compares
            otherwise: ``tool__not="echo"``, ``duration_ms__gt=200``.

    Raises:
        FilterError: if an argument cannot mean anything; the message names the choices.
    """

    from_: datetime | None
    to: datetime | None
    tool: tuple[str, ...]
    user: tuple[str, ...]
    session: tuple[str, ...]
    error_category: tuple[str, ...]
    source: tuple[str, ...]
    tool_group: tuple[str, ...]
    auth_type: tuple[str, ...]
    success: bool | None
    q: str
    min_duration_ms: int | None
    params: tuple[PathTest, ...]
    responses: tuple[PathTest, ...]
    headers: tuple[PathTest, ...]
    extra: tuple[PathTest, ...]
    has: tuple[str, ...]
    where: Condition | None
    limit: int | None
    offset: int

    def __init__(
        self,
        *,
        from_: Moment = None,
        to: Moment = None,
        since: Moment = None,
        tool: Texts = None,
        user: Texts = None,
        session: Texts = None,
        error_category: Texts = None,
        source: Texts = None,
        tool_group: Texts = None,
        auth_type: Texts = None,
        success: bool | None = None,
        q: str | None = None,
        min_duration_ms: int | None = None,
        params: Tests = None,
        responses: Tests = None,
        headers: Tests = None,
        extra: Tests = None,
        trace: str | None = None,
        has: Texts = None,
        where: str | Condition | None = None,
        limit: int | None = None,
        offset: int = 0,
        now: datetime | None = None,
        **dotted: Any,
    ) -> None:
        if "from" in dotted and from_ is None:
            from_ = dotted.pop("from")
        if since is not None and from_ is not None:
            raise FilterError("from and since both say where to begin; give one")
        tests = {
            "params": read_tests("param", params),
            "responses": read_tests("response", responses),
            "headers": read_tests("header", headers),
            "extra": read_tests("extra", extra),
        }
        if trace is not None:
            tests["extra"] += read_tests("extra", {"trace_id": read_trace(trace)})
        conditions = [] if where is None else [read_condition(where, now)]
        for name, value in dotted.items():
            compared, _, operator = name.rpartition("__")
            if operator in OPERATORS and compared:
                conditions.append(keyword_condition(compared, OPERATORS[operator], value, now))
                continue
            prefix, _, rest = name.partition(".")
            if prefix not in SOURCES or not rest:
                raise FilterError(f"unknown filter {shown(name)}; {choices()}")
            tests[SOURCES[prefix]] += read_tests(prefix, {rest: value})
        values: dict[str, Any] = {
            "from_": parse_moment("from", from_, now=now)
            if since is None
            else parse_moment("since", since, now=now),
            "to": parse_moment("to", to, now=now, latest=True),
            "tool": read_texts("tool", tool),
            "user": read_texts("user", user),
            "session": read_texts("session", session),
            "error_category": read_texts("error_category", error_category),
            "source": read_texts("source", source),
            "tool_group": read_texts("tool_group", tool_group),
            "auth_type": read_texts("auth_type", auth_type),
            "success": read_checked("success", success, bool, "True or False"),
            "q": read_checked("q", q, str, "a text") or "",
            "min_duration_ms": read_count("min_duration_ms", min_duration_ms),
            **tests,
            "has": read_has(has),
            "where": joined(All, tuple(conditions)) if conditions else None,
            "limit": read_count("limit", limit),
            "offset": read_count("offset", offset) or 0,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_query(
        cls, query: str | Iterable[tuple[str, str]], *, now: datetime | None = None
    ) -> EventFilter:
        """Read a query string as the portal's ``/events`` takes it, strictly.

        Args:
            query: ``"tool=echo&param.user.id=alice"``, percent-encoded; or the decoded pairs. Text
                fields may occur more than once, as alternatives; ``param.…``, ``response.…``,
                ``header.…`` and ``has`` may too, and all of them must hold. An empty value is
                ignored.
            now: as the constructor's.

        Raises:
            FilterError: an invalid name, source, column, path, date, number or boolean.
        """
        keywords = parse_query(query)
        for keyword in ("from_", "to", "since"):
            if keyword in keywords:
                name = keyword.removesuffix("_")
                keywords[keyword] = parse_wire_moment(name, keywords[keyword], now=now)
        return cls(**keywords)

    def to_query(self) -> str:
        """The filter as a query string that :meth:`from_query` reads back as an equal filter.

        Raises:
            FilterError: for what a query string cannot say: null, an empty text, NUL, a lone
                surrogate, a key that is empty or has a dot or a control character.
        """
        return write_query(self._query_pairs())

    def _query_pairs(self) -> Iterator[tuple[str, str]]:
        for name in TEXT_FIELDS:
            for text in getattr(self, name):
                yield name, text
        for source, keyword in SOURCES.items():
            for test in getattr(self, keyword):
                value = str(test.value) if source == "header" else write_scalar(test)
                yield write_path(source, test.path), value
        for column in self.has:
            yield "has", column
        once = {
            "from": self.from_ and format_time(self.from_),
            "to": self.to and format_time(self.to),
            "success": self.success if self.success is None else str(self.success).lower(),
            "q": self.q or None,
            "where": self.where and str(self.where),
            "min_duration_ms": self.min_duration_ms,
            "limit": self.limit,
            "offset": self.offset or None,
        }
        for name, asked in once.items():
            if asked is not None:
                yield name, str(asked)

    def matches(self, event: Event) -> bool:
        """Whether the event is wanted. ``limit`` and ``offset`` play no part."""
        if self.extra and not all(test.holds(event.extra) for test in self.extra):
            return False
        if not (self._matches_summary(event) and self._matches_payload(event)):
            return False
        return self.where is None or self.where.holds(event)

    def _matches_summary(self, event: Event) -> bool:
        if self.from_ is not None and event.timestamp < self.from_:
            return False
        if self.to is not None and event.timestamp > self.to:
            return False
        for name, column in TEXT_FIELDS.items():
            wanted = getattr(self, name)
            if wanted and getattr(event, column) not in wanted:
                return False
        if self.success is not None and event.success is not self.success:
            return False
        if self.min_duration_ms is not None and event.duration_ms < self.min_duration_ms:
            return False
        needle = fold(self.q)
        return not needle or any(
            needle in fold(text)
            for text in (event.tool_name, event.error_message, event.user_subject)
        )

    def _matches_payload(self, event: Event) -> bool:
        if not (self.params or self.responses or self.headers or self.has):
            return True
        payload = event.payload
        return (
            payload is not None
            and all(test.holds(payload.request_params) for test in self.params)
            and all(test.holds(payload.response_result) for test in self.responses)
            and all(test.holds_for_header(payload.request_headers) for test in self.headers)
            and not any(_is_empty(payload.wire.get(column)) for column in self.has)
        )

    @property
    def needs_payload(self) -> bool:
        """Whether the filter asks anything of the payload."""
        paths = self.params or self.responses or self.headers or self.has
        return bool(paths) or (self.where is not None and asks_payload(self.where))

    def describe(self) -> str:
        """The filter in words, one line, for people; ``all events`` for the empty filter."""
        once = (
            (self.success is not None, "succeeded" if self.success else "failed"),
            (self.q, f"{shown(self.q)} in tool name, error message or user"),
            (self.min_duration_ms is not None, f"took {self.min_duration_ms} ms or more"),
            (self.from_, f"from {self.from_ and format_time(self.from_)}"),
            (self.to, f"to {self.to and format_time(self.to)}"),
            (self.where, f"where {visible(str(self.where))}"),
            (self.limit is not None, f"at most {self.limit}"),
            (self.offset, f"without the first {self.offset}"),
        )
        words = [
            f"{name.replace('_', ' ')} {' or '.join(map(shown, getattr(self, name)))}"
            for name in TEXT_FIELDS
            if getattr(self, name)
        ]
        for source, keyword in SOURCES.items():
            for test in getattr(self, keyword):
                value = shown(test.value) if isinstance(test.value, str) else test.text
                words.append(f"{source} {'.'.join(map(shown_key, test.path))} is {value}")
        words += [f"has {column}" for column in self.has]
        words += [word for asked, word in once if asked]
        return ", ".join(words) or "all events"

    def __repr__(self) -> str:
        values = ((item.name, getattr(self, item.name)) for item in fields(self))
        given = (f"{name}={_written(value)!r}" for name, value in values if value or value is False)
        return f"EventFilter({', '.join(given)})"


def _written(value: Any) -> Any:
    """A time and a condition as text, which the filter takes back; other values as they are."""
    if isinstance(value, datetime):
        return format_time(value)
    return str(value) if isinstance(value, Condition) else value


def _is_empty(value: Json) -> bool:
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)
