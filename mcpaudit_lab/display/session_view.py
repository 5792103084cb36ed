"""A session as a timeline: a bar for each call, and its card behind a click. No script."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.display.event_card import event_html, outcome_of
from mcpaudit_lab.display.html import (
    badge_html,
    data_html,
    nested_html,
    note_html,
    page_html,
    text_html,
)
from mcpaudit_lab.record import counted, format_time

if TYPE_CHECKING:
    from mcpaudit_lab.lab import Session
    from mcpaudit_lab.record import Event

__all__ = ["session_html"]

_CALLS_MAX: Final = 200
# A pause that is longer than this part of the session is told.
_PAUSE_PART: Final = 0.1
_LEAST_PAUSE_MS: Final = 1000


def session_html(session: Session) -> str:
    """The timeline of a session's first calls."""
    calls = list(islice(session.events.sort("ts"), _CALLS_MAX + 1))
    more = session.events.count() - _CALLS_MAX
    calls = calls[:_CALLS_MAX]
    start = calls[0].timestamp.timestamp() * 1000
    end = max(call.timestamp.timestamp() * 1000 + call.duration_ms for call in calls)
    span = max(1.0, end - start)
    failed = sum(not call.success for call in calls)
    badges = badge_html("failed", count=failed) if failed else ""
    head = (
        f'<div class="mal-head"><span class="mal-title">Session</span>'
        f"{data_html(session.id)}{badges}"
        f'<span class="mal-small mal-push">{counted(len(calls), "call")} in {_duration(span)},'
        f" from {text_html(format_time(calls[0].timestamp))}</span></div>"
    )
    rows = []
    reached = start
    for call in calls:
        begins = call.timestamp.timestamp() * 1000
        pause = begins - reached
        if pause > max(_LEAST_PAUSE_MS, span * _PAUSE_PART):
            rows.append(f'<div class="mal-pause mal-small">{_duration(pause)} without a call</div>')
        rows.append(_row(call, (begins - start) / span, call.duration_ms / span))
        reached = max(reached, begins + call.duration_ms)
    if more > 0:
        rows.append(note_html(f"{more:,} later calls are not shown; session.events has all"))
    timeline = f'<div class="mal-timeline">{"".join(rows)}</div>'
    return page_html(head, timeline, label=f"session, {counted(len(calls), 'call')}")


def _row(call: Event, offset: float, width: float) -> str:
    left = min(99.5, max(0.0, offset * 100))
    wide = min(100.0 - left, max(0.5, width * 100))
    outcome = outcome_of(call)
    kind = "mal-bar" if call.success else "mal-bar mal-bar-failed"
    told = "" if call.success else badge_html(outcome)
    return (
        f'<details class="mal-call"><summary><span class="mal-call-name">'
        f"{text_html(call.tool_name, limit=60)}</span>"
        f'<span class="mal-lane"><span class="{kind}" '
        f'style="margin-left:{left:.2f}%;width:{wide:.2f}%"></span></span>'
        f'<span class="mal-call-ms">{call.duration_ms:,} ms</span>'
        f'<span class="mal-call-outcome">{told}</span></summary>'
        f"{nested_html(event_html(call))}</details>"
    )


def _duration(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
