"""Pulling a portal into a lab: the reference server from its recordings, and ours for real."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from portals import an_event
from reference_portal import KEY, ReferencePortal, recorded_events

from mcpaudit_lab import (
    BadAnswer,
    Event,
    FilterError,
    Lab,
    PortalClient,
    PortalUnavailable,
    PullReport,
)
from mcpaudit_lab.storage.rows import same_event

UPSTREAM = Path(__file__).parent / "data" / "upstream"
URL = "http://portal.example:8080"
RECORDED = recorded_events(UPSTREAM / "details.jsonl")


def client_of(portal: ReferencePortal) -> PortalClient:
    return PortalClient(URL, KEY, transport=portal.transport, backoff_s=0)


def ids_of(lab: Lab) -> set[str]:
    return {event.id for event in lab.events()}


def numbered(count: int, **members: Any) -> list[Event]:
    return [an_event(number, **members) for number in range(count)]


def test_a_pull_from_the_reference_has_every_event_with_its_payload() -> None:
    server = ReferencePortal(list(RECORDED))
    with Lab() as lab, client_of(server) as portal:
        report = lab.pull(portal)
        assert report.complete
        assert (report.new, report.expected, report.missing) == (len(RECORDED),) * 2 + (0,)
        assert report.payloads == sum("payload" in event.wire for event in RECORDED)
        kept = {event.id: event for event in lab.events()}
        for event in RECORDED:
            assert same_event(kept[event.id], event)
            assert (kept[event.id].payload is None) == (event.payload is None)
        sources = lab.sources()
        assert set(sources["kind"]) == {"portal"}
        assert set(sources["name"]) == {URL}


@pytest.mark.parametrize(("check_ids", "exports"), [(False, 0), (None, 1), (True, 1)])
def test_a_second_pull_asks_for_counts_and_ids_and_nothing_else(
    check_ids: bool | None, exports: int
) -> None:
    server = ReferencePortal([*numbered(30), an_event(40, payload=None)])
    with Lab() as lab, client_of(server) as portal:
        assert lab.pull(portal).compared == "counts"
        server.asked.clear()
        report = lab.pull(portal, check_ids=check_ids)
        assert report.complete
        assert (report.new, report.payloads, report.listed, report.windows) == (0, 0, 0, 0)
        assert report.changed == 0
        assert (server.asked["detail"], server.asked["export"]) == (0, exports)
        assert report.compared == ("ids" if exports else "counts")


def moments_between(number: float, count: int) -> list[Event]:
    return [an_event(number + n / 10) for n in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 3, 70])
@pytest.mark.parametrize("place", [5, 150])
@pytest.mark.parametrize("payloads", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_as_many_deletions_as_late_arrivals_in_one_window_hide_nothing(
    count: int, place: int, payloads: bool
) -> None:
    events = numbered(300)
    server = ReferencePortal(list(events))
    with Lab() as lab, client_of(server) as portal:
        lab.pull(portal, payloads=payloads)
        late = moments_between(place, count)
        server.delete(*(event.id for event in events[place : place + count]))
        server.store(*late)
        server.asked.clear()
        report = lab.pull(portal, payloads=payloads)
        assert (report.new, report.gone, report.missing, report.complete) == (count, count, 0, True)
        assert {event.id for event in late} <= ids_of(lab)
        assert lab.events().count() == 300 + count
        assert server.asked["detail"] == count * payloads
        assert lab.pull(portal, payloads=payloads).listed == 0


def test_counts_alone_are_compared_where_that_is_asked_for() -> None:
    events = numbered(300)
    server = ReferencePortal(list(events))
    with Lab() as lab, client_of(server) as portal:
        lab.pull(portal, payloads=False)
        server.delete(events[5].id)
        server.store(an_event(5.5))
        report = lab.pull(portal, payloads=False, check_ids=False)
        assert (report.new, report.gone, report.compared) == (0, 0, "counts")


def test_of_very_many_events_only_the_recent_are_compared_by_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcpaudit_lab.portal.pull.listed_ids._MOST", 100)
    events = numbered(300)
    server = ReferencePortal(list(events))
    with Lab() as lab, client_of(server) as portal:
        lab.pull(portal, payloads=False)
        old, recent = an_event(5.5), an_event(280.5)
        server.delete(events[5].id, events[280].id)
        server.store(old, recent)
        report = lab.pull(portal, payloads=False)
        assert (report.new, report.gone, report.compared) == (1, 1, "recent ids")
        assert recent.id in ids_of(lab)
        report = lab.pull(portal, payloads=False, check_ids=True)
        assert (report.new, report.gone, report.compared) == (1, 1, "ids")
        assert old.id in ids_of(lab)


def test_ids_are_compared_over_exports_that_are_cut_off() -> None:
    events = numbered(100)
    server = ReferencePortal(list(events), max_rows=7)
    with Lab() as lab, client_of(server) as portal:
        lab.pull(portal, payloads=False)
        server.delete(events[3].id)
        server.store(an_event(3, id=(late := an_event(3)).id))
        report = lab.pull(portal, payloads=False)
        assert (report.new, report.gone, report.complete) == (1, 1, True)
        assert late.id in ids_of(lab)


def test_only_what_is_new_is_fetched_again() -> None:
    server = ReferencePortal(numbered(30))
    with Lab() as lab, client_of(server) as portal:
        lab.pull(portal)
        server.store(an_event(31), an_event(32))
        server.asked.clear()
        report = lab.pull(portal)
        assert (report.new, report.payloads, report.listed) == (2, 2, 2)
        assert server.asked["detail"] == 2
        assert lab.events().count() == 32


def test_more_rows_than_the_silent_cap_are_all_fetched() -> None:
    same_time = [an_event(50) for _ in range(12)]
    server = ReferencePortal(numbered(100) + same_time, max_rows=7)
    with Lab() as lab, client_of(server) as portal:
        report = lab.pull(portal, payloads=False)
        assert report.complete
        assert (report.new, report.duplicates, report.expected) == (112, 0, 112)
        assert server.asked["export"] >= 10
        assert lab.events().count() == 112


def test_rows_that_arrive_between_pages_are_neither_lost_nor_doubled() -> None:
    server = ReferencePortal(numbered(60), max_rows=10)
    arrivals = iter(range(10_000))

    def arrive(request: Any) -> None:
        if request.url.path.endswith("/export") and (number := next(arrivals)) < 20:
            server.store(an_event(1000 + number))  # in front
            server.store(an_event(30, duration_ms=4000))  # a slow call, stored late

    server.before = arrive
    with Lab() as lab, client_of(server) as portal:
        lab.pull(portal, payloads=False)
        report = lab.pull(portal, payloads=False)
        report = lab.pull(portal, payloads=False)
        assert report.complete
        assert ids_of(lab) == {event.id for event in server.events}


def test_late_arrivals_are_found_wherever_they_are() -> None:
    server = ReferencePortal(numbered(2600))
    with Lab() as lab, client_of(server) as portal:
        lab.pull(portal, payloads=False)
        late = [an_event(1300.5), an_event(10.5), an_event(2599.5)]
        server.store(*late)
        server.asked.clear()
        report = lab.pull(portal, payloads=False)
        assert report.new == 3
        assert report.complete
        assert report.listed < 2000
        assert {event.id for event in late} <= ids_of(lab)


def test_an_interrupt_keeps_what_came_and_the_next_pull_goes_on() -> None:
    server = ReferencePortal(numbered(1500))
    with Lab() as lab, client_of(server) as portal:

        def interrupt(_: Any) -> None:
            if server.asked["detail"] > 700:
                raise KeyboardInterrupt

        server.before = interrupt
        with pytest.raises(KeyboardInterrupt):
            lab.pull(portal)
        kept = lab.events().count()
        assert 400 <= kept < 1500
        assert lab.sql("select count(*) from audit_payloads").fetchall() == [(kept,)]

        server.before = lambda _: None
        server.asked.clear()
        report = lab.pull(portal)
        assert report.resumed
        assert report.complete
        assert report.new == 1500 - kept
        assert server.asked["detail"] <= 1500 - kept
        assert not lab.pull(portal).resumed


def test_a_portal_that_goes_away_leaves_a_report_of_what_is_missing() -> None:
    server = ReferencePortal(numbered(900))
    with Lab() as lab, client_of(server) as portal:

        def vanish(_: Any) -> None:
            server.down = server.down or server.asked["detail"] > 500

        server.before = vanish
        report = lab.pull(portal)
        assert not report.complete
        assert "no portal answers" in report.stopped
        assert report.new == lab.events().count()
        assert report.missing == 900 - report.new > 0
        with pytest.raises(PortalUnavailable):
            lab.pull(portal)
        server.before, server.down = (lambda _: None), False
        assert lab.pull(portal).complete
        assert lab.events().count() == 900


def test_an_export_that_breaks_again_and_again_comes_to_its_end() -> None:
    server = ReferencePortal(numbered(300), breaks_after=70)
    with Lab() as lab, client_of(server) as portal:
        report = lab.pull(portal, payloads=False)
        assert report.complete
        assert (report.new, report.duplicates, lab.events().count()) == (300, 0, 300)
        server.breaks_after = 0
        server.store(an_event(301), an_event(0.5))
        with pytest.raises(BadAnswer, match="cut off"):
            lab.pull(portal, payloads=False)


def test_payloads_left_out_at_first_are_fetched_later() -> None:
    server = ReferencePortal([*numbered(20), an_event(30, payload=None)])
    with Lab() as lab, client_of(server) as portal:
        report = lab.pull(portal, payloads=False)
        assert (report.new, report.payloads) == (21, 0)
        report = lab.pull(portal)
        assert (report.new, report.payloads, report.complete) == (0, 20, True)
        server.asked.clear()
        lab.pull(portal)
        assert server.asked["detail"] == 0


def test_payloads_that_the_lab_has_are_not_fetched() -> None:
    events = numbered(20)
    server = ReferencePortal(list(events))
    with Lab() as lab, client_of(server) as portal:
        lab.add_events(events[:15], kind="tail", name=URL)
        report = lab.pull(portal)
        assert (report.new, report.duplicates, report.payloads) == (5, 15, 5)
        assert server.asked["detail"] == 5


def test_filters_that_the_reference_drops_are_finished_by_the_client() -> None:
    server = ReferencePortal(list(RECORDED))
    chosen: dict[str, Any] = {"tool": ["echo", "slow"], "source": "mcp", "min_duration_ms": 1}
    wanted = Lab()
    wanted.add_events(RECORDED, kind="tail", name="all")
    expected = {event.id for event in wanted.events(**chosen)}
    assert expected
    with Lab() as lab, client_of(server) as portal:
        report = lab.pull(portal, **chosen)
        assert ids_of(lab) == expected
        assert report.complete
        assert report.left_out == report.listed - len(expected) > 0
        server.asked.clear()
        assert lab.pull(portal, **chosen).listed == 0
        for request in server.requests:
            assert not {"source", "tool", "min_duration_ms"} & set(request.url.params)
    wanted.close()


def test_a_path_that_no_query_string_can_say_is_checked_on_payloads() -> None:
    server = ReferencePortal(list(RECORDED))
    tests = {("extras", "a.b"): "dotted key"}
    expected = {event.id for event in RECORDED if _has_dotted(event)}
    assert expected
    with Lab() as lab, client_of(server) as portal:
        lab.pull(portal, params=tests)
        assert ids_of(lab) == expected
        assert {event.id for event in portal.events(params=tests)} == expected
        server.asked.clear()
        assert lab.pull(portal, params=tests).listed == 0
        assert server.asked["detail"] == 0


def _has_dotted(event: Event) -> bool:
    params: Any = event.payload.request_params if event.payload else None
    extras = params.get("extras") if isinstance(params, dict) else None
    return isinstance(extras, dict) and extras.get("a.b") == "dotted key"


def test_what_the_portal_deleted_stays_in_the_lab() -> None:
    events = numbered(40)
    server = ReferencePortal(list(events))
    with Lab() as lab, client_of(server) as portal:
        lab.pull(portal)
        server.delete(*(event.id for event in events[:10]))
        server.store(an_event(41))
        report = lab.pull(portal)
        assert (report.gone, report.new, report.missing, report.complete) == (10, 1, 0, True)
        assert lab.events().count() == 41
        assert lab.pull(portal).gone == 0


def test_what_the_portal_deletes_meanwhile_hides_no_late_arrival() -> None:
    events = numbered(300)
    server = ReferencePortal(list(events))
    late = an_event(295, duration_ms=2000)

    def change(_: Any) -> None:
        if server.asked["detail"] == 298 and late not in server.events:
            server.delete(events[10].id)  # listed by then
            server.store(late)

    server.before = change
    with Lab() as lab, client_of(server) as portal:
        report = lab.pull(portal)
        assert (report.new, report.gone, report.missing, report.complete) == (301, 1, 0, True)
        assert late.id in ids_of(lab)


def test_the_ends_of_the_calendar_are_times_like_others() -> None:
    # The first is what Go writes where there is no time.
    ends = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z")
    timeless = [an_event(0, timestamp=ends[0]) for _ in range(1100)]
    last = an_event(0, timestamp=ends[1], duration_ms=2**62)
    server = ReferencePortal([*numbered(5), *timeless, last], zone=UTC)
    with Lab() as lab, client_of(server) as portal:
        assert lab.pull(portal, payloads=False).complete
        assert lab.pull(portal, payloads=False).listed == 0
        server.store(an_event(0, timestamp=ends[0]), an_event(0, timestamp=ends[1]))
        report = lab.pull(portal, payloads=False)
        assert (report.new, report.expected, report.complete) == (2, 1108, True)


def test_since_begins_there_and_a_limit_is_refused() -> None:
    start = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
    server = ReferencePortal(numbered(60))
    with Lab() as lab, client_of(server) as portal:
        report = lab.pull(portal, since=start + timedelta(seconds=50))
        assert (report.new, report.expected) == (10, 10)
        report = lab.pull(portal, since=start + timedelta(seconds=40))
        assert (report.new, report.expected, report.listed) == (10, 20, 10)
        with pytest.raises(FilterError, match="limit"):
            lab.pull(portal, limit=3)


def test_a_line_that_is_no_event_is_kept_in_rejects() -> None:
    bad = Event.build(id="", timestamp="2026-11-24T03:00:07Z", tool_name="x", success=True)
    server = ReferencePortal([*numbered(5), bad])
    with Lab() as lab, client_of(server) as portal:
        report = lab.pull(portal, payloads=False)
        assert (report.new, report.unreadable, report.missing) == (5, 1, 0)
        assert not report.complete
        assert (lab.pull(portal, payloads=False).new, len(lab.rejects())) == (0, 1)
        assert list(lab.rejects()["reason"]) == ["no_id"]


def test_the_report_says_what_happened() -> None:
    server = ReferencePortal(numbered(3))
    with Lab() as lab, client_of(server) as portal:
        report = lab.pull(portal, tool="echo")
        assert 'tool "echo"' in str(report)
        assert "3 new events, 3 new payloads, 0 duplicates" in str(report)
        assert repr(report).startswith("PullReport(complete: 3 new events")
        assert KEY not in str(report) + repr(report)
        assert report.to_dict()["complete"] is True


def test_one_of_something_is_told_in_the_singular() -> None:
    first = an_event(1)
    server = ReferencePortal([first])
    with Lab() as lab, client_of(server) as portal:
        report = lab.pull(portal)
        assert "1 new event, 1 new payload, 0 duplicates" in str(report)
        assert repr(report).startswith("PullReport(complete: 1 new event, 1 payload, 0 duplicates;")
        server.delete(first.id)
        assert "1 event is gone from the portal" in str(lab.pull(portal))
    both = PullReport("u", "q", conflicts=1, unreadable=2, left_out=1, missing=1, expected=1)
    for line in (
        "1 event is in conflict",
        "2 lines are not readable",
        "1 event is listed but not asked for",
        "1 of them is missing here",
    ):
        assert line in str(both)
