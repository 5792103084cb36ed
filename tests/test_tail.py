"""The live tail without a notebook."""

from __future__ import annotations

import threading

import pandas as pd
import pytest
from portals import an_event
from tail_sources import QueueSource

from mcpaudit_lab import FilterError, Lab, PortalClient
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.errors import PortalUnavailable
from mcpaudit_lab.portal.stream.items import StreamCounters
from mcpaudit_lab.portal.tail.frame import events_frame
from mcpaudit_lab.portal.tail.tail import Tail
from mcpaudit_lab.server import background_portal


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "stream-" in thread.name}


def test_it_prints_what_came_newest_first() -> None:
    source = QueueSource(
        an_event(1, duration_ms=7, user_subject="alice"),
        an_event(2, tool_name="flaky", success=False, error_category="tool", error_message="no"),
    )
    with Tail(source, title="http://portal") as tail:
        assert tail.wait(2)
        head, *rows = str(tail).splitlines()
        assert head.startswith("Tail of http://portal: live · 2 received · 1 failed · ")
        assert [" ".join(row.split()) for row in rows] == [
            "03:00:02.000 ! tool flaky 0 ms no",
            '03:00:01.000 ok echo 7 ms alice {"n":1}',
        ]
        assert repr(tail).splitlines()[1:] == rows
        assert list(tail._repr_mimebundle_()) == ["text/plain"]
    assert str(tail).splitlines()[0].startswith("Tail of http://portal: stopped")


def test_no_thread_outlives_it() -> None:
    tail = Tail(QueueSource(an_event(1)))
    assert tail.wait(1)
    assert threads() == {"stream-reader"}
    tail.stop()
    tail.stop()
    assert threads() == set()
    assert tail.status.state == "stopped"
    assert len(tail.events()) == 1
    tail.close()


def test_waiting_ends_with_the_tail_or_with_the_time() -> None:
    source = QueueSource(an_event(1))
    with Tail(source) as tail:
        assert tail.wait(1)
        assert not tail.wait(2, timeout_s=0.01)
        source.stop()
        assert not tail.wait(2)


def test_one_can_wait_for_the_connection() -> None:
    source = QueueSource()
    source.state = "connecting"
    with Tail(source) as tail:
        assert not tail.wait_live(timeout_s=0.05)
        source.state = "live"
        assert tail.wait_live()
        source.stop()
        assert not tail.wait(1)
        assert not tail.wait_live()


def test_who_stops_is_not_told_that_the_portal_hung_up() -> None:
    with (
        background_portal() as served,
        PortalClient(served.url, served.api_key) as portal,
        portal.tail() as tail,
    ):
        assert tail.wait_live()
        # The first may come by the look back; the second comes by the open connection.
        for count in (1, 2):
            portal.tryit("whoami")
            assert tail.wait(count, timeout_s=10)
        tail.stop()
        assert (tail.status.state, tail.status.problem) == ("stopped", "")


def test_what_the_stream_raises_is_said_and_ends_it() -> None:
    source = QueueSource(an_event(1), PortalUnavailable("the portal\x1b is away"))
    tail = Tail(source)
    assert not tail.wait(2)
    assert tail.status.state == "stopped"
    assert tail.status.problem == r"the portal\x1b is away"
    assert str(tail).splitlines()[0].endswith(r"the portal\x1b is away")
    other = Tail(QueueSource(ZeroDivisionError("oh")))
    assert not other.wait(1)
    assert other.status.problem == "ZeroDivisionError: oh"


def test_all_that_arrives_is_stored_also_during_a_pause_and_behind_a_filter() -> None:
    source = QueueSource()
    with Lab() as lab, Tail(source, into=lab, max_rows=2, title="echo") as tail:
        tail.pause()
        tail.show(success=True)
        source.give(*(an_event(number, success=number != 3) for number in range(5)))
        assert tail.wait(5)
        assert tail.status.paused
        assert tail.status.counts.waiting == 4
        tail.resume()
        assert "paused" not in str(tail)
        tail.stop()
        stored = tail.status.stored
        assert stored is not None
        assert (stored.stored, stored.rejected, stored.waiting) == (5, 0, 0)
        assert "5 received · 1 failed" in str(tail)
        assert lab.events().count() == 5
        kind, name, request = lab.sql("select kind, name, request from sources").fetchall()[0]
        assert (kind, name, request) == ("tail", "http://portal", "echo")


def test_a_lab_that_cannot_be_written_is_said() -> None:
    lab = Lab()
    lab.close()
    with Tail(QueueSource(an_event(1)), into=lab) as tail:
        assert tail.wait(1)
        tail.stop()
        assert "0 stored · 1 not stored yet: the lab is closed" in str(tail)


def test_a_filter_changes_what_is_shown() -> None:
    source = QueueSource()
    with Tail(source) as tail:
        tail.show(tool="flaky")
        source.give(an_event(1), an_event(2, tool_name="flaky"))
        assert tail.wait(2)
        assert len(str(tail).splitlines()) == 2
        tail.show()
        assert len(str(tail).splitlines()) == 3
        with pytest.raises(FilterError):
            tail.show(colour="red")


def test_the_counters_of_the_stream_are_said() -> None:
    source = QueueSource()
    source.counters = StreamCounters(reconnections=2, filled=1_234)
    source.state, source.problem = "reconnecting", "no data for 75 s"
    with Tail(source) as tail:
        assert tail.status.describe() == (
            "reconnecting · 0 received · 0.0/s · 1,234 filled in · 2 reconnections"
            " · no data for 75 s"
        )


def test_the_frame_is_that_of_a_lab() -> None:
    with Lab() as lab:
        lab.load(sample_files())
        events = list(lab.events())
        pd.testing.assert_frame_equal(events_frame(events), lab.events().df())
        pd.testing.assert_frame_equal(events_frame([]), lab.events(tool="none").df())
        source = QueueSource(*reversed(events))
        with Tail(source) as tail:
            assert tail.wait(len(events))
            pd.testing.assert_frame_equal(tail.df(), lab.events().df())
