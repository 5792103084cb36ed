"""All that a portal has into a lab, and nothing twice.

A portal lists by the start of the calls, but stores a call when it ends: a slow one turns up later,
among rows that were read already. Exports are cut at a cap without a word, and rows shift while
they are read. So a pull trusts counts: for a window of time the portal says how many events it has,
and the lab's log how many of them it has listed. Where the two are equal nothing is read; where
they differ the window is split until what is missing is small, and that is read again. A first
pull, one that goes on after an interrupt, and one that looks for late arrivals are all the same.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.client.details import fetch_details
from mcpaudit_lab.client.paging import PAGE_ROWS, walk_back
from mcpaudit_lab.client.pull_report import PullReport
from mcpaudit_lab.client.question import Question, put_question, with_values
from mcpaudit_lab.errors import FilterError, PortalError
from mcpaudit_lab.events import Event
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.lab.progress import progress_bar

if TYPE_CHECKING:
    from mcpaudit_lab.client.portal import PortalClient
    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.lab.pulls import PullLog, Window
    from mcpaudit_lab.lab.report import LoadReport

__all__ = ["Pull", "pull_events"]

# A batch is one transaction, and what an interrupt can cost.
_BATCH_EVENTS: Final = 1000
_BATCH_DETAILS: Final = 200
# So often a pull looks again for what came or moved while it read.
_ROUNDS: Final = 4
# What is looked at again is longer than the longest call by so much.
_MARGIN: Final = timedelta(minutes=1)
_MICROSECOND: Final = timedelta(microseconds=1)
# So many payloads and more come by an export rather than one by one.
_MANY: Final = 500


class Pull:
    """One pull.

    Args:
        portal: the portal.
        filters: which events, all of which must hold; without limit and offset.
        log: what the portal has listed for these filters before.
        add: adds events to the lab.
        reject: keeps a line that is no event.
        payloads: whether payloads are wanted.

    Raises:
        FilterError: a filter has a limit or an offset.
    """

    def __init__(
        self,
        portal: PortalClient,
        filters: tuple[EventFilter, ...],
        log: PullLog,
        *,
        add: Callable[[list[Event], str], LoadReport],
        reject: Callable[[bytes], object],
        payloads: bool,
    ) -> None:
        self._portal = portal
        self._question = put_question(filters, reference=portal.is_reference)
        self._log = log
        self._add = add
        self._reject = reject
        self._payloads = payloads
        self._whole = payloads or self._question.details is not None
        self._inline = self._whole and not portal.is_reference
        self._advance: Callable[[int], object] = lambda _: None
        words = [item.describe() for item in filters if item != EventFilter()]
        self._report = PullReport(portal.url, " and ".join(words) or "all events")
        self._window: Window = (self._question.sent.from_, self._question.sent.to)

    def begin(self) -> int:
        """Ask the portal what there is; gives about how many events it will list.

        Raises:
            PortalError: the portal cannot be asked.
        """
        page = self._portal.list_once(self._question, limit=1)
        first, last = self._window
        if page.events:
            # What starts later belongs to the next pull: it would shift this one.
            last = page.events[0].timestamp
        self._window = (first, last)
        self._cap = self._portal.export_cap()
        seen = self._log.seen(self._window)
        self._report = replace(
            self._report,
            expected=page.total,
            resumed=seen.count > 0 and not self._log.complete,
        )
        self._log.mark(complete=False)
        return max(0, page.total - seen.count)

    def run(self, advance: Callable[[int], object]) -> PullReport:
        """Read what is missing, a transaction for each batch, until the counts agree.

        When the portal goes away meanwhile, the report says so; what came is kept.

        Args:
            advance: called with how many events were listed.

        Raises:
            PortalError: the portal fails before it has listed any event.
        """
        self._advance = advance
        started = time.monotonic()
        stopped = ""
        left = _ROUNDS
        while left:
            listed = self._report.listed
            try:
                if self._settle():
                    break
            except PortalError as error:
                if self._report.listed == listed:
                    if not listed:
                        raise
                    stopped = str(error)
                    break
                # It listed something before it failed: it may go on.
                continue
            left -= 1
        seen = self._log.seen(self._window).count
        missing = max(0, self._report.expected - seen)
        if not stopped and not missing:
            self._log.mark(complete=True)
        return replace(
            self._report,
            missing=missing,
            stopped=stopped,
            seconds=time.monotonic() - started,
        )

    # Windows

    def _settle(self) -> bool:
        """Read every window whose counts differ; gives whether they all agree now."""
        for window in self._first_windows():
            self._settle_window(window)
        if self._payloads:
            self._complete_payloads()
        total = self._count(self._window)
        self._report = replace(self._report, expected=total)
        return total == self._log.seen(self._window).count

    def _first_windows(self) -> Iterator[Window]:
        """What is new, what is recent enough for late arrivals, and what is old: newest first.

        Asked for apart, so that old events which a portal deletes do not hide as many late ones.
        """
        first, last = self._window
        seen = self._log.seen(self._window)
        if seen.first is None or seen.last is None:
            yield self._window
            return
        overlap = timedelta(milliseconds=self._log.longest_ms()) + _MARGIN
        cuts = [seen.last, seen.last - overlap, seen.first - _MICROSECOND]
        for cut in cuts:
            inside = (first is None or cut >= first) and (last is None or cut < last)
            if inside:
                yield (cut + _MICROSECOND, last)
                last = cut
        yield (first, last)

    def _settle_window(self, window: Window) -> None:
        first, last = window
        if first is not None and last is not None and first > last:
            return
        total = self._count(window)
        seen = self._log.seen(window)
        if total == seen.count:
            return
        if not total:
            self._forget(window, ())
        elif not seen.count or total <= PAGE_ROWS or first == last:
            self._read(window, again=seen.count > 0)
        else:
            cut = self._log.cut(window)
            self._settle_window((cut + _MICROSECOND, last))
            self._settle_window((first, cut))

    def _count(self, window: Window) -> int:
        return self._portal.list_once(self._question.between(*window), limit=1).total

    # Reading

    def _read(self, window: Window, *, again: bool) -> None:
        """Read a window, batch by batch."""
        question = self._question.between(*window)
        size = _BATCH_DETAILS if self._whole and not self._inline else _BATCH_EVENTS
        listed: set[str] = set()
        rest = walk_back(self._fetch, question)
        while batch := list(islice(rest, size)):
            self._keep(batch)
            if again:
                listed.update(event.id for event in batch)
        if again:
            self._forget(window, listed)
        self._report = replace(self._report, windows=self._report.windows + 1)

    def _fetch(self, question: Question, skip: int) -> tuple[Iterable[Event], int]:
        if skip >= self._cap:
            page = self._portal.list_once(question, offset=skip)
            return page.events, PAGE_ROWS
        rows = self._portal.export_once(question, payloads=self._inline, bad=self._keep_bad)
        return rows, self._cap

    def _keep(self, batch: list[Event]) -> None:
        """Add a batch to the lab, and then to the log."""
        question = self._question
        had = self._log.stored([event.id for event in batch])
        wanted = [event for event in batch if question.wants(event)]
        asked: set[str] = {event.id for event in batch} if self._inline else set()
        if self._whole and not self._inline:
            known = self._log.asked([event.id for event in wanted])
            lacking = [e for e in wanted if not had.get(e.id) and e.id not in known]
            asked = {event.id for event in lacking}
            whole = {event.id: event for event in fetch_details(self._portal, lacking)}
            wanted = [whole.get(event.id, event) for event in wanted]
        if question.details is not None:
            wanted = [e for e in wanted if e.id in had or question.details.matches(e)]
        self._store(wanted, had)
        self._log.add(batch, asked=asked)
        report = self._report
        self._report = replace(
            report,
            listed=report.listed + len(batch),
            left_out=report.left_out + len(batch) - len(wanted),
        )
        self._advance(len(batch))

    def _store(self, events: list[Event], had: dict[str, bool]) -> None:
        if not self._payloads:
            events = [event.summary if "payload" in event.wire else event for event in events]
        if not events:
            return
        added = self._add(events, self._question.query())
        payloads = sum(1 for e in events if "payload" in e.wire and not had.get(e.id))
        report = self._report
        self._report = replace(
            report,
            new=report.new + added.loaded,
            payloads=report.payloads + payloads,
            duplicates=report.duplicates + added.duplicates + added.merged,
            conflicts=report.conflicts + added.rejected,
        )

    def _keep_bad(self, line: bytes) -> None:
        self._reject(line)
        self._report = replace(self._report, unreadable=self._report.unreadable + 1)

    def _complete_payloads(self) -> None:
        """Ask for the payloads that an earlier pull left out."""
        lacking = self._log.without_payload(self._window)
        if self._inline and len(lacking) >= _MANY:
            self._read((lacking[-1][1], lacking[0][1]), again=False)
            lacking = self._log.without_payload(self._window)
        summaries = (Event.build(id=event_id, timestamp=at) for event_id, at in lacking)
        while batch := list(islice(summaries, _BATCH_DETAILS)):
            found = list(fetch_details(self._portal, batch))
            self._merge([event for event in found if "payload" in event.wire])
            self._log.add(batch, asked=[event.id for event in batch])

    def _merge(self, events: list[Event]) -> None:
        if events:
            added = self._add(events, self._question.query())
            self._report = replace(self._report, payloads=self._report.payloads + added.merged)

    def _forget(self, window: Window, listed: Iterable[str]) -> None:
        gone = self._log.keep_only(window, listed)
        self._report = replace(self._report, gone=self._report.gone + gone)


def pull_events(
    portal: PortalClient,
    filters: tuple[EventFilter, ...],
    lab: Lab,
    open_log: Callable[[str], PullLog],
    *,
    payloads: bool,
    progress: bool | None,
) -> PullReport:
    """Pull into a lab: what :meth:`Lab.pull` does.

    Args:
        portal: the portal.
        filters: which events.
        lab: where they go.
        open_log: opens the log of a question.
        payloads: whether payloads are wanted.
        progress: whether a bar is shown.
    """
    text = _question_text(filters, reference=portal.is_reference)

    def add(events: list[Event], query: str) -> LoadReport:
        return lab.add_events(events, kind="portal", name=portal.url, request=query or None)

    def reject(line: bytes) -> None:
        lab.load(_BadLine(portal.url, line), progress=False)

    pull = Pull(portal, filters, open_log(text), add=add, reject=reject, payloads=payloads)
    total = pull.begin()
    with progress_bar(progress, total=total, unit="events", label="pull") as advance:
        return pull.run(advance)


class _BadLine(io.BytesIO):
    """A line that is no event, as an open file with a name, so that the lab keeps it."""

    def __init__(self, name: str, line: bytes) -> None:
        super().__init__(line + b"\n")
        self.name = name


def _question_text(filters: Iterable[EventFilter], *, reference: bool) -> str:
    """Filters as text that says which events are listed, whenever that was: for the log.

    Raises:
        FilterError: a filter has a limit or an offset.
    """
    found = tuple(filters)
    if any(item.limit is not None or item.offset for item in found):
        raise FilterError("a pull takes all that match: limit and offset have no place here")
    timeless = [with_values(item, from_=None, to=None) for item in found]
    asked = sorted({repr(item) for item in timeless if item != EventFilter()})
    sent = put_question(timeless, reference=reference).sent
    return f"{sent.to_query() or 'all'} | {' & '.join(asked)}"
