"""The live tail without its widget: the events kept, counted and shown of a stream.

Input: a stream's events. Output: rows as text, frames and counts. The widget is in the display.
"""

from mcpaudit_lab.portal.tail.history import Pulse
from mcpaudit_lab.portal.tail.rows import Line, line_of, lines_text, row_of
from mcpaudit_lab.portal.tail.state import Batch, TailState
from mcpaudit_lab.portal.tail.tail import Tail, TailStatus

__all__ = [
    "Batch",
    "Line",
    "Pulse",
    "Tail",
    "TailState",
    "TailStatus",
    "line_of",
    "lines_text",
    "row_of",
]
