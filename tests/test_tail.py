"""The live tail without a notebook."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest
from portals import an_event
from tail_sources import QueueSource, SourceCounters

from mcpaudit_lab import FilterError, Lab
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.errors import LabError, PortalUnavailable
from mcpaudit_lab.widgets.tail import Tail
from mcpaudit_lab.widgets.tail_frame import events_frame


@dataclass
class ListRecorder:
    """Keeps what it is given."""

    events: list[Any] = field(default_factory=list)
    closed: bool = False
    fails: bool = False

    @property
    def stored(self) -> int:
        return len(self.events)

    def add(self, item: Any) -> None:
        if self.fails:
            raise LabError("the disk is full")
        self.events.append(item)

    def close(self) -> None:
        self.closed = True


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "mcpaudit-tail" in thread.name}


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
    assert threads() == {"mcpaudit-tail"}
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


def test_what_the_stream_raises_is_said_and_ends_it() -> None:
    source = QueueSource(an_event(1), PortalUnavailable("the portal\x1b is away"))
    recorder = ListRecorder()
    tail = Tail(source, recorder=recorder)
    assert not tail.wait(2)
    assert tail.status.state == "stopped"
    assert tail.status.problem == r"the portal\x1b is away"
    assert str(tail).splitlines()[0].endswith(r"the portal\x1b is away")
    assert recorder.closed
    other = Tail(QueueSource(ZeroDivisionError("oh")))
    assert not other.wait(1)
    assert other.status.problem == "ZeroDivisionError: oh"


def test_all_that_arrives_is_recorded_also_during_a_pause() -> None:
    source, recorder = QueueSource(), ListRecorder()
    with Tail(source, recorder=recorder, max_rows=2) as tail:
        tail.pause()
        source.give(*(an_event(number) for number in range(5)))
        assert tail.wait(5)
        assert tail.status.paused
        assert tail.status.counts.waiting == 5
        assert tail.status.stored == 5
        assert "live, paused · 5 received" in str(tail)
        assert "5 stored · 5 waiting" in str(tail)
        tail.resume()
        assert "paused" not in str(tail)
    assert [event.parameters["n"] for event in recorder.events] == [0, 1, 2, 3, 4]
    assert recorder.closed


def test_a_tail_that_cannot_record_stops_and_says_so() -> None:
    tail = Tail(QueueSource(an_event(1)), recorder=ListRecorder(fails=True))
    assert not tail.wait(1)
    assert tail.status.problem == "the disk is full"


def test_a_filter_changes_what_is_shown_and_nothing_else() -> None:
    source, recorder = QueueSource(), ListRecorder()
    with Tail(source, recorder=recorder) as tail:
        tail.show(tool="flaky")
        source.give(an_event(1), an_event(2, tool_name="flaky"))
        assert tail.wait(2)
        assert len(str(tail).splitlines()) == 2
        tail.show()
        assert len(str(tail).splitlines()) == 3
        with pytest.raises(FilterError):
            tail.show(colour="red")
    assert recorder.stored == 2


def test_the_counters_of_the_stream_are_said() -> None:
    source = QueueSource()
    source.counters = SourceCounters(reconnections=2, filled=1_234)
    source.state, source.problem = "reconnecting", "nothing came for 75 s"
    with Tail(source) as tail:
        assert tail.status.describe() == (
            "reconnecting · 0 received · 0.0/s · 1,234 filled in · 2 reconnections"
            " · nothing came for 75 s"
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
