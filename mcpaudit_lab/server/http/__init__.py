"""A portal's HTTP routes: lists, exports, aggregates, stream, calls, keys, MCP endpoint.

Input: requests. Output: responses as in the wire contract. :func:`portal_app` assembles them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.server.http.app import portal_app
    from mcpaudit_lab.server.http.drain import Drain
    from mcpaudit_lab.server.http.middleware import LOOPBACK_HOSTS, HostCheck
    from mcpaudit_lab.server.http.portal import Portal, PortalOptions

__all__ = ["LOOPBACK_HOSTS", "Drain", "HostCheck", "Portal", "PortalOptions", "portal_app"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "app": ("portal_app",),
        "drain": ("Drain",),
        "middleware": (
            "HostCheck",
            "LOOPBACK_HOSTS",
        ),
        "portal": (
            "Portal",
            "PortalOptions",
        ),
    },
)
