"""Pulls a portal's events and tool lists into a lab, and verifies them against the portal's log."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.portal.http import PortalReader, request_key
from mcpaudit_lab.portal.pull.listed_rows import ListedRows
from mcpaudit_lab.portal.pull.pull import Pull
from mcpaudit_lab.portal.pull.pull_log import PullLog
from mcpaudit_lab.portal.pull.verification import verify_pull
from mcpaudit_lab.storage import progress_bar

if TYPE_CHECKING:
    from mcpaudit_lab.portal.pull.report import PullReport
    from mcpaudit_lab.storage.load import LabStore

__all__ = ["pull_events"]


def pull_events(
    portal: PortalReader,
    filters: tuple[EventFilter, ...],
    lab: LabStore,
    *,
    payloads: bool,
    progress: bool | None,
    check_ids: bool | None = None,
    log_key: str | None = None,
) -> PullReport:
    """Pull events and tool lists into a lab. The arguments are those of :meth:`Lab.pull`."""
    text = request_key(filters, reference=portal.is_reference)
    add = partial(lab.add_lines, kind="portal", name=portal.url)
    log = PullLog(lab, portal.url, text)
    pull = Pull(
        portal,
        filters,
        log,
        add=add,
        listed_again=partial(ListedRows, lab),
        payloads=payloads,
        check_ids=check_ids,
    )
    every = all(item == EventFilter() for item in filters)
    checkpoint = portal.checkpoint()
    total = pull.begin()
    with progress_bar(progress, total=total, unit="events", label="pull") as advance:
        report = pull.run(advance)
    if not report.complete:
        return report
    lab.add_tool_lists(portal.tool_lists())
    verified = verify_pull(
        lab, portal, text if every else None, log_key, checkpoint, differing=pull.changed
    )
    return report if verified is None else report.with_verified(*verified)
