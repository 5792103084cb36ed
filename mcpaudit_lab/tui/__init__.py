"""A lab in a full-screen terminal: a list to filter, cards, comparisons, a plan of replays.

Input: a lab. Output: an application for a terminal. It needs textual, the extra ``tui``. Nothing is
called and nothing is written from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.tui.app import Browser

__all__ = ["Browser"]

__getattr__, __dir__ = lazy_names(__name__, {"app": ("Browser",)})
