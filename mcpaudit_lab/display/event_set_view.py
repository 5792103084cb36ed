"""A set of events, and what a load did, as a notebook shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.display.html import badge_html, note_html, page_html, text_html
from mcpaudit_lab.display.tables_html import rows_html, table_html
from mcpaudit_lab.display.terminal_tables import (
    EVENT_COLUMNS,
    VERDICTS,
    Column,
    event_row,
    load_columns,
    load_rows,
)
from mcpaudit_lab.record import counted
from mcpaudit_lab.storage import records

if TYPE_CHECKING:
    from mcpaudit_lab.lab import EventSet
    from mcpaudit_lab.replay import ReplayPlan, ReplayRun
    from mcpaudit_lab.storage.load import LoadReport

__all__ = ["event_set_html", "load_report_html", "plan_html", "run_html"]


_ROWS_MAX: Final = 15
# Cells of these columns are badges; which look they get says the badge.
_BADGES: Final = {**VERDICTS, "ready": "", "refused": ""}

_PLAN_COLUMNS: Final = (
    Column("ts", "time (UTC)"),
    Column("tool", least=8),
    Column("verdict", styles=_BADGES),
    Column("detail", least=20),
    Column("id", is_id=True),
)
_RUN_COLUMNS: Final = (
    Column("tool_name", "tool", least=8),
    Column("status", styles=_BADGES),
    Column("comparison", "answer", styles=_BADGES),
    Column("detail", least=20),
    Column("original_ms", "ms", right=True),
    Column("replay_ms", "then", right=True),
    Column("event_id", "original", is_id=True),
    Column("replay_id", "replay", is_id=True),
)


def plan_html(plan: ReplayPlan) -> str:
    """Verdicts and reasons of a plan, what to think of before running it, and the first events."""
    counts = plan.counts()
    verdicts = {str(item.verdict) for item in plan.items}
    reasons = {name: count for name, count in counts.items() if name not in ("ready", "unknown")}
    reasons.pop("refused", None)
    notes = [note_html(f"warning: {warning}", "warn") for warning in plan.warnings]
    if reasons:
        told = ", ".join(f"{count:,} {name}" for name, count in reasons.items())
        notes.append(note_html(f"refused: {told}"))
    if plan.left_out:
        notes.append(note_html(f"left out: {counted(plan.left_out, 'replay')} of these"))
    if plan.wait_s:
        notes.append(note_html(f"at least {plan.wait_s:g} s: {plan.pace}"))
    rows = [
        {
            "ts": item.event.timestamp,
            "tool": item.event.tool_name,
            "verdict": str(item.verdict),
            "detail": item.detail,
            "id": item.event.id,
        }
        for item in plan.items[:_ROWS_MAX]
    ]
    shown = {name: counts[name] for name in counts if name in verdicts}
    return page_html(
        _head(f"Plan for {counted(len(plan.items), 'call')}", plan.target.name, shown),
        _notes(notes),
        rows_html(_PLAN_COLUMNS, rows),
        _foot(len(plan.items) - len(rows), "plan.df() has all; plan.run() calls"),
        label="replay plan",
    )


def run_html(run: ReplayRun) -> str:
    """How far each call of a run came, and whether its answer is the original's."""
    notes = []
    if run.stopped:
        notes.append(note_html(f"stopped: {run.stopped}; plan.run() continues", "warn"))
    if run.uncertain:
        told = f"no outcome known: {counted(len(run.uncertain), 'event')} sent, and maybe run"
        notes.append(note_html(told, "unknown"))
    rows = [run.row(state) for state in islice(run.states, _ROWS_MAX)]
    return page_html(
        _head(f"Run of {counted(len(run.states), 'call')}", run.plan.target.name, run.counts()),
        _notes(notes),
        rows_html(_RUN_COLUMNS, rows),
        _foot(len(run.states) - len(rows), "run.df() has all; run.comparison(id) compares"),
        label="replay run",
    )


def _head(title: str, target: str, counts: Mapping[str, int]) -> str:
    badges = "".join(badge_html(name, count=count) for name, count in counts.items())
    return (
        f'<div class="mal-head"><span class="mal-title">{title}</span>{badges}'
        f'<span class="mal-small mal-push mal-data">{text_html(target, limit=200)}</span></div>'
    )


def _notes(notes: Iterable[str]) -> str:
    body = "".join(notes)
    return f'<div class="mal-body">{body}</div>' if body else ""


def _foot(more: int, words: str) -> str:
    before = f"… {more:,} more; " if more > 0 else ""
    return f'<div class="mal-foot">{text_html(before + words)}</div>'


_FIRST_ROWS: Final = 10
_ROWS_OF_LOAD_MAX: Final = 30


def event_set_html(events: EventSet) -> str:
    """How many events a set has, its filter in words, and the first ten."""
    count = events.count()
    rows: list[dict[str, Any]] = [event_row(row) for row in records(events.head(_FIRST_ROWS))]
    more = f"… {count - len(rows):,} more; .df() gives all as a frame" if count > len(rows) else ""
    return table_html(
        counted(count, "event"),
        EVENT_COLUMNS,
        rows,
        words=events.describe(),
        foot=more,
    )


def load_report_html(report: LoadReport) -> str:
    """What a load did: a row for each input, the sums, and why lines were rejected."""
    rows = load_rows(report)
    foot = []
    if len(rows) > _ROWS_OF_LOAD_MAX:
        foot.append(f"… {counted(len(rows) - _ROWS_OF_LOAD_MAX, 'input')} more")
        # The sums come last.
        rows = [*rows[: _ROWS_OF_LOAD_MAX - 1], rows[-1]]
    if report.reasons:
        reasons = ", ".join(
            f"{count:,} {reason}" for reason, count in sorted(report.reasons.items())
        )
        foot.append(f"rejected: {reasons}; lab.rejects() has the lines")
    foot += report.remarks()
    return table_html(
        f"{report.loaded:,} loaded",
        load_columns(report),
        rows,
        words=_words(report),
        foot="; ".join(foot),
        badge=f"{report.rejected:,} rejected" if report.rejected else "",
        sums=len(rows) > 1,
    )


def _words(report: LoadReport) -> str:
    return f"{counted(len(report.files), 'input')} in {report.seconds:.1f} s"
