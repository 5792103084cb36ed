"""Where replays go: what plans and runs want of a target, whichever it is.

The user names the target; it never comes from an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from mcpaudit_lab.errors import ReplayError

if TYPE_CHECKING:
    from mcp.client.stdio import StdioServerParameters
    from mcp.server import MCPServer, Server

    from mcpaudit_lab.calls import Answer, Outgoing, Pace, Refusal, ToolFacts
    from mcpaudit_lab.portal import PortalClient
    from mcpaudit_lab.record import Event

__all__ = ["Calls", "Target", "TargetLike", "target_of"]


class Calls(Protocol):
    """An open target: one call at a time."""

    def call(self, event: Event, outgoing: Outgoing, route: str) -> Answer:
        """Send one call and wait for its end. Whatever goes wrong is an answer."""

    def fetch(self, replay_id: str) -> Event | None:
        """The event that the target wrote for a replay; None if it is not available."""


class Target(Protocol):
    """Somebody who takes calls.

    Attributes:
        name: which one it is, in the lab's ledger and for the next process. Without a secret.
        transport: ``http``, ``stdio`` or ``in-process``.
    """

    name: str
    transport: str

    def pace(self) -> Pace | None:
        """How fast calls may come; None for as fast as they do."""

    def tools(self) -> Mapping[str, ToolFacts] | None:
        """Its tools by name; None if it does not list them."""

    def route(self, event: Event, outgoing: Outgoing, *, via_tryit: bool) -> str | Refusal:
        """By which of its doors a call would go in, or why by none. Nothing is called."""

    def open(self) -> AbstractContextManager[Calls]:
        """Take calls while the block runs."""


TargetLike: TypeAlias = (
    "Target | PortalClient | MCPServer[Any] | Server[Any] | StdioServerParameters | str | list[str]"
)


def target_of(target: TargetLike) -> Target:
    """The target that is meant.

    Args:
        target: a :class:`~mcpaudit_lab.PortalClient`; the URL of an MCP endpoint; a command as a
            list of words; an ``MCPServer`` or ``Server`` of this process; or a target itself.

    Raises:
        ReplayError: any other value.
    """
    if isinstance(target, str | list):
        from mcpaudit_lab.replay.mcp_target import McpTarget

        return McpTarget(target)
    if all(hasattr(target, name) for name in ("route", "tools", "open", "pace")):
        return target  # type: ignore[return-value]  # by its methods it is one
    from mcpaudit_lab.portal import PortalClient

    if isinstance(target, PortalClient):
        from mcpaudit_lab.replay.portal_target import PortalTarget

        return PortalTarget(target)
    from mcp.client.stdio import StdioServerParameters
    from mcp.server import MCPServer, Server

    if isinstance(target, MCPServer | Server | StdioServerParameters):
        from mcpaudit_lab.replay.mcp_target import McpTarget

        return McpTarget(target)
    raise ReplayError(
        "a target is a PortalClient, the URL of an MCP endpoint, a command as a list, or a server"
    )
