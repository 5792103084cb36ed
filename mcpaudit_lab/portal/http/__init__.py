"""Asking a portal over HTTP: requests, retries, pages, errors, statistics.

Input: filters. Output: events, counts and frames, or an error that says what to do about it.
Nothing here changes a portal.
"""

from mcpaudit_lab.portal.http.clock import PortalClock, moment_of_us
from mcpaudit_lab.portal.http.credentials import SecretHeaders
from mcpaudit_lab.portal.http.details import UNREADABLE_STATUS, ask_ahead
from mcpaudit_lab.portal.http.interruption import Interruption
from mcpaudit_lab.portal.http.paging import PAGE_ROWS, ListedLine, read_line, walk_back
from mcpaudit_lab.portal.http.reading import AUDIT_PATH, PortalReader
from mcpaudit_lab.portal.http.request import EventRequest, make_request, on_summaries, request_key
from mcpaudit_lab.portal.http.statistics import PortalCounter

__all__ = [
    "AUDIT_PATH",
    "PAGE_ROWS",
    "UNREADABLE_STATUS",
    "EventRequest",
    "Interruption",
    "ListedLine",
    "PortalClock",
    "PortalCounter",
    "PortalReader",
    "SecretHeaders",
    "ask_ahead",
    "make_request",
    "moment_of_us",
    "on_summaries",
    "read_line",
    "request_key",
    "walk_back",
]
