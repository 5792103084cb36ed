"""Any MCP server as a target: by URL, by command, or in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mcpaudit_lab.calls import DEFAULT_PACE, MAX_ANSWER_BYTES, Pace, ToolFacts, facts_of
from mcpaudit_lab.errors import ReplayError
from mcpaudit_lab.portal.http import SecretHeaders

if TYPE_CHECKING:
    import httpx2
    from mcp.client.stdio import StdioServerParameters
    from mcp.server import MCPServer, Server

    from mcpaudit_lab.calls import Outgoing, Refusal
    from mcpaudit_lab.record import Event
    from mcpaudit_lab.replay.mcp_calls import McpCalls

__all__ = ["McpTarget"]

_DIRECT: Final = "tools/call"


class McpTarget:
    """An MCP server.

    Args:
        server: the URL of its streamable HTTP endpoint; a command as a list of words, started anew
            for each plan and run; the SDK's ``StdioServerParameters``; or an ``MCPServer`` or
            ``Server``, called in this process.
        headers: sent with every HTTP request, such as a key. Not shown, and kept nowhere.
        name: which target this is, for the lab's ledger and for resuming. By default the URL
            without query and user, or the program and a hash of the command.
        mode: the protocol's era, as the SDK names it: ``legacy`` (the handshake of the recorded
            portals), ``auto``, or a version.
        timeout_s: how long a call may take, in seconds.
        transport: what sends HTTP requests; httpx2's own by default.
        max_answer_bytes: the most that the answer to one call may have over HTTP.

    Raises:
        ReplayError: an invalid URL or command.
    """

    def __init__(
        self,
        server: str | list[str] | StdioServerParameters | MCPServer[Any] | Server[Any],
        *,
        headers: Mapping[str, str] | None = None,
        name: str = "",
        mode: str = "legacy",
        timeout_s: float = 60.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self.server = server
        self.headers = SecretHeaders(headers or {})
        self.mode = mode
        self.timeout_s = timeout_s
        self.http_transport = transport
        self.max_answer_bytes = max_answer_bytes
        if isinstance(server, str):
            self.transport, default = "http", _url_name(server)
        elif isinstance(server, list) or hasattr(server, "command"):
            self.transport, default = "stdio", _command_name(server)
        else:
            self.transport, default = "in-process", f"in-process:{server.name}"
        self.name = name or default

    def pace(self) -> Pace | None:
        """A burst of five and one every 12 s over HTTP; no limit for your own server."""
        return DEFAULT_PACE if self.transport == "http" else None

    def tools(self) -> dict[str, ToolFacts] | None:
        """The tools of ``tools/list``, all pages; None if the server does not answer."""
        with self.open() as calls:
            listed = calls.list_tools()
        if listed is None:
            return None
        facts = map(facts_of, listed)
        return {tool.name: tool for tool in facts}

    def route(self, event: Event, outgoing: Outgoing, *, via_tryit: bool) -> str | Refusal:
        """There is one way in."""
        del event, outgoing, via_tryit
        return _DIRECT

    @contextmanager
    def open(self) -> Iterator[McpCalls]:
        """Take calls while the block runs; connected at the first one."""
        from mcpaudit_lab.replay.mcp_calls import open_calls

        with open_calls(self) as calls:
            yield calls

    def __repr__(self) -> str:
        return f"McpTarget({self.name!r})"


def _url_name(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ReplayError("the target's URL must start with http:// or https://")
    # Neither user nor query: either may contain a key.
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _command_name(server: Any) -> str:
    words = server if isinstance(server, list) else [server.command, *server.args]
    if not words or not all(isinstance(word, str) and word for word in words[:1]):
        raise ReplayError("a command is a list of words, the program first")
    # Its arguments may contain a key.
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()
    return f"stdio:{Path(words[0]).name}#{digest[:8]}"
