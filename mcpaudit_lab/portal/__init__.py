"""The client of a portal: :class:`PortalClient` joins asking, streaming and calling.

Input: a URL and a key. Output: events, streams, statistics, and the results of calls.
"""

from mcpaudit_lab.portal.client import PortalClient, ReplayAnswer, ToolAnswer

__all__ = ["PortalClient", "ReplayAnswer", "ToolAnswer"]
