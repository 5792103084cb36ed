"""The client of a portal: asking it, retrying what is safe to repeat, its events as they come."""

from mcpaudit_lab.client.answers import ReplayAnswer, ToolAnswer
from mcpaudit_lab.client.portal import PortalClient
from mcpaudit_lab.client.pull_report import PullReport
from mcpaudit_lab.client.storing import Stored, StreamRecorder
from mcpaudit_lab.client.stream import EventStream
from mcpaudit_lab.client.stream_items import Gap, StreamCounters

__all__ = [
    "EventStream",
    "Gap",
    "PortalClient",
    "PullReport",
    "ReplayAnswer",
    "Stored",
    "StreamCounters",
    "StreamRecorder",
    "ToolAnswer",
]
