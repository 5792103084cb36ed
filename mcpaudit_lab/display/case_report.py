"""The report of a bundle: one HTML page that opens offline, without a script, and prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.display.comparison_view import comparison_html
from mcpaudit_lab.display.event_card import event_html, outcome_of
from mcpaudit_lab.display.html import (
    badge_html,
    data_html,
    facts_html,
    heading_html,
    note_html,
    page_html,
    text_html,
    title_html,
    whole_page_html,
)
from mcpaudit_lab.display.tables_html import rows_html
from mcpaudit_lab.display.terminal_tables import EVENT_COLUMNS, SOURCE_COLUMNS
from mcpaudit_lab.record import counted

if TYPE_CHECKING:
    from mcpaudit_lab.lab import CaseReport
    from mcpaudit_lab.record import Event

__all__ = ["case_report_html"]

_CARDS_MAX: Final = 200
_ROWS_MAX: Final = 2000
_SOURCES_MAX: Final = 200
_TEXT_MAX: Final = 20_000


def case_report_html(report: CaseReport) -> str:
    """The whole page."""
    shown = list(islice(report.events, _ROWS_MAX))
    parts = [
        _summary(report),
        *([_findings(report.findings)] if report.findings else []),
        *map(comparison_html, report.comparisons),
        _events(report, shown),
        *map(event_html, shown[:_CARDS_MAX]),
        _sources(report),
    ]
    return whole_page_html(report.title or "Case", parts)


def _summary(report: CaseReport) -> str:
    facts = [
        ("events", f"{report.count:,}: {data_html(report.chosen)}"),
        ("proven", f"{report.proven:,} of {report.count:,} are in a portal's signed log"),
        ("redacted", f"values were taken out of {report.redacted:,}" if report.redacted else ""),
        ("findings", f"{len(report.findings):,}"),
        ("comparisons", f"{len(report.comparisons):,}"),
    ]
    check = note_html("python verify.py, beside this page, says whether the bundle holds.")
    body = f'<div class="mal-body">{facts_html(facts)}{check}</div>'
    return page_html(title_html(data_html(report.title or "Case")), body, label="the case")


def _findings(findings: Iterable[Mapping[str, Any]]) -> str:
    parts = []
    for item in findings:
        tags = "".join(badge_html(tag) for tag in item.get("tags", ()))
        who = data_html(str(item.get("by") or ""))
        when = text_html(str(item.get("at") or ""))
        text = text_html(str(item["text"]), limit=_TEXT_MAX, lines=True)
        ids = item.get("events", ())
        about = f"about {counted(len(ids), 'event')}: {', '.join(ids[:5])}" if ids else ""
        if len(ids) > 5:
            about += " and others, see findings.jsonl"
        if item.get("superseded_by"):
            tags += badge_html(f"superseded by note {item['superseded_by']}")
        head = f'<p><span class="mal-small">{when} {who}</span> {tags}</p>' if who or tags else ""
        parts.append(
            f'{head}<div class="mal-text mal-data">{text}</div>'
            + (f'<p class="mal-small">{text_html(about)}</p>' if about else "")
        )
    body = f'<div class="mal-body">{"".join(parts)}</div>'
    return page_html(title_html("Findings"), body, label="findings")


def _events(report: CaseReport, shown: list[Event]) -> str:
    rows = [
        {
            "ts": event.timestamp,
            "tool_name": event.tool_name,
            "outcome": outcome_of(event),
            "duration_ms": event.duration_ms,
            "user_subject": event.user_subject,
            "id": event.id,
        }
        for event in shown
    ]
    notes = []
    if report.count > len(shown):
        notes.append(f"The first {len(shown):,} of {report.count:,}; events.jsonl has all of them.")
    if report.count > _CARDS_MAX:
        notes.append(f"The first {_CARDS_MAX:,} follow as cards.")
    body = "".join(map(note_html, notes)) + rows_html(EVENT_COLUMNS, rows)
    return page_html(
        title_html("Events, oldest first"), f'<div class="mal-body">{body}</div>', label="events"
    )


def _sources(report: CaseReport) -> str:
    names = [column.key for column in SOURCE_COLUMNS]
    rows = [{name: row.get(name) for name in names} for row in report.sources[:_SOURCES_MAX]]
    left = len(report.sources) - len(rows)
    note = note_html(f"{left:,} more are in ledger.jsonl.") if left else ""
    chain = str(report.sources[-1]["chain"]) if report.sources else ""
    body = (
        heading_html("Sources", "what the lab was loaded from")
        + rows_html(SOURCE_COLUMNS, rows)
        + note
        + (note_html(f"The chain over the whole ledger: {chain}") if chain else "")
    )
    return page_html(f'<div class="mal-body">{body}</div>', label="sources")
