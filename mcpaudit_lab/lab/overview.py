"""A summary of a case: the contents of a lab in numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.record import counted, format_time, render_html, visible
from mcpaudit_lab.storage import records

if TYPE_CHECKING:
    from mcpaudit_lab.storage.load import LabStore

__all__ = ["Overview", "bucket_width_s", "make_overview"]

_BARS: Final = 60
# Widths that people count in, in seconds; beyond a week, multiples of it.
_WIDTHS_S: Final = (1, 5, 10, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 604800)
_TEXT_ROWS: Final = 5
_NAME_MAX: Final = 40

_COUNTS: Final = """
    select min(ts) as first, max(ts) as last,
        count(*) as events,
        count(*) filter (not success) as failed,
        count(distinct tool_name) as tools,
        count(distinct nullif(user_subject, '')) as users,
        count(distinct nullif(session_id, '')) as sessions,
        max(duration_ms) as longest_ms
    from audit_events"""

# A mark is a whole text: behind it the member or the list ends. Go writes "<" as an escape.
_MARK: Final = r'"(\[redacted\]|(<|\\u003c)redacted[^<>"]*(>|\\u003e)|\*{3,})"\s*([,}\]]|$)'
_PAYLOADS: Final = """
    select count(*) as payloads,
        count(*) filter (
            request_truncated or response_truncated or notifications_truncated
        ) as truncated,
        count(*) filter (
            regexp_matches(request_params, $mark, 'i')
            or regexp_matches(response_result, $mark, 'i')
        ) as redacted,
        count(replayed_from) as replays
    from audit_payloads"""

_REJECTS: Final = (
    "select reason, count(*) as lines from rejects group by reason order by lines desc, reason"
)


@dataclass(frozen=True, slots=True, repr=False)
class Overview:
    """What :meth:`Lab.overview` found. Shows as a page in a notebook, and prints as text.

    Attributes:
        name: the lab's file, or ``in memory``.
        first: start of the first call (UTC), None without an event.
        last: start of the last one.
        counts: ``events``, ``failed``, ``tools``, ``users``, ``sessions``, ``payloads`` (events
            with request and response), ``replays``, ``redacted`` (with a redacted argument or
            result), ``truncated``, ``longest_ms``, ``sources``, ``rejected`` lines.
        tools: :meth:`EventSet.stats` by tool, as rows.
        users: :meth:`EventSet.breakdown` by user.
        failures: how many failures of each category, most frequent first.
        series: :meth:`EventSet.timeseries`, as rows.
        bucket_s: the width of its buckets in seconds.
        sources: rows of :meth:`Lab.sources`.
        rejects: how many lines were rejected for which reason.
    """

    name: str
    first: datetime | None
    last: datetime | None
    counts: dict[str, int]
    tools: tuple[dict[str, Any], ...]
    users: tuple[dict[str, Any], ...]
    failures: dict[str, int]
    series: tuple[dict[str, Any], ...]
    bucket_s: int
    sources: tuple[dict[str, Any], ...]
    rejects: dict[str, int]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The page for a notebook."""
        return render_html("overview", self)

    def _lines(self) -> list[str]:
        counts = self.counts
        lines = [f"Lab {visible(self.name[-200:])}: {counted(counts['events'], 'event')}"]
        if self.first and self.last:
            lines.append(f"  from      {format_time(self.first)} to {format_time(self.last)}")
        redacted, truncated = counts["redacted"], counts["truncated"]
        parts = {
            "failed": f"{counts['failed']:,}{_listed(self.failures)}",
            "sessions": f"{counts['sessions']:,}",
            "payloads": f"{counts['payloads']:,}, {redacted:,} redacted, {truncated:,} truncated",
            "replays": f"{counts['replays']:,}",
            "tools": f"{counts['tools']:,}{_listed(_first(self.tools, 'total'))}",
            "users": f"{counts['users']:,}{_listed(_first(self.users, 'count'))}",
            "sources": f"{counts['sources']:,}",
            "rejected": f"{counted(counts['rejected'], 'line')}{_listed(self.rejects)}",
        }
        lines += [f"  {label:9} {text}" for label, text in parts.items()]
        return lines


def _first(rows: tuple[dict[str, Any], ...], count: str) -> dict[str, int]:
    return {row["key"] or "(none)": row[count] for row in rows}


def _listed(counts: dict[str, int]) -> str:
    """The most frequent, as ``: a 3, b 2, …``."""
    names = [
        f"{visible(name[:_NAME_MAX])}{'…' if len(name) > _NAME_MAX else ''} {count:,}"
        for name, count in list(counts.items())[:_TEXT_ROWS]
    ]
    more = ["…"] if len(counts) > _TEXT_ROWS else []
    return f": {', '.join(names + more)}" if names else ""


def bucket_width_s(span_s: float, buckets: int = _BARS) -> int:
    """A round width in seconds, so that at most this many buckets cover a span."""
    wanted = span_s / buckets
    for width_s in _WIDTHS_S:
        if width_s >= wanted:
            return width_s
    return math.ceil(wanted / _WIDTHS_S[-1]) * _WIDTHS_S[-1]


def make_overview(lab: LabStore) -> Overview:
    """Ask a lab for its overview.

    Raises:
        LabError: the lab is closed.
    """
    (counts,) = records(lab.sql(_COUNTS).df())
    (payloads,) = records(lab.sql(_PAYLOADS, {"mark": _MARK}).df())
    rejects = {row["reason"]: row["lines"] for row in records(lab.sql(_REJECTS).df())}
    sources = records(lab.sources())
    first, last = counts.pop("first"), counts.pop("last")
    bucket_s = bucket_width_s((last - first).total_seconds()) if first else 1
    events = EventSet(lab)
    failures = records(events.where(success=False).breakdown("error_category"))
    return Overview(
        name="in memory" if lab.path is None else str(lab.path),
        first=first,
        last=last,
        counts={
            **{name: int(value or 0) for name, value in {**counts, **payloads}.items()},
            "sources": len(sources),
            "rejected": sum(rejects.values()),
        },
        tools=tuple(records(events.stats(by="tool"))),
        users=tuple(records(events.breakdown("user"))),
        failures={row["key"] or "no category": row["count"] for row in failures},
        series=tuple(records(events.timeseries(f"{bucket_s}s"))),
        bucket_s=bucket_s,
        sources=tuple(sources),
        rejects=rejects,
    )
