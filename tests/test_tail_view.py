"""The live tail's widget without a browser: a comm writes down what would be sent to one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from portals import an_event
from tail_sources import QueueSource

from mcpaudit_lab import PortalClient
from mcpaudit_lab.display.tail.view import TailView
from mcpaudit_lab.errors import PortalUnavailable
from mcpaudit_lab.portal.stream.items import Gap
from mcpaudit_lab.portal.tail.tail import Tail
from mcpaudit_lab.record import Event
from mcpaudit_lab.server import background_portal

START_GAP = an_event(0).timestamp


class Seat:
    """A tail and its widget, with a loop that a test runs as the kernel would."""

    def __init__(self, *items: Any, portal: PortalClient | None = None, max_rows: int = 20) -> None:
        self.loop = asyncio.new_event_loop()
        self.source = QueueSource(*items)
        self.tail = Tail(self.source, portal=portal, max_rows=max_rows, title="all events")
        self.tail.wait(len(items))
        self.view = TailView(self.tail, self.tail._state, self.loop)
        self.tail._view = self.view
        self.sent: list[Any] = []
        self.view.table.send = self.sent.append

    def front(self, **message: Any) -> None:
        """What a front end says."""
        self.view.table._handle_custom_msg(message, [])

    def until(self, condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
        """Run the loop until something holds."""
        give_up_s = self.loop.time() + timeout_s
        while not condition():
            assert self.loop.time() < give_up_s, "it never held"
            self.loop.call_later(0.005, self.loop.stop)
            self.loop.run_forever()

    def until_batches(self, count: int) -> None:
        self.until(lambda: len(self.rows()) >= count)

    def rows(self) -> list[list[int]]:
        """The keys of the batches."""
        return [[row["key"] for row in m["rows"]] for m in self.sent if m["kind"] == "rows"]

    def card(self) -> str:
        return str(self.view.panel.card.value)

    def note(self) -> str:
        shown = self.view.panel.note.layout.display is None
        return str(self.view.panel.note.value) if shown else ""

    def asks(self) -> bool:
        return self.view.panel.ask.layout.display is None

    def close(self) -> None:
        self.tail.stop()
        self.view.close()
        self.loop.close()


@contextmanager
def seated(*items: Any, **settings: Any) -> Iterator[Seat]:
    seat = Seat(*items, **settings)
    try:
        yield seat
    finally:
        seat.close()


@pytest.fixture(scope="module")
def portal() -> Iterator[PortalClient]:
    with background_portal() as running, PortalClient(running.url, running.api_key) as client:
        client.tryit("echo", {"message": "one"})
        client.tryit("echo", {"message": "two"})
        client.tryit("echo", {"message": "hush", "extras": {"token": "x"}})
        yield client


def stored(portal: PortalClient, text: str) -> Event:
    return next(e for e in portal.events(source="portal-tryit") if text in str(e.parameters))


def test_nothing_is_sent_before_a_front_end_asks() -> None:
    with seated(an_event(1)) as seat:
        seat.until(lambda: not seat.view._woken)
        assert seat.sent == []
        assert not seat.view.table.started
        seat.front(kind="ready")
        seat.until(seat.rows)
        assert seat.rows() == [[1]]
        assert "live · 1 received" in seat.view.status.value


def test_a_front_end_that_confirms_nothing_gets_no_more() -> None:
    with seated(an_event(0)) as seat:
        seat.front(kind="ready")
        for number in range(1, 4):
            seat.until_batches(number)
            seat.source.give(an_event(number))
            seat.tail.wait(number + 1)
        seat.source.give(*(an_event(number) for number in range(4, 50)))
        seat.tail.wait(50)
        seat.until(lambda: not seat.view._woken)
        assert seat.rows() == [[1], [2], [3]]
        seat.front(kind="shown", number=2)
        seat.until(lambda: len(seat.rows()) == 4)
        assert seat.rows()[-1] == list(range(50, 30, -1))
        seat.front(kind="shown", number="none")
        seat.front(kind="nonsense")
        seat.front()


def test_updates_keep_a_distance() -> None:
    with seated(an_event(0)) as seat:
        seat.front(kind="ready")
        seat.until(seat.rows)
        began_s = seat.loop.time()
        for number in range(1, 4):
            seat.source.give(an_event(number))
            seat.until_batches(number + 1)
            seat.front(kind="shown", number=len(seat.rows()))
        assert seat.loop.time() - began_s > 0.19


def test_a_card_is_fetched_and_shown(portal: PortalClient) -> None:
    with seated(stored(portal, "one"), portal=portal) as seat:
        seat.front(kind="open", key=1)
        assert "Fetching" in seat.note()
        seat.until(seat.card)
        assert "portal-tryit" in seat.card()
        assert "structuredContent" in seat.card()
        assert seat.note() == ""
        seat.view.panel.shut.click()
        assert seat.card() == ""


def test_an_event_without_an_id_is_found_by_its_request(portal: PortalClient) -> None:
    event = stored(portal, "two")
    unnamed = Event({**event.wire, "id": ""})
    lost = Event({**unnamed.wire, "request_id": "no such"})
    with seated(unnamed, lost, portal=portal) as seat:
        seat.front(kind="open", key=1)
        seat.until(seat.card)
        assert event.id in seat.card()
        seat.front(kind="open", key=2)
        seat.until(lambda: event.id not in seat.card())
        assert "not captured" in seat.card()


def test_without_a_portal_the_summary_is_shown() -> None:
    with seated(an_event(1, tool_name="<b>bold</b>")) as seat:
        seat.front(kind="open", key=1)
        seat.until(seat.card)
        assert "&lt;b&gt;bold" in seat.card()
        assert "<b>bold" not in seat.card()
        seat.front(kind="selected", keys=[1])
        assert seat.view.replay.disabled


def test_a_portal_that_cannot_be_asked_leaves_the_summary() -> None:
    with (
        PortalClient("http://127.0.0.1:9", "key", attempts=1) as portal,
        seated(an_event(1), an_event(2), portal=portal) as seat,
    ):
        seat.front(kind="open", key=1)
        seat.until(seat.card)
        assert "The payload could not be fetched" in seat.note()
        seat.front(kind="selected", keys=[1, 2])
        seat.view.compare.click()
        seat.until(lambda: "Fetching" not in seat.note())
        assert "127.0.0.1:9" in seat.note()


def test_what_is_not_there_any_more_is_said() -> None:
    gap = Gap(START_GAP, START_GAP, 3, "it <i>broke</i>")
    with seated(an_event(1)) as seat:
        seat.source.give(gap)
        seat.front(kind="ready")
        seat.until(lambda: seat.rows() and seat.rows()[-1][0] == 2)
        seat.front(kind="open", key=99)
        assert "not kept any more" in seat.note()
        seat.front(kind="open", key=2)
        assert "3 events are missing" in seat.note()
        assert "&lt;i&gt;broke" in seat.note()
        seat.front(kind="open", key="1")
        seat.front(kind="selected", keys=[2, 99, "x"])
        assert seat.view.open.disabled


def test_the_buttons_follow_the_selection(portal: PortalClient) -> None:
    one, two = stored(portal, "one"), stored(portal, "two")
    with seated(one, two, portal=portal) as seat:
        view = seat.view

        def enabled() -> list[bool]:
            return [not button.disabled for button in (view.open, view.compare, view.replay)]

        assert enabled() == [False, False, False]
        seat.front(kind="selected", keys=[1])
        assert enabled() == [True, False, True]
        view.open.click()
        seat.until(seat.card)
        seat.front(kind="selected", keys=[1, 2])
        assert enabled() == [True, True, False]
        view.compare.click()
        seat.until(lambda: "comparison of two audit events" in seat.card())
        seat.front(kind="selected", keys="1")
        assert enabled() == [True, True, False]


def test_a_replay_is_asked_first_and_shown_beside_its_original(portal: PortalClient) -> None:
    with seated(stored(portal, "one"), portal=portal) as seat:
        seat.front(kind="selected", keys=[1])
        seat.view.panel.yes.click()
        seat.view.replay.click()
        seat.until(seat.asks)
        assert "Replay echo at" in seat.note()
        seat.view.panel.no.click()
        assert not seat.asks()
        assert seat.note() == ""
        before = portal.dashboard()["stats"]["total"]
        seat.view.replay.click()
        seat.until(seat.asks)
        assert portal.dashboard()["stats"]["total"] == before
        seat.view.panel.yes.click()
        seat.view.panel.yes.click()
        seat.until(lambda: "Replayed as" in seat.note())
        assert "it succeeded" in seat.note()
        assert "comparison of two audit events" in seat.card()
        assert portal.dashboard()["stats"]["total"] == before + 1


def test_a_redacted_call_is_refused_before_any_call(portal: PortalClient) -> None:
    with seated(stored(portal, "hush"), portal=portal) as seat:
        before = portal.dashboard()["stats"]["total"]
        seat.front(kind="selected", keys=[1])
        seat.view.replay.click()
        seat.until(lambda: "Not replayed" in seat.note())
        assert "nothing was called (redacted)" in seat.note()
        assert "extras.token" in seat.note()
        assert not seat.asks()
        assert portal.dashboard()["stats"]["total"] == before


def test_the_controls_pause_filter_and_stop() -> None:
    events = [an_event(1), an_event(2, tool_name="flaky", success=False)]
    with seated(*events) as seat:
        view = seat.view
        seat.front(kind="ready")
        seat.until(seat.rows)
        assert view.tool.options == ("echo", "flaky")
        view.tool.value = "flaky"
        seat.until(lambda: seat.rows()[-1] == [2])
        view.tool.value = ""
        view.outcome.value = "✓ ok"
        seat.until(lambda: seat.rows()[-1] == [1])
        view.outcome.value = "any outcome"
        seat.front(kind="shown", number=3)
        view.text.value = "FLA"
        seat.until(lambda: seat.rows()[-1] == [2])
        view.pause.value = True
        assert seat.tail.status.paused
        assert view.pause.description == "Go on"
        view.pause.value = False
        assert "paused" not in str(seat.tail)
        seat.tail.pause()
        seat.until(lambda: view.pause.value)
        view.stop.click()
        seat.until(lambda: "stopped" in view.status.value)
        assert view.stop.disabled
        assert view.pause.disabled


def test_the_box_takes_a_condition() -> None:
    events = [an_event(1), an_event(2, tool_name="flaky", success=False)]
    with seated(*events) as seat:
        view = seat.view
        seat.front(kind="ready")
        seat.until(seat.rows)
        view.text.value = "tool = flaky and not success"
        seat.until(lambda: seat.rows()[-1] == [2])
        view.text.value = "tool = flaky and"
        seat.until(lambda: "expected a name, not, or (" in view.panel.note.value)
        view.text.value = "param.n != 5"
        seat.until(lambda: "have no payload" in view.panel.note.value)
        assert seat.rows()[-1] == [2]


def test_what_ends_the_stream_is_said_aloud() -> None:
    with seated() as seat:
        seat.front(kind="ready")
        seat.source.give(PortalUnavailable("<away>"))
        seat.until(lambda: "stopped" in seat.view.status.value)
        assert "&lt;away&gt;" in seat.view.status.value
        said = [message["text"] for message in seat.sent if message["kind"] == "say"]
        assert said == ["The tail is stopped. <away>"]


def test_it_ends_when_no_output_shows_it() -> None:
    with seated(an_event(1)) as seat:
        seat.front(kind="views", count=1)
        seat.front(kind="views", count=0)
        seat.until(lambda: seat.view._closed)
        assert seat.tail.status.state == "stopped"
        assert seat.view.table.comm is None
        seat.view.wake()


def test_a_kernel_that_has_ended_is_no_failure(portal: PortalClient) -> None:
    seat = Seat(stored(portal, "one"), portal=portal)
    seat.loop.close()
    seat.view.wake()
    assert seat.view._closed
    seat.view.panel._later(0, print, None)
    seat.tail.stop()


def test_the_bundle_has_the_widget() -> None:
    with seated() as seat:
        assert "application/vnd.jupyter.widget-view+json" in seat.view.mimebundle()
