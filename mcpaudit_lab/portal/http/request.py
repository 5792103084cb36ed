"""One request about events: what the portal is asked, and what the client finishes.

The reference server knows fewer filters than ours and silently drops unknown ones, which widens the
result. Only filters that the portal is known to understand are sent; everything else is checked on
the received events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters import (
    TEXT_FIELDS,
    All,
    Condition,
    EventFilter,
    PathTest,
    implied,
    joined,
    with_values,
)
from mcpaudit_lab.record import Event

__all__ = [
    "EventRequest",
    "make_request",
    "on_summaries",
    "request_key",
]

# Text fields that the reference server filters by, and how long its ``q`` may be.
_REFERENCE_FIELDS: Final = ("tool", "user", "session")
_REFERENCE_Q_CHARS: Final = 200
_PATH_FIELDS: Final = ("params", "responses", "headers")
_PAYLOAD_FIELDS: Final = (*_PATH_FIELDS, "has")
# Longer ones would not fit into an address.
_WHERE_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class EventRequest:
    """A request, divided.

    Attributes:
        sent: what the portal is asked, without limit and offset; its query string can be written.
        checks: what the client checks on summaries, because some of it cannot be sent.
        details: filters that must be checked on payloads, because they cannot be sent; None for
            none.
        whole: whether the portal is asked everything, so that its counts are the answer's.
        limit: maximum number of events, or None.
        offset: number of events to skip at the start.
    """

    sent: EventFilter
    checks: tuple[EventFilter, ...]
    details: EventFilter | None
    whole: bool
    limit: int | None
    offset: int

    def wants(self, event: Event) -> bool:
        """Whether a summary matches, if the summary alone can decide."""
        return all(item.matches(event) for item in self.checks)

    def between(self, from_: Any, to: Any) -> EventRequest:
        """The same request about a window of time, both ends inclusive; None leaves an end."""
        bounds = {name: at for name, at in (("from_", from_), ("to", to)) if at is not None}
        return replace(self, sent=with_values(self.sent, **bounds))

    def query(self, **paging: int | None) -> str:
        """The query string."""
        return with_values(self.sent, **paging).to_query()


def make_request(filters: Iterable[EventFilter], *, reference: bool) -> EventRequest:
    """Divide filters, all of which must hold, into a part to send and a part to check.

    Args:
        filters: the filters.
        reference: whether the portal knows no more than the reference server does.
    """
    found = tuple(filters)
    sent: dict[str, Any] = {}
    left: dict[str, list[PathTest]] = {name: [] for name in _PATH_FIELDS}
    checks: list[EventFilter] = []
    conditions: list[Condition] = []
    for item in found:
        if not _send_summary(item, sent, reference=reference):
            checks.append(on_summaries(item))
        if item.where is not None:
            conditions.append(item.where)
        sent.setdefault("has", []).extend(item.has)
        for name in _PATH_FIELDS:
            for test in getattr(item, name):
                if _can_say(name, (test,)) and (not reference or _reference_reads(test)):
                    sent.setdefault(name, []).append(test)
                else:
                    left[name].append(test)
    unsent: dict[str, Any] = {name: tests for name, tests in left.items() if tests}
    if conditions:
        where = EventFilter(where=joined(All, tuple(conditions)))
        if not reference and len(str(where.where)) <= _WHERE_CHARS:
            sent["where"] = where.where
        else:
            # The part that the portal knows is sent as well, so that it lists less.
            told = implied(where.where) if where.where else {}
            known: dict[str, Any] = {
                name: told[column] for name, column in TEXT_FIELDS.items() if told.get(column)
            }
            _send_summary(EventFilter(**known), sent, reference=reference)
            if where.needs_payload:
                unsent["where"] = where.where
            else:
                checks.append(where)
    details = EventFilter(**unsent)
    needed = details != EventFilter()
    page = next((item for item in found if item.limit is not None or item.offset), EventFilter())
    return EventRequest(
        EventFilter(**{name: value for name, value in sent.items() if value not in ([], ())}),
        tuple(checks),
        details if needed else None,
        not checks and not needed,
        page.limit,
        page.offset,
    )


def _send_summary(item: EventFilter, sent: dict[str, Any], *, reference: bool) -> bool:
    """Add a filter's conditions on summaries; returns whether all of them could be expressed."""
    whole = True
    if item.from_ is not None:
        sent["from_"] = max(item.from_, sent.get("from_", item.from_))
    if item.to is not None:
        sent["to"] = min(item.to, sent.get("to", item.to))
    for name in TEXT_FIELDS:
        if texts := getattr(item, name):
            known = not reference or (
                name in _REFERENCE_FIELDS and len(texts) == 1 and texts[0].isprintable()
            )
            whole &= _put(sent, name, texts, can=known and _can_say(name, texts))
    # A portal's rows have nothing beyond their columns that it could be asked for.
    whole &= not item.extra
    if item.q:
        known = not reference or (len(item.q) <= _REFERENCE_Q_CHARS and item.q.isprintable())
        whole &= _put(sent, "q", item.q, can=known and _can_say("q", item.q))
    if item.success is not None:
        whole &= _put(sent, "success", item.success, can=True)
    if item.min_duration_ms:
        whole &= _put(sent, "min_duration_ms", item.min_duration_ms, can=not reference)
    return whole


def _put(sent: dict[str, Any], name: str, value: Any, *, can: bool) -> bool:
    """Send a value, unless another is sent for the same already."""
    if can:
        sent.setdefault(name, value)
    return can and sent[name] == value


def _can_say(name: str, value: Any) -> bool:
    try:
        EventFilter(**{name: value}).to_query()
    except FilterError:
        return False
    return True


def _reference_reads(test: PathTest) -> bool:
    # The server drops filters with control characters; its treatment of others is not worth
    # guessing.
    return not isinstance(test.value, str) or test.value.isprintable()


def on_summaries(item: EventFilter) -> EventFilter:
    """What a filter asks of summaries, its condition aside."""
    none: dict[str, Any] = dict.fromkeys((*_PAYLOAD_FIELDS, "where"))
    return with_values(item, **none, limit=None, offset=0)


def request_key(filters: Iterable[EventFilter], *, reference: bool) -> str:
    """Filters as text that says which events are listed, whenever that was: for the log.

    Raises:
        FilterError: a filter has a limit or an offset.
    """
    found = tuple(filters)
    if any(item.limit is not None or item.offset for item in found):
        raise FilterError("a pull takes all that match: limit and offset have no place here")
    timeless = [with_values(item, from_=None, to=None) for item in found]
    asked = sorted({repr(item) for item in timeless if item != EventFilter()})
    sent = make_request(timeless, reference=reference).sent
    return f"{sent.to_query() or 'all'} | {' & '.join(asked)}"
