"""Two records of the same calls: what a client or gateway saw, and what the server wrote down.

Pairs are found by the request's id within its session, by the trace, and else by tool, arguments
and time. The clocks of the two sides may differ: their offset is the median difference of pairs
that need no clock. Equal calls that are too close in time to tell apart are paired in order if both
sides have as many of them, and are ambiguous if not. So one equal call that is lost on each side at
about the same time looks like one call that neither side lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mcpaudit_lab.comparison import SECTIONS, Verdict, compare
from mcpaudit_lab.errors import LabError
from mcpaudit_lab.record import Event, canonical_json, loads

if TYPE_CHECKING:
    import pandas as pd

    from mcpaudit_lab.lab.event_set import EventSet

__all__ = ["reconcile"]

_COLUMNS: Final = (
    *("verdict", "how", "left", "right", "tool_name", "left_ts", "right_ts", "difference_ms"),
    *("candidates", *SECTIONS),
)
_BATCH: Final = 1000
# How far apart two sides of one call may be once the clocks are set right, in microseconds.
_LEAST_US: Final = 5_000
_MOST_US: Final = 60_000_000
# With fewer pairs than this their spread says little.
_FEW: Final = 20
# Longest run of equal calls that is searched for a lost one.
_RUN_MAX: Final = 200
_FEW_US: Final = 5_000_000


@dataclass(frozen=True, slots=True)
class _Call:
    """What pairs one event."""

    id: str
    at_us: int
    tool: str
    request: str
    session: str
    trace: tuple[str, str]
    arguments: str


_Key: TypeAlias = Callable[[_Call], Hashable]


@dataclass(frozen=True, slots=True)
class _Pair:
    left: _Call
    right: _Call
    how: str

    @property
    def difference_us(self) -> int:
        return self.right.at_us - self.left.at_us


class _Matching:
    """The calls of both sides that are not paired yet, and the pairs.

    Attributes:
        offset_us: how far the right clock is ahead.
        tolerance_us: how far apart the sides of one call may be.
    """

    def __init__(self, left: Sequence[_Call], right: Sequence[_Call]) -> None:
        self.left = {call.id: call for call in left}
        self.right = {call.id: call for call in right}
        self.pairs: list[_Pair] = []
        self.ambiguous: dict[str, list[str]] = {}
        self.offset_us = 0
        self.tolerance_us = _FEW_US
        # Ids of sessions mean something only where both sides have them.
        self._sessions = {call.session for call in left} & {call.session for call in right} - {""}

    def pair(self, left: _Call, right: _Call, how: str) -> None:
        """Take two calls as the sides of one."""
        self.pairs.append(_Pair(left, right, how))
        del self.left[left.id], self.right[right.id]

    def groups(self, key: _Key) -> Iterator[tuple[list[_Call], list[_Call]]]:
        """Calls with an equal key that are on both sides, oldest first; None is no key."""
        found: dict[Hashable, tuple[list[_Call], list[_Call]]] = defaultdict(lambda: ([], []))
        for number, side in enumerate((self.left, self.right)):
            for call in sorted(side.values(), key=lambda call: (call.at_us, call.id)):
                if (value := key(call)) is not None:
                    found[value][number].append(call)
        yield from (both for both in found.values() if both[0] and both[1])

    def by_request(self) -> None:
        """Pair by the request's id within its session, and by the span of a trace."""

        def request(call: _Call) -> Hashable:
            known = call.request and call.session
            return (call.session, call.request, call.tool) if known else None

        def span(call: _Call) -> Hashable:
            return (*call.trace, call.tool) if all(call.trace) else None

        for key, how in ((request, "request id"), (span, "trace id")):
            for left, right in list(self.groups(key)):
                # A number that is used again, or a span with several calls, needs the time as well.
                if len(left) == len(right) == 1:
                    self.pair(left[0], right[0], how)

    def set_clock(self) -> None:
        """Estimate the offset from pairs, else from calls that each side has once."""
        differences = [pair.difference_us for pair in self.pairs]
        once = [
            right[0].at_us - left[0].at_us
            for left, right in self.groups(self.same_call)
            if len(left) == len(right) == 1
        ]
        if len(differences) < _FEW:
            differences += once
        if not differences:
            differences = [
                other.at_us - one.at_us
                for left, right in self.groups(self.same_call)
                if len(left) == len(right)
                for one, other in zip(left, right, strict=True)
            ]
        if not differences:
            return
        self.offset_us = round(median(differences))
        spread = sorted(abs(value - self.offset_us) for value in differences)
        # Calls that differ by far more than most were no pair: one of each was lost.
        usual = spread[len(spread) * 9 // 10]
        kept = [value for value in spread if value <= 20 * usual + _LEAST_US]
        wanted = 2 * kept[-1] if len(kept) >= _FEW else max(2 * kept[-1], _FEW_US)
        self.tolerance_us = min(max(wanted, _LEAST_US), _MOST_US)

    def same_call(self, call: _Call) -> Hashable:
        """The key of calls that only the time tells apart."""
        session = call.session if call.session in self._sessions else ""
        return (call.tool, call.arguments, session)

    def same_tool(self, call: _Call) -> Hashable:
        """The key of calls whose arguments may be redacted on one side."""
        return (call.tool, call.session if call.session in self._sessions else "")

    def by_time(self, key: _Key, how: str, *, in_order: bool, in_doubt: bool) -> None:
        """Pair calls with an equal key that are near each other in time.

        Args:
            key: what the sides of one call have in common.
            how: the rule's name.
            in_order: pair several of them in order, and leave out a lost one if it is clear which.
            in_doubt: call the others ambiguous.
        """
        for left, right in list(self.groups(key)):
            for some, others in self._near(left, right):
                alike = (some, others)
                if in_order and len(some) != len(others):
                    alike = self.without_the_lost(some, others) or alike
                if len(alike[0]) == len(alike[1]) and (in_order or len(some) == 1):
                    for one, other in zip(*alike, strict=True):
                        self.pair(one, other, how)
                elif in_doubt:
                    self._give_up(some, others)

    def _give_up(self, some: list[_Call], others: list[_Call]) -> None:
        for one in some:
            self.ambiguous[one.id] = [call.id for call in others]
            del self.left[one.id]
        for other in others:
            self.ambiguous[other.id] = [call.id for call in some]
            del self.right[other.id]

    def _near(
        self, left: list[_Call], right: list[_Call]
    ) -> Iterator[tuple[list[_Call], list[_Call]]]:
        """Runs of calls of both sides that cannot be told apart by time, oldest first."""
        times = [call.at_us - self.offset_us for call in right]
        some: list[_Call] = []
        first = last = 0
        for call in left:
            low = bisect_left(times, call.at_us - self.tolerance_us)
            high = bisect_left(times, call.at_us + self.tolerance_us + 1)
            if low == high:
                continue
            if low >= last:
                if some:
                    yield some, right[first:last]
                some, first = [], low
            some.append(call)
            last = max(last, high)
        if some:
            yield some, right[first:last]

    def without_the_lost(
        self, some: list[_Call], others: list[_Call]
    ) -> tuple[list[_Call], list[_Call]] | None:
        """Leave out the one call that the other side lacks, if the times leave no doubt which."""
        if abs(len(some) - len(others)) != 1 or max(len(some), len(others)) > _RUN_MAX:
            return None
        longer, shorter = (some, others) if len(some) > len(others) else (others, some)
        sign = 1 if longer is some else -1
        costs = [
            sum(
                abs(sign * (two.at_us - one.at_us) - self.offset_us)
                for one, two in zip(longer[:gone] + longer[gone + 1 :], shorter, strict=True)
            )
            for gone in range(len(longer))
        ]
        best, second = sorted(costs)[:2]
        # Any call may have been held up as long as the slowest pair was.
        if second - best < self.tolerance_us:
            return None
        gone = costs.index(best)
        kept = longer[:gone] + longer[gone + 1 :]
        return (kept, shorter) if longer is some else (shorter, kept)


def reconcile(left: EventSet, right: EventSet) -> pd.DataFrame:
    """Pair the events of two sets, as :meth:`Lab.reconcile` describes it."""
    sides = [_read(events) for events in (left, right)]
    both = {call.id for call in sides[0]} & {call.id for call in sides[1]}
    if both:
        raise LabError(
            f"{len(both):,} events are in both sets, such as {min(both)}: choose two records of"
            " the calls, such as by source"
        )
    matching = _Matching(*sides)
    matching.by_request()
    matching.set_clock()
    how = "arguments and time"
    matching.by_time(matching.same_call, how, in_order=True, in_doubt=False)
    # Some calls are held up, such as the first one: what is left may be further apart.
    usual, matching.tolerance_us = matching.tolerance_us, min(matching.tolerance_us * 10, _MOST_US)
    matching.by_time(matching.same_call, how, in_order=True, in_doubt=True)
    matching.tolerance_us = usual
    _pair_redacted(matching, left, right)
    calls = {call.id: call for side in sides for call in side}
    return _frame(matching, calls, left, right, {call.id for call in sides[0]})


def _read(events: EventSet) -> list[_Call]:
    rows, params = events.rows()
    found = events.cursor().execute(
        "select e.id::varchar, epoch_us(e.ts), e.tool_name, e.request_id, e.session_id,"
        " coalesce(e.trace_id, ''), coalesce(e.span_id, ''),"
        " coalesce(p.request_params::varchar, e.parameters::varchar)"
        f" from {rows} left join audit_payloads p on p.event_id = e.id",
        params,
    )
    return [
        _Call(event_id, at_us, tool, request, session, (trace, span), _canonical(arguments))
        for event_id, at_us, tool, request, session, trace, span, arguments in found.fetchall()
    ]


def _canonical(text: str | None) -> str:
    """Arguments as canonical JSON; none at all are the same as an empty object."""
    value = loads(text) if text else None
    return canonical_json({} if value is None else value)


def _pair_redacted(matching: _Matching, left: EventSet, right: EventSet) -> None:
    """Pair what only the time tells, where the arguments may be the same: some are unknown."""
    before = len(matching.pairs)
    matching.by_time(matching.same_tool, "time", in_order=False, in_doubt=False)
    found = matching.pairs[before:]
    del matching.pairs[before:]
    for pair, (one, other) in zip(found, _events(found, left, right), strict=True):
        if compare(one, other).sections["param"].verdict is Verdict.UNKNOWN:
            matching.pairs.append(pair)
        else:
            matching.left[pair.left.id] = pair.left
            matching.right[pair.right.id] = pair.right


def _events(
    pairs: Sequence[_Pair], left: EventSet, right: EventSet
) -> Iterator[tuple[Event, Event]]:
    """The events of pairs, read in batches."""
    for start in range(0, len(pairs), _BATCH):
        batch = pairs[start : start + _BATCH]
        ones = _by_id(left, [pair.left.id for pair in batch])
        others = _by_id(right, [pair.right.id for pair in batch])
        for pair in batch:
            yield ones[pair.left.id], others[pair.right.id]


def _by_id(events: EventSet, ids: Iterable[str]) -> dict[str, Event]:
    chosen = type(events)(events.lab, wanted=tuple(ids))
    return {event.id: event for event in chosen}


def _frame(
    matching: _Matching,
    calls: dict[str, _Call],
    left: EventSet,
    right: EventSet,
    is_left: set[str],
) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    pairs = matching.pairs
    for pair, (one, other) in zip(pairs, _events(pairs, left, right), strict=True):
        sections = compare(one, other).sections
        rows.append(
            {
                "verdict": "both",
                "how": pair.how,
                "tool_name": pair.left.tool,
                "left": pair.left.id,
                "right": pair.right.id,
                "left_ts": pair.left.at_us,
                "right_ts": pair.right.at_us,
                "difference_ms": (pair.difference_us - matching.offset_us) / 1000,
                **{name: str(section.verdict) for name, section in sections.items()},
            }
        )
    alone = [(event_id, "left only") for event_id in matching.left]
    alone += [(event_id, "right only") for event_id in matching.right]
    for event_id, verdict in (*alone, *((name, "ambiguous") for name in matching.ambiguous)):
        side, call = "left" if event_id in is_left else "right", calls[event_id]
        rows.append(
            {
                "verdict": verdict,
                "tool_name": call.tool,
                side: event_id,
                f"{side}_ts": call.at_us,
                "candidates": matching.ambiguous.get(event_id, []),
            }
        )
    # In the order of the left clock.
    offset = matching.offset_us
    rows.sort(key=lambda row: row.get("left_ts", row.get("right_ts", 0) - offset))
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    frame["candidates"] = [row.get("candidates", []) for row in rows]
    for name in ("left_ts", "right_ts"):
        frame[name] = pd.to_datetime(frame[name].astype("Int64"), unit="us", utc=True).astype(
            "datetime64[us, UTC]"
        )
    texts = [name for name in _COLUMNS if not name.endswith(("_ts", "_ms", "candidates"))]
    frame = frame.astype({**dict.fromkeys(texts, "str"), "difference_ms": "float64"})
    frame.attrs = {
        "clock_offset_ms": matching.offset_us / 1000,
        "tolerance_ms": matching.tolerance_us / 1000,
    }
    return frame
