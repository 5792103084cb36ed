"""A portal's live stream: frames, reconnection, backfill of gaps, recording.

Input: bytes of server-sent events. Output: events without duplicates, and remaining gaps.
"""

from mcpaudit_lab.portal.stream.event_stream import EventStream
from mcpaudit_lab.portal.stream.items import Gap, StreamCounters
from mcpaudit_lab.portal.stream.recorder import Stored, StreamRecorder

__all__ = ["EventStream", "Gap", "Stored", "StreamCounters", "StreamRecorder"]
