"""The client of a portal: asking it, retrying what is safe to repeat, pulling its events."""

from mcpaudit_lab.client.answers import ReplayAnswer, ToolAnswer
from mcpaudit_lab.client.portal import PortalClient
from mcpaudit_lab.client.pull_report import PullReport

__all__ = ["PortalClient", "PullReport", "ReplayAnswer", "ToolAnswer"]
