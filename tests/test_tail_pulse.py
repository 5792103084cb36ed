"""The last minutes of a tail: counts by bucket, durations by tool, and the line that shows them."""

from __future__ import annotations

import re

from portals import an_event
from tail_sources import QueueSource

from mcpaudit_lab.display.tail.pulse import pulse_html
from mcpaudit_lab.portal.tail import Tail, TailState, row_of


def state_of(*calls: tuple[float, str, bool, int]) -> TailState:
    state = TailState()
    for number, (now_s, tool, success, ms) in enumerate(calls):
        state.add(an_event(number, tool_name=tool, success=success, duration_ms=ms), now_s)
    return state


def test_calls_are_counted_in_buckets_of_five_seconds_for_five_minutes() -> None:
    state = state_of((100, "a", True, 1), (104.9, "a", False, 1), (105, "a", True, 1))
    pulse = state.pulse(109, 5)
    assert len(pulse.buckets) == 60
    assert pulse.buckets[-2:] == ((2, 1), (1, 0))
    assert (pulse.calls, pulse.failed) == (3, 1)
    # Time goes on without calls: the oldest bucket goes every five seconds.
    assert state.pulse(399, 5).buckets[:2] == ((2, 1), (1, 0))
    assert state.pulse(400, 5).buckets[:2] == ((1, 0), (0, 0))
    assert state.pulse(500, 5).calls == 0


def test_durations_are_of_the_busiest_tools_and_their_newest_calls() -> None:
    calls = [(float(n), "slow", True, 1_000 + n) for n in range(300)]
    calls += [(300.0, "quick", n % 4 > 0, n) for n in range(100)] + [(300.0, "rare", True, 7)]
    pulse = state_of(*calls).pulse(300, 2)
    slow, quick = pulse.tools
    assert (slow.name, slow.calls, slow.failed) == ("slow", 300, 0)
    assert (slow.p50_ms, slow.p95_ms) == (1_199.5, 1_289)
    assert (quick.name, quick.failed, quick.p50_ms, quick.p95_ms) == ("quick", 25, 49.5, 94)


def test_names_without_end_cost_no_memory_without_end() -> None:
    state = state_of(*((1.0, f"tool {n}", True, 1) for n in range(1_000)))
    assert state.pulse(1, 10_000).calls == 1_000
    assert len(state.pulse(1, 10_000).tools) == 200


def test_the_line_shows_calls_failures_and_tools_as_text() -> None:
    state = state_of((10, "<b>bad\x1b", True, 5), (10, "echo", False, 1), (11, "echo", True, 3))
    shown = pulse_html(state.pulse(12, 5))
    assert "last 5 min: 3 calls, 33.3 % failed" in shown
    assert "&lt;b&gt;bad\\x1b" in shown
    assert "<b>echo</b> p50 2, p95 3 ms" in shown
    assert len(re.findall("<rect", shown)) == 2
    assert pulse_html(TailState().pulse(12, 5)) == ""


def test_a_tail_gives_its_pulse_and_rows_their_group() -> None:
    source = QueueSource(an_event(1, user_subject="", session_id="s1"), an_event(2))
    with Tail(source) as tail:
        assert tail.wait(2)
        assert tail.pulse().calls == 2
        rows = [row_of(line) for line in tail._state.lines()]
    assert rows[1]["group"] == "s1"
    assert rows[0]["group"] == rows[0]["user"]
