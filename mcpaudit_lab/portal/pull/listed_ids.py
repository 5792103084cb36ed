"""Comparison of the ids that a portal lists now with those that it listed before.

Counts reveal late arrivals unless an equal number of events in the same window was deleted. Ids
reveal all of them, at the cost of an export without payloads. Of more than 100,000 events only the
recent ones are compared by default, because late arrivals are recent and deletions are old.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mcpaudit_lab.portal.http import ListedLine
    from mcpaudit_lab.portal.pull.pull_log import PullLog, Window

__all__ = [
    "BEGINNING",
    "IdsFound",
    "before",
    "compare_ids",
    "recent_since",
    "window_to_compare",
]

# Go's zero time.
BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
# As many as one export of the reference server has.
_MOST: Final = 100_000
_BATCH: Final = 4000
# So many moments are read again one by one; of more, all that is between them.
_MOMENTS_MOST: Final = 50
# The window checked again exceeds the longest call by this margin.
_MARGIN: Final = timedelta(minutes=1)
# A row may claim that its call took years; only this much counts as recent.
_LONGEST_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class IdsFound:
    """The difference between a list and the events listed before.

    Attributes:
        listed: the ids that the portal lists now, in its order.
        late: windows, newest first, that have every event which was not listed before.
        gone: whether events that were listed before are not listed now.
    """

    listed: list[str]
    late: list[Window]
    gone: bool


def before(moment: datetime, span: timedelta) -> datetime:
    """So long before a moment, or the beginning of the calendar."""
    return moment - min(span, moment - BEGINNING)


def recent_since(log: PullLog, last: datetime) -> datetime:
    """The start of the recent part: earlier calls had ended by ``last``, if durations are right."""
    longest = timedelta(milliseconds=min(log.longest_ms(), _LONGEST_MS))
    return before(last, longest + _MARGIN)


def window_to_compare(
    log: PullLog, window: Window, *, every: bool | None
) -> tuple[Window | None, str]:
    """The window whose ids are compared, or None; and what the report calls that.

    Args:
        log: the events listed before.
        window: the window of the whole pull.
        every: whether to compare all ids; None: if that costs at most one export.
    """
    seen = log.seen(window)
    if every or seen.count <= _MOST:
        return window, "ids"
    if seen.last is not None:
        recent = (recent_since(log, seen.last), window[1])
        if log.seen(recent).count <= _MOST:
            return recent, "recent ids"
    return None, "counts"


def compare_ids(log: PullLog, window: Window, rows: Iterable[ListedLine]) -> IdsFound:
    """Compare a list with the log.

    Args:
        log: the events listed before.
        window: the window that the list is of.
        rows: the list.
    """
    before_count = log.seen(window).count
    listed: list[str] = []
    moments: set[datetime] = set()
    fresh_count = 0
    rest = iter(rows)
    while batch := list(islice(rest, _BATCH)):
        ids = [row.id for row in batch]
        fresh = log.unlisted(ids)
        listed += ids
        fresh_count += len(fresh)
        moments.update(row.timestamp for row in batch if row.id in fresh)
    late: list[Window] = [(moment, moment) for moment in sorted(moments, reverse=True)]
    if len(late) > _MOMENTS_MOST:
        late = [(min(moments), max(moments))]
    return IdsFound(listed, late, gone=len(listed) - fresh_count < before_count)
