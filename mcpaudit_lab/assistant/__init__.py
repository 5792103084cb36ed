"""An MCP server through which an assistant asks a lab. It reads; it cannot call or change anything.

Input: an open lab. Output: an MCP server with tools and resources, for stdio or a portal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.assistant.serving import serve_stdio
    from mcpaudit_lab.assistant.tools import assistant_server

__all__ = ["assistant_server", "serve_stdio"]

__getattr__, __dir__ = lazy_names(
    __name__, {"serving": ("serve_stdio",), "tools": ("assistant_server",)}
)
