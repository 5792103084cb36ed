"""The live tail without its widgets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from portals import START, an_event

from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.portal.stream.items import Gap
from mcpaudit_lab.portal.tail.rows import lines_text, row_of
from mcpaudit_lab.portal.tail.state import Batch, TailState
from mcpaudit_lab.record import Event

A_GAP = Gap(START, datetime(2026, 11, 24, 3, 1, tzinfo=UTC), None, "not listed")


def failed(number: int) -> Event:
    return an_event(number, success=False, error_category="tool", error_message="it broke")


def keys(batch: Batch | None) -> list[int]:
    return [] if batch is None else [line.key for line in batch.lines]


class Table:
    """What a table would show that follows the batches."""

    def __init__(self, max_rows: int) -> None:
        self.keys: list[int] = []
        self._max_rows = max_rows

    def follow(self, batch: Batch | None) -> None:
        if batch is not None:
            old = [] if batch.reset else self.keys
            self.keys = [*keys(batch), *old][: self._max_rows]


def test_the_first_batch_is_the_view_and_the_next_ones_are_what_is_new() -> None:
    state = TailState(max_rows=10)
    state.add(an_event(1), 0)
    assert state.take() == Batch(reset=True, lines=state.lines())
    assert state.take() is None
    state.add(an_event(2), 0)
    state.add(an_event(3), 0)
    batch = state.take()
    assert batch is not None
    assert not batch.reset
    assert keys(batch) == [3, 2]


def test_a_batch_never_has_more_rows_than_the_view() -> None:
    state = TailState(max_rows=5)
    state.take()
    for number in range(1_000):
        state.add(an_event(number), 0)
    batch = state.take()
    assert batch is not None
    assert batch.reset
    assert keys(batch) == [1000, 999, 998, 997, 996]
    assert state.counts(0).unseen == 995


def test_what_comes_during_a_pause_waits() -> None:
    state = TailState(max_rows=3)
    state.add(an_event(1), 0)
    state.take()
    state.add(an_event(2), 0)
    state.pause()
    state.pause()
    for number in range(3, 8):
        state.add(an_event(number), 0)
    assert keys(state.take()) == [2, 1]
    assert state.take() is None
    assert state.counts(0).waiting == 5
    assert [line.key for line in state.lines()] == [7, 6, 5]
    state.resume()
    assert state.counts(0).waiting == 0
    assert keys(state.take()) == [7, 6, 5]
    assert state.counts(0).unseen == 2
    assert len(state.events()) == 7


def test_a_filter_looks_through_what_is_kept() -> None:
    state = TailState(max_rows=2)
    state.add(failed(1), 0)
    for number in range(2, 6):
        state.add(an_event(number), 0)
    state.take()
    state.show(EventFilter(success=False))
    assert keys(state.take()) == [1]
    state.add(an_event(6), 0)
    assert state.take() is None
    state.add(failed(7), 0)
    assert keys(state.take()) == [7]
    state.show(None)
    assert keys(state.take()) == [7, 6]


def test_a_filter_during_a_pause_keeps_to_what_was_there() -> None:
    state = TailState(max_rows=3, max_kept=3)
    for number in (1, 2, 3):
        state.add(failed(number), 0)
    state.pause()
    for number in (4, 5):
        state.add(failed(number), 0)
    state.show(EventFilter(success=False))
    assert keys(state.take()) == [3, 2, 1]
    assert state.counts(0).waiting == 2
    state.resume()
    assert keys(state.take()) == [5, 4]
    assert [line.key for line in state.lines()] == [5, 4, 3]


def test_a_gap_is_shown_whatever_the_filter() -> None:
    state = TailState()
    state.show(EventFilter(tool="echo"))
    state.take()
    state.add(A_GAP, 0)
    batch = state.take()
    assert batch is not None
    row = row_of(batch.lines[0])
    assert (row["outcome"], row["time"]) == ("gap", "03:01:00.000")
    bounds = "from 2026-11-24T03:00:00Z to 2026-11-24T03:01:00Z: not listed"
    assert row["text"] == f"an unknown number of events are missing {bounds}"
    for missed, words in ((1, "1 event is"), (1_200, "1,200 events are")):
        state.add(replace(A_GAP, missed=missed), 0)
        assert lines_text(state.lines()[:1]) == (
            f"03:01:00.000  -- gap --  {words} missing {bounds}"
        )
    assert state.counts(0).gaps == 3
    assert state.counts(0).received == 0


def test_old_lines_go_by_number_and_by_size() -> None:
    state = TailState(max_rows=1, max_kept=3, max_kept_bytes=30_000)
    for number in range(5):
        state.add(an_event(number), 0)
    assert [event.parameters for event in state.events()] == [{"n": 4}, {"n": 3}, {"n": 2}]
    state.add(an_event(5, parameters={"big": "x" * 40_000}), 0)
    assert len(state.events()) == 1
    state.add(an_event(6), 0)
    assert [event.parameters for event in state.events()] == [{"n": 6}]
    assert state.counts(0).received == 7


def test_a_selected_line_is_held_when_it_is_not_kept_any_more() -> None:
    state = TailState(max_rows=1, max_kept=1)
    first, second = an_event(1), an_event(2)
    state.add(first, 0)
    state.take()
    state.pin((1, 99))
    for event in (second, an_event(3), an_event(4)):
        state.add(event, 0)
    line = state.find(1)
    assert line is not None
    assert line.event is first
    assert state.find(2) is None
    assert state.find(0) is None
    assert state.find(99) is None
    state.take()
    state.pin(())
    assert state.find(1) is None


def test_a_line_on_the_paused_table_is_found() -> None:
    state = TailState(max_rows=1, max_kept=1)
    state.add(an_event(1), 0)
    state.pause()
    state.add(an_event(2), 0)
    line = state.find(1)
    assert line is not None
    assert line.key == 1


def test_the_rate_is_that_of_the_last_seconds() -> None:
    state = TailState()
    assert state.counts(100.0).per_second == 0
    for tenth in range(100):
        state.add(an_event(tenth), 100.0 + tenth / 10)
    assert state.counts(110.0).per_second == pytest.approx(10, rel=0.05)
    assert state.counts(112.0).per_second < 10
    assert state.counts(130.0).per_second == 0
    state.add(an_event(0), 130.0)
    assert state.counts(130.0).per_second <= 1


def test_a_burst_at_the_start_is_not_made_more_than_it_was() -> None:
    state = TailState()
    for number in range(50):
        state.add(an_event(number), 7.9)
    assert state.counts(7.91).per_second == 50


def test_failures_and_tools_are_counted() -> None:
    state = TailState()
    for number in range(300):
        state.add(an_event(number, tool_name=f"tool-{number}"), 0)
    state.add(failed(300), 0)
    counts = state.counts(0)
    assert (counts.received, counts.failed, counts.kept) == (301, 1, 301)
    assert len(state.tools()) == 200
    assert list(state.tools()) == sorted(state.tools())


def test_a_row_says_in_words_what_happened() -> None:
    state = TailState()
    state.add(an_event(1, duration_ms=1234, user_subject="alice", parameters={"a": [1]}), 0)
    state.add(failed(2), 0)
    state.add(an_event(3, tool_name="", success=False, parameters=None), 0)
    third, second, first = map(row_of, state.lines())
    assert first == {
        "key": 1,
        "outcome": "ok",
        "label": "ok",
        "time": "03:00:01.000",
        "when": "2026-11-24T03:00:01Z",
        "tool": "echo",
        "ms": "1,234",
        "user": "alice",
        "group": "alice",
        "text": '{"a":[1]}',
    }
    assert (second["outcome"], second["label"], second["text"]) == ("failed", "tool", "it broke")
    assert (third["label"], third["tool"], third["text"]) == ("failed", "(no tool)", "")


def test_hostile_texts_are_one_short_visible_line() -> None:
    state = TailState()
    evil = "\x1b[2J\u202e\n" + "A" * 100_000
    state.add(an_event(1, tool_name=evil, user_subject=evil, error_message=evil, success=False), 0)
    row = row_of(state.lines()[0])
    for name in ("tool", "user", "text"):
        assert row[name].startswith(r"\x1b[2J\u202e\nAAA")
        assert len(row[name]) <= 161
    text = lines_text(state.lines())
    assert len(text.splitlines()) == 1
    assert text.isascii() or "…" in text
    assert "\x1b" not in text


def test_a_tail_shows_at_least_one_row() -> None:
    with pytest.raises(ValueError, match="max_rows"):
        TailState(max_rows=0)


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["ok", "failed", "gap", "take", "pause", "resume", "refresh"]),
        st.sampled_from([None, EventFilter(success=True), EventFilter(success=False)]),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(1, 5))
def test_a_table_that_follows_the_batches_shows_the_view(steps: list[object], size: int) -> None:
    state, table = TailState(max_rows=size, max_kept=20), Table(size)
    items: dict[int, Event | Gap] = {}
    made: dict[str, Event | Gap] = {"ok": an_event(1), "failed": failed(1), "gap": A_GAP}
    for step in steps:
        if step in ("ok", "failed", "gap"):
            item = made[str(step)]
            state.add(item, 0)
            items[len(items) + 1] = item
        elif step == "take":
            batch = state.take()
            assert batch is None or len(batch.lines) <= size
            table.follow(batch)
        elif step == "pause":
            state.pause()
        elif step == "resume":
            state.resume()
        elif step == "refresh":
            state.refresh()
            table.keys = []
        else:
            state.show(step if isinstance(step, EventFilter) else None)
    state.resume()
    table.follow(state.take())
    wanted = [
        key
        for key in range(len(items), max(0, len(items) - 20), -1)
        if isinstance(items[key], Gap) or state.wanted is None or state.wanted.matches(items[key])  # type: ignore[arg-type]  # not a gap
    ]
    # Older lines than are kept may still stand at the end.
    assert table.keys[: len(wanted)] == wanted[:size]
    assert table.keys == [line.key for line in state.lines()]


@pytest.mark.parametrize("member", ["tool_name", "error_message", "user_agent", "something_new"])
def test_all_texts_of_an_event_count_for_what_is_kept(member: str) -> None:
    state = TailState(max_rows=1, max_kept=9, max_kept_bytes=30_000)
    for number in range(5):
        state.add(an_event(number, **{member: "x" * 9_000}), 0)
    assert state.counts(0).kept == 2
