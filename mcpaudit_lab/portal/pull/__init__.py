"""Incremental copies of a portal's events into a lab.

Input: a portal, filters and a lab. Output: a report that compares with the portal's own counts.
"""

from mcpaudit_lab.portal.pull.pulling import pull_events
from mcpaudit_lab.portal.pull.report import PullReport
from mcpaudit_lab.portal.pull.verification import changed_events, follow_log

__all__ = ["PullReport", "changed_events", "follow_log", "pull_events"]
