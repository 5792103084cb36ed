"""What people call: :class:`Lab` and :class:`EventSet`. Thin: it joins the rooms above.

Input: filters, SQL and other people's files. Output: events, frames, comparisons, plans.
"""

from mcpaudit_lab.lab.bundling import BundleReport, CaseReport
from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.lab.event_table import EventTable
from mcpaudit_lab.lab.lab import Lab
from mcpaudit_lab.lab.overview import Overview, bucket_width_s
from mcpaudit_lab.lab.proven_export import verify_export
from mcpaudit_lab.lab.replay_comparisons import ReplayComparisons
from mcpaudit_lab.lab.sandbox import Sandbox
from mcpaudit_lab.lab.session import Session
from mcpaudit_lab.lab.table_heads import column_head
from mcpaudit_lab.lab.verification import Verification, verify_database

__all__ = [
    "BundleReport",
    "CaseReport",
    "EventSet",
    "EventTable",
    "Lab",
    "Overview",
    "ReplayComparisons",
    "Sandbox",
    "Session",
    "Verification",
    "bucket_width_s",
    "column_head",
    "verify_database",
    "verify_export",
]
