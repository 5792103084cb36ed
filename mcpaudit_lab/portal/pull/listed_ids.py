"""Which events a portal lists now, against those that it has listed before.

Counts tell of late arrivals unless as many events of the same window were deleted. Ids tell of all
of them, at the price of an export without payloads. So of more than 100,000 events only the recent
ones are compared unless the caller wants all: what arrives late is recent, what is deleted is old.
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

# The time that Go writes where there is none.
BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
# As many as one export of the reference server has.
_MOST: Final = 100_000
_BATCH: Final = 4000
# So many moments are read again one by one; of more, all that is between them.
_MOMENTS_MOST: Final = 50
# What is looked at again is longer than the longest call by so much.
_MARGIN: Final = timedelta(minutes=1)
# A row may say that its call took years; what is so long ago is not recent.
_LONGEST_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class IdsFound:
    """How a list differs from what was listed before.

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
    """A moment: calls that began before it had ended, as far as is known, by ``last``."""
    longest = timedelta(milliseconds=min(log.longest_ms(), _LONGEST_MS))
    return before(last, longest + _MARGIN)


def window_to_compare(
    log: PullLog, window: Window, *, every: bool | None
) -> tuple[Window | None, str]:
    """The window whose ids are compared, or None; and what the report calls that.

    Args:
        log: what was listed before.
        window: the window of the whole pull.
        every: whether all ids are compared; None: where it costs one export at most.
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
        log: what was listed before.
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
