"""Incremental pull: copies everything a portal has into a lab, without duplicates.

A portal lists events by the start of the call, but stores a call when it ends, so a slow call turns
up later among rows that were already read. Exports are cut at a cap without notice, and rows shift
during reading. A pull therefore compares counts: for a window of time, the portal's number of
events with the number that the lab's log has listed. If they are equal, nothing is read. If they
differ, the window is split until little is missing, and that is read again. First pulls, resumed
pulls and pulls for late arrivals all work this way.

Counts stay equal where a portal deletes as many events as arrive late in one window, so a later
pull also compares ids (:mod:`.pull.listed_ids`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.errors import PortalError
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.portal.http import (
    PAGE_ROWS,
    EventRequest,
    ListedLine,
    PortalReader,
    ask_ahead,
    make_request,
    read_line,
    walk_back,
)
from mcpaudit_lab.portal.pull.batches import (
    PulledRow,
    may_be,
    next_batch,
    until_failure,
    without_payload,
)
from mcpaudit_lab.portal.pull.listed_ids import (
    BEGINNING,
    before,
    compare_ids,
    recent_since,
    window_to_compare,
)
from mcpaudit_lab.portal.pull.listed_rows import ListedRows
from mcpaudit_lab.portal.pull.pull_log import PullLog
from mcpaudit_lab.portal.pull.report import PullReport

if TYPE_CHECKING:
    from mcpaudit_lab.portal.pull.pull_log import Window
    from mcpaudit_lab.storage.load import LoadReport

__all__ = ["Pull"]

# A batch is one transaction, and what an interrupt can cost.
_BATCH_EVENTS: Final = 4000
_BATCH_DETAILS: Final = 200
# Maximum rounds of looking again for events that arrived or moved during reading.
_ROUNDS: Final = 4
_MICROSECOND: Final = timedelta(microseconds=1)
# So many payloads and more come by an export rather than one by one.
_MANY: Final = 500


class Pull:
    """One pull.

    Args:
        portal: the portal.
        filters: which events; all filters must hold; without limit and offset.
        log: what the portal has listed for these filters before.
        add: adds lines to the lab, with ``request=`` what the portal was asked.
        listed_again: makes what compares rows that are listed again with the lab's.
        payloads: whether payloads are wanted.
        check_ids: whether to compare ids with those of earlier pulls; None: if it is cheap.

    Raises:
        FilterError: a filter has a limit or an offset.
    """

    def __init__(
        self,
        portal: PortalReader,
        filters: tuple[EventFilter, ...],
        log: PullLog,
        *,
        add: Callable[..., LoadReport],
        listed_again: Callable[[], ListedRows],
        payloads: bool,
        check_ids: bool | None,
    ) -> None:
        self._portal = portal
        self._check_ids = check_ids
        self._request = make_request(filters, reference=portal.is_reference)
        self._log = log
        self._add = add
        self._listed_again = listed_again
        # Ids of events that the portal lists with another summary than the lab has.
        self.changed: list[str] = []
        self._bad: set[bytes] = set()
        self._payloads = payloads
        self._whole = payloads or self._request.details is not None
        self._inline = self._whole and not portal.is_reference
        self._by_one = self._whole and portal.is_reference
        self._most = _BATCH_DETAILS if self._by_one else _BATCH_EVENTS
        self._advance: Callable[[int], object] = lambda _: None
        words = [item.describe() for item in filters if item != EventFilter()]
        self._report = PullReport(portal.url, " and ".join(words) or "all events")
        self._window: Window = (self._request.sent.from_, self._request.sent.to)

    def begin(self) -> int:
        """Ask the portal for counts; returns the approximate number of events to list.

        Raises:
            PortalError: the portal cannot be asked.
        """
        page = self._portal.list_once(self._request, limit=1)
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
        if not seen.count:
            # Nothing was listed before, so there is nothing to compare.
            self._check_ids = False
        return max(0, page.total - seen.count)

    def run(self, advance: Callable[[int], object]) -> PullReport:
        """Read missing events, one transaction per batch, until the counts agree.

        If the portal goes away, the report says so, and the received events are kept.

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
            before = self._known()
            try:
                if self._settle():
                    break
            except PortalError as error:
                if self._known() > before:
                    # It listed something new before it failed: it may go on.
                    continue
                if not self._report.listed:
                    raise
                stopped = str(error)
                missing = max(0, self._report.expected - self._known())
                self._report = replace(self._report, missing=missing)
                break
            left -= 1
        if not stopped and not self._report.missing:
            self._log.mark(complete=True)
        return replace(self._report, stopped=stopped, seconds=time.monotonic() - started)

    # Windows

    def _settle(self) -> bool:
        """Read every window whose counts differ; returns whether they all agree now."""
        for window in self._first_windows():
            self._settle_window(window)
        if self._check_ids is not False:
            self._compare_ids()
            self._check_ids = False
        if self._payloads:
            self._complete_payloads()
        counts = [(self._count(item), self._log.seen(item).count) for item in self._first_windows()]
        # Lines that are no events have no time, and so no window.
        missing = max(0, sum(max(0, there - here) for there, here in counts) - len(self._bad))
        expected = sum(there for there, _ in counts)
        self._report = replace(self._report, expected=expected, missing=missing)
        return not missing and all(there >= here for there, here in counts)

    def _known(self) -> int:
        """Number of rows listed in the whole window, including rows that are not events."""
        return self._log.seen(self._window).count + len(self._bad)

    def _first_windows(self) -> Iterator[Window]:
        """Three windows, newest first: new events, recent enough for late arrivals, and old ones.

        Counted apart, so that old events which a portal deletes do not hide as many late ones.
        """
        first, last = self._window
        seen = self._log.seen(self._window)
        if seen.first is None or seen.last is None:
            yield self._window
            return
        cuts = [
            seen.last,
            recent_since(self._log, seen.last),
            before(seen.first, _MICROSECOND),
        ]
        for cut in cuts:
            inside = (first is None or cut >= first) and (last is None or cut < last)
            if inside:
                yield (cut + _MICROSECOND, last)
                last = cut
        yield (first, last)

    def _compare_ids(self) -> None:
        """Find late arrivals and deletions, even if the counts are equal."""
        window, compared = window_to_compare(self._log, self._window, every=self._check_ids)
        if window is not None:
            fetch = partial(self._fetch, payloads=False)
            rows = walk_back(fetch, self._request.between(*window))
            with self._listed_again() as again:
                found = compare_ids(self._log, window, again.passing(rows))
                self.changed = again.changed()
            self._report = replace(self._report, changed=len(self.changed))
            if found.gone:
                self._forget(window, found.listed)
            for span in found.late:
                self._read(span, again=False)
        self._report = replace(self._report, compared=compared)

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
        elif not seen.count or total <= PAGE_ROWS or (first or BEGINNING) == last:
            self._read(window, again=seen.count > 0)
        else:
            cut = self._log.cut(window)
            self._settle_window((cut + _MICROSECOND, last))
            self._settle_window((first, cut))

    def _count(self, window: Window) -> int:
        page = self._portal.list_once(self._request.between(*window), limit=1)
        if page.unreadable != self._report.unreadable_there:
            self._report = replace(self._report, unreadable_there=page.unreadable)
        return page.total

    # Reading

    def _read(self, window: Window, *, again: bool) -> None:
        """Read a window, batch by batch."""
        listed: set[str] = set()
        failures: list[PortalError] = []
        fetch = partial(self._fetch, payloads=self._inline)
        rows = walk_back(fetch, self._request.between(*window))
        rest = self._look_up(until_failure(rows, failures))
        if self._by_one:
            rest = until_failure(self._with_details(rest), failures)
        while batch := next_batch(rest, self._most, lambda item: len(item[0].line)):
            self._keep(batch)
            if again:
                listed.update(row.id for row, _, _ in batch)
        if failures:
            raise failures[0]
        if again:
            self._forget(window, listed)
        self._report = replace(self._report, windows=self._report.windows + 1)

    def _look_up(self, rows: Iterator[ListedLine]) -> Iterator[PulledRow]:
        """Each row with what the lab has of it, and whether its payload must be asked for."""
        wants = self._request.wants
        while batch := next_batch(rows, self._most, lambda row: len(row.line)):
            ids = [row.id for row in batch]
            had = self._log.stored(ids)
            asked = self._log.asked(ids) if self._by_one else set()
            for row in batch:
                known = had.get(row.id)
                lacking = self._by_one and not known and row.id not in asked
                yield row, known, lacking and (not self._request.checks or may_be(wants, row))

    def _with_details(self, rows: Iterator[PulledRow]) -> Iterator[PulledRow]:
        """The rows, with fetched payloads where needed; the next ones are fetched in parallel."""

        def ask(item: PulledRow) -> ListedLine | None:
            row, _, lacking = item
            return read_line(self._portal.event_line(row.id)) if lacking else None

        for (row, known, lacking), found in ask_ahead(ask, rows, ahead=2 * _BATCH_DETAILS):
            yield found or row, known, lacking

    def _fetch(
        self, request: EventRequest, skip: int, *, payloads: bool
    ) -> tuple[Iterable[ListedLine], int]:
        if skip >= self._cap:
            # More rows at one moment than an export has: only pages can leave some out.
            events = self._portal.list_once(request, offset=skip).events
            lines: Iterable[bytes] = (event.to_json().encode() for event in events)
            return self._listed(lines), PAGE_ROWS
        return self._listed(self._portal.export_lines(request, payloads=payloads)), self._cap

    def _listed(self, lines: Iterable[bytes]) -> Iterator[ListedLine]:
        for line in lines:
            if (row := read_line(line)) is not None:
                yield row
            elif line not in self._bad:
                self._bad.add(line)
                # Separately, so that the same line in a later pull is a duplicate for the lab.
                self._load([line])

    def _keep(self, batch: list[PulledRow]) -> None:
        """Add a batch to the lab, and then to the log."""
        request = self._request
        rows = [(row, known) for row, known, _ in batch]
        if request.checks:
            rows = [item for item in rows if may_be(request.wants, item[0])]
        if (details := request.details) is not None:
            rows = [
                item for item in rows if item[1] is not None or may_be(details.matches, item[0])
            ]
        if not self._payloads:
            rows = [(without_payload(row), known) for row, known in rows]
        self._store(rows)
        asked = [row.id for row, _, lacking in batch if lacking or self._inline]
        self._log.add([(row.id, row.timestamp) for row, _, _ in batch], asked=asked)
        report = self._report
        self._report = replace(
            report,
            listed=report.listed + len(batch),
            left_out=report.left_out + len(batch) - len(rows),
        )
        self._advance(len(batch))

    def _store(self, rows: list[tuple[ListedLine, bool | None]]) -> None:
        payloads = sum(row.whole and not known for row, known in rows)
        self._load([row.line for row, _ in rows])
        self._report = replace(self._report, payloads=self._report.payloads + payloads)

    def _load(self, lines: list[bytes]) -> None:
        if not lines:
            return
        added = self._add(b"\n".join([*lines, b""]), request=self._request.query() or None)
        conflicts = added.reasons.get("conflict", 0)
        report = self._report
        self._report = replace(
            report,
            new=report.new + added.loaded,
            duplicates=report.duplicates + added.duplicates + added.merged,
            conflicts=report.conflicts + conflicts,
            unreadable=report.unreadable + added.rejected - conflicts,
        )

    def _complete_payloads(self) -> None:
        """Ask for the payloads that an earlier pull left out."""
        lacking = self._log.without_payload(self._window)
        if self._inline and len(lacking) >= _MANY:
            self._read((lacking[-1][1], lacking[0][1]), again=False)
            lacking = self._log.without_payload(self._window)
        answers = ask_ahead(self._portal.event_line, [event_id for event_id, _ in lacking])
        rest = iter(lacking)
        while batch := list(islice(rest, _BATCH_DETAILS)):
            lines = [line for _, line in islice(answers, len(batch)) if line is not None]
            found = [row for line in lines if (row := read_line(line)) is not None and row.whole]
            self._store([(row, False) for row in found])
            self._log.add(batch, asked=[event_id for event_id, _ in batch])

    def _forget(self, window: Window, listed: Iterable[str]) -> None:
        gone = self._log.keep_only(window, listed)
        self._report = replace(self._report, gone=self._report.gone + gone)
