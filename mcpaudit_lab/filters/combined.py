"""Several filters together, and the order of what they select."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.record import Event

__all__ = ["contract_order", "filters_of", "with_values"]


def filters_of(
    filters: Iterable[EventFilter | str], keywords: dict[str, Any]
) -> tuple[EventFilter, ...]:
    """Filters and keywords together; a text is a condition, as ``where`` takes it.

    Raises:
        FilterError: an unknown keyword; more than one limit.
    """
    found = tuple(EventFilter(where=f) if isinstance(f, str) else f for f in filters)
    if keywords:
        found += (EventFilter(**keywords),)
    if len([item for item in found if item.limit is not None or item.offset]) > 1:
        raise FilterError("limit and offset can be given once")
    return found


def with_values(wanted: EventFilter, **changes: Any) -> EventFilter:
    """The same filter with some of its values changed."""
    values = {name: getattr(wanted, name) for name in EventFilter.__slots__}
    return EventFilter(**{**values, **changes})


def contract_order(events: Iterable[Event]) -> list[Event]:
    """The events as the contract lists them: newest first, ties by id ascending."""
    by_id = sorted(events, key=lambda event: event.id)
    return sorted(by_id, key=lambda event: event.timestamp, reverse=True)
