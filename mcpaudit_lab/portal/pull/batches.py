"""The rows of a pull in batches, and the rows received before a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final, TypeAlias, TypeVar

from mcpaudit_lab.errors import PortalError, RecordError
from mcpaudit_lab.portal.http import ListedLine
from mcpaudit_lab.record import Event

__all__ = ["PulledRow", "may_be", "next_batch", "until_failure", "without_payload"]

_T = TypeVar("_T")

_BATCH_BYTES: Final = 16 << 20

# A row; whether the lab has it with its payload (None: the lab does not have it); and whether the
# payload must be fetched.
PulledRow: TypeAlias = tuple[ListedLine, bool | None, bool]


def until_failure(items: Iterable[_T], failures: list[PortalError]) -> Iterator[_T]:
    """The items until the portal fails, so that the received ones can be stored first."""
    try:
        yield from items
    except PortalError as error:
        failures.append(error)


def without_payload(row: ListedLine) -> ListedLine:
    """A row as it is without the payload that was needed to look at it."""
    if not row.whole:
        return row
    summary = Event.from_json(row.line).summary
    return replace(row, whole=False, line=summary.to_json().encode())


def next_batch(items: Iterator[_T], most: int, size_of: Callable[[_T], int]) -> list[_T]:
    """The next items for one transaction, limited in number and size."""
    batch: list[_T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += size_of(item)
        if len(batch) == most or size > _BATCH_BYTES:
            break
    return batch


def may_be(wanted: Callable[[Event], bool], row: ListedLine) -> bool:
    """Whether a row is wanted. Lines that are not events are: the lab keeps them in ``rejects``."""
    try:
        event = Event.from_json(row.line)
    except RecordError:
        return True
    return wanted(event)
