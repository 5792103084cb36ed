"""The overview as a page: numbers, calls over time, tools, users, failures, sources.

The two charts are drawn here, in SVG and in widths of table cells, and not by matplotlib: they
follow the theme, and an overview needs no second to import a plotting library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.display.html import heading_html, inset_html, page_html, text_html
from mcpaudit_lab.display.tables_html import rows_html
from mcpaudit_lab.display.terminal_tables import SOURCE_COLUMNS
from mcpaudit_lab.record import counted

if TYPE_CHECKING:
    from mcpaudit_lab.lab import Overview

__all__ = ["overview_html"]

_ROWS_MAX: Final = 8
_SOURCES_MAX: Final = 6
_NAME_MAX: Final = 60
_HEIGHT: Final = 72
_SOURCE_KEYS: Final = ("kind", "name", "lines", "loaded", "merged", "rejected")

_UNITS: Final = ((604800, "week"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def overview_html(overview: Overview) -> str:
    """The page of an overview."""
    counts = overview.counts
    span = ""
    if overview.first and overview.last:
        first, last = _moment(overview.first), _moment(overview.last)
        # Show the date once if both ends are on one day.
        span = f"{first} to {last[11:] if first[:10] == last[:10] else last} UTC"
    head = (
        '<div class="mal-head">'
        f'<span class="mal-title">{counted(counts["events"], "tool call")}</span>'
        f'<span class="mal-small">{span}</span>'
        f'<span class="mal-small mal-push mal-data">{text_html(overview.name[-200:])}</span></div>'
    )
    body = (
        _tiles(counts)
        + _over_time(overview)
        + '<div class="mal-sides">'
        + _ranking("Tools", overview.tools, "total", counts["tools"])
        + "<div>"
        + _ranking("Users", overview.users, "count", counts["users"])
        + _named_counts("Failures", overview.failures)
        + _named_counts("Rejected lines", overview.rejects)
        + "</div></div>"
        + _sources(overview)
    )
    return page_html(head, f'<div class="mal-body">{body}</div>', label="overview of a lab")


def _moment(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(" ", "seconds")


def _tiles(counts: Mapping[str, int]) -> str:
    rate = counts["failed"] / counts["events"] if counts["events"] else 0.0
    tiles = (
        (f"{counts['failed']:,}", f"failed, {100 * rate:.1f} %", counts["failed"] > 0),
        (f"{counts['tools']:,}", "tools", False),
        (f"{counts['users']:,}", "users", False),
        (f"{counts['sessions']:,}", "sessions", False),
        (f"{counts['payloads']:,}", "with payload", False),
        (f"{counts['replays']:,}", "replays", False),
        (f"{counts['redacted']:,}", "with a redaction", False),
        (f"{counts['truncated']:,}", "truncated", False),
        (f"{counts['longest_ms']:,}", "ms at most", False),
        (f"{counts['rejected']:,}", "rejected lines", counts["rejected"] > 0),
    )
    shown = "".join(
        f'<div class="mal-tile{" mal-fail" if bad else ""}"><b>{number}</b>'
        f"<span>{label}</span></div>"
        for number, label, bad in tiles
    )
    return f'<div class="mal-tiles">{shown}</div>'


def _over_time(overview: Overview) -> str:
    """Calls over time, the failed ones in red at the foot of each bar."""
    rows = overview.series
    if not rows:
        return ""
    first = rows[0]["time"]
    places = [round((row["time"] - first).total_seconds() / overview.bucket_s) for row in rows]
    most = max(row["count"] for row in rows)
    bars = "".join(_bar(place, row, most) for place, row in zip(places, rows, strict=True))
    width = places[-1] + 1
    title = heading_html("Calls over time", f"by {_width_text(overview.bucket_s)}, failed ones red")
    return (
        f'{title}<div class="mal-plot"><span class="mal-small">{most:,}</span>'
        f'<svg class="mal-chart" viewBox="0 0 {width} {_HEIGHT}" preserveAspectRatio="none"'
        f' role="img" aria-label="calls over time, at most {most:,} in one bar">{bars}</svg>'
        f'<div class="mal-ends mal-small"><span>{_moment(first)}</span>'
        f"<span>{_moment(rows[-1]['time'])}</span></div></div>"
    )


def _bar(place: int, row: Mapping[str, Any], most: int) -> str:
    height = max(_HEIGHT * row["count"] / most, 1)
    failed = max(_HEIGHT * row["errors"] / most, 1) if row["errors"] else 0
    title = f"{_moment(row['time'])}: {counted(row['count'], 'call')}, {row['errors']:,} failed"
    parts = (("mal-bar", height), ("mal-bar-fail", failed))
    rectangles = "".join(
        f'<rect class="{name}" x="{place + 0.08:.2f}" y="{_HEIGHT - tall:.2f}" width="0.84"'
        f' height="{tall:.2f}"/>'
        for name, tall in parts
        if tall
    )
    return f"<g><title>{title}</title>{rectangles}</g>"


def _width_text(width_s: int) -> str:
    for unit_s, name in _UNITS:
        if width_s % unit_s == 0:
            count = width_s // unit_s
            return name if count == 1 else f"{count} {name}s"
    return f"{width_s} s"


def _ranking(title: str, rows: Sequence[Mapping[str, Any]], count: str, total: int) -> str:
    """The most frequent of something, each with a bar of its calls and failures."""
    most = max((row[count] for row in rows), default=1)
    lines = "".join(
        f'<tr><td class="mal-data">{text_html(row["key"] or "(none)", limit=_NAME_MAX)}</td>'
        f'<td class="mal-meter" aria-hidden="true">{_meter(row[count], row["errors"], most)}</td>'
        f'<td class="mal-right mal-keep">{row[count]:,}</td>'
        f'<td class="mal-right mal-keep">{_failed(row["errors"])}</td></tr>'
        for row in rows[:_ROWS_MAX]
    )
    head = (
        '<tr><th scope="col">name</th><th></th><th scope="col" class="mal-right">calls</th>'
        '<th scope="col" class="mal-right">failed</th></tr>'
    )
    table = inset_html([lines], head=head) if lines else '<p class="mal-note mal-plain">none</p>'
    return f"<div>{heading_html(title, _note(total, len(rows), _ROWS_MAX))}{table}</div>"


def _note(total: int, rows: int, shown: int) -> str:
    """The note after a heading: the total, and whether rows are omitted below."""
    return f"{total:,}" + (f", the first {shown}" if rows > shown else "")


def _failed(count: int) -> str:
    return f'<span class="{"mal-bad" if count else "mal-muted"}">{count:,}</span>'


def _meter(count: int, errors: int, most: int) -> str:
    parts = ((count - errors, "mal-bar"), (errors, "mal-bar-fail"))
    return "".join(
        f'<i class="{name}" style="width:{100 * part / most:.1f}%"></i>'
        for part, name in parts
        if part
    )


def _named_counts(title: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    lines = [
        f'<tr><td class="mal-data">{text_html(name, limit=_NAME_MAX)}</td>'
        f'<td class="mal-right mal-keep">{count:,}</td></tr>'
        for name, count in list(counts.items())[:_ROWS_MAX]
    ]
    note = _note(sum(counts.values()), len(counts), _ROWS_MAX)
    return f"<div>{heading_html(title, note)}{inset_html(lines)}</div>"


def _sources(overview: Overview) -> str:
    if not overview.sources:
        return ""
    columns = [column for column in SOURCE_COLUMNS if column.key in _SOURCE_KEYS]
    note = _note(len(overview.sources), len(overview.sources), _SOURCES_MAX)
    table = rows_html(columns, overview.sources[:_SOURCES_MAX])
    return f'{heading_html("Sources", note)}<div class="mal-inset">{table}</div>'
