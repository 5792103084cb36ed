"""Looking for what a stream did not bring: in order, in bounded steps, as far back as needed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from portals import START, an_event
from scripted_portal import ScriptedPortal

from mcpaudit_lab import Event, PortalClient
from mcpaudit_lab.portal.stream.backfill import Backfill
from mcpaudit_lab.portal.stream.dedupe import Dedupe, end_us, key_of
from mcpaudit_lab.record import parse_time


class Clock:
    """A portal's clock that is set by hand."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now_us(self) -> int:
        return int(self.moment.timestamp() * 1_000_000)


def filling_of(portal: ScriptedPortal, clock: Clock) -> Backfill:
    client = PortalClient("http://portal.test", "k", transport=portal)
    return Backfill(client, (), lag_s=30, now_us=clock.now_us)


def row(second: float, **members: Any) -> Event:
    return an_event(timestamp=START + timedelta(seconds=second), payload=None, **members)


def test_an_outage_of_days_is_listed_in_slices_in_the_order_of_the_ends() -> None:
    portal, clock = ScriptedPortal(), Clock(START)
    filling = filling_of(portal, clock)
    filling.begin()
    calls = [row(hour * 3600, duration_ms=5000 if hour % 2 else 1) for hour in range(1, 72)]
    busy = [row(90_100 + n / 100) for n in range(1200)]
    portal.rows = [*calls, *busy]
    clock.moment = START + timedelta(hours=72)
    asked = len(portal.lists)
    found = list(filling.fill())
    assert [event.id for event in found] == [
        event.id for event in sorted([*calls, *busy], key=end_us)
    ]
    assert len(portal.lists) - asked < 60, "quiet hours are listed by the day"
    assert list(filling.fill()) == []


def test_slices_shrink_where_there_is_much() -> None:
    portal, clock = ScriptedPortal(), Clock(START)
    filling = filling_of(portal, clock)
    filling.begin()
    asked = len(portal.lists)
    # The first slice begins a minute before.
    portal.rows = [row(n / 25) for n in range(6000)]
    clock.moment = START + timedelta(seconds=900)
    assert len(list(filling.fill())) == 6000
    windows = [
        parse_time(request.url.params["to"]) - parse_time(request.url.params["from"])
        for request in portal.lists[asked:]
        if "to" in request.url.params and request.url.params.get("offset", "0") == "0"
    ]
    assert windows[0] > timedelta(seconds=299)
    assert any(timedelta(seconds=149) < window < timedelta(seconds=151) for window in windows)


def test_what_had_ended_long_before_the_last_look_is_not_handed_out_again() -> None:
    portal, clock = ScriptedPortal(), Clock(START)
    filling = filling_of(portal, clock)
    filling.begin()
    portal.rows = [row(1), row(2, duration_ms=1000)]
    clock.moment = START + timedelta(seconds=120)
    assert len(list(filling.fill())) == 2
    clock.moment = START + timedelta(seconds=240)
    assert list(filling.fill()) == []
    assert len(filling.seen) == 0, "they are forgotten, and not found again"
    # A long call widens the look back over what was forgotten.
    filling.note_duration(row(0, duration_ms=200_000))
    assert list(filling.fill()) == []


def test_a_duration_of_years_widens_the_look_back_to_an_hour_at_most() -> None:
    portal, clock = ScriptedPortal(), Clock(START)
    filling = filling_of(portal, clock)
    filling.begin()
    filling.note_duration(row(0, duration_ms=10**15))
    asked = len(portal.lists)
    list(filling.fill())
    assert portal.lists[asked].url.params["from"] == "2026-11-24T01:59:30Z"


def test_of_rows_that_nothing_tells_apart_each_frame_takes_one() -> None:
    portal, clock = ScriptedPortal(), Clock(START)
    filling = filling_of(portal, clock)
    filling.begin()
    twins = [row(1, request_id="1"), row(1, request_id="1")]
    frame = row(1, request_id="1", id="")
    portal.rows = twins
    first, again, missing = filling.identify([frame])
    assert (len(first), again, missing) == (1, 0, [])
    second, again, missing = filling.identify([frame, frame])
    assert (len(second), again, missing) == (1, 1, [])
    assert {event.id for event in [*first, *second]} == {event.id for event in twins}
    assert filling.identify([frame, frame, frame])[1:] == (2, [frame])


def test_a_frame_in_nanoseconds_has_the_key_of_its_row() -> None:
    frame = Event({**row(0, id="").wire, "timestamp": "2026-11-24T03:00:00.123456789Z"})
    stored = Event({**row(0).wire, "timestamp": "2026-11-23T22:00:00.123456-05:00"})
    assert key_of(frame) == key_of(stored)
    for name, value in [("request_id", "x"), ("duration_ms", 1), ("success", False)]:
        assert key_of(Event({**frame.wire, name: value})) != key_of(stored)


def test_the_oldest_are_forgotten_when_there_are_too_many() -> None:
    seen = Dedupe(most=10)
    events = [row(n) for n in range(25)]
    for event in events:
        seen.add(event)
    seen.forget_before(0)
    assert [event in events[15:] for event in events if seen.has(event)] == [True] * 10


def test_an_event_without_an_id_is_known_by_its_key_once() -> None:
    seen = Dedupe()
    seen.add(row(0, id="", request_id="1"))
    twin = row(0, request_id="1")
    assert seen.has(twin)
    assert seen.has(twin), "by its id, from now on"
    assert not seen.has(row(0, request_id="1"))
    seen.add(row(0, id="", request_id="2"))
    seen.forget_before(end_us(row(100)))
    assert len(seen) == 0
