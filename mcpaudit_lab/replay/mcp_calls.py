"""Calls to an MCP server through the SDK's client, and what their outcomes mean.

The client runs in a thread with its own event loop, independent of a notebook's loop. The
connection is kept between calls, since a server may keep state in it, and opened again after a
failure. No call is ever sent twice: the SDK's own retries are bypassed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import httpx2
import mcp_types as types
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from pydantic import RootModel, ValidationError

from mcpaudit_lab.calls import Answer, ReplayStatus, scrubbed_logs
from mcpaudit_lab.record import REDACTED, VERSION, dumps, format_time
from mcpaudit_lab.replay.mcp_wire import CallOnTheWire, ExactTransport, exact_stdio, failed_answer

if TYPE_CHECKING:
    from mcp.client._transport import Transport
    from mcp.server import MCPServer, Server

    from mcpaudit_lab.calls import Outgoing
    from mcpaudit_lab.portal.http import SecretHeaders
    from mcpaudit_lab.record import Event

__all__ = ["McpCalls", "open_calls"]

_CONNECT_S: Final = 30.0
# The SDK's own limit comes first; this one is for a connection that died under it.
_GRACE_S: Final = 5.0
_PAGES_MAX: Final = 100


class _Anything(RootModel[dict[str, Any]]):
    """A result as received: the SDK's model would drop members it does not know."""


class McpServer(Protocol):
    """The server to call, as :class:`~mcpaudit_lab.replay.mcp_target.McpTarget` describes it."""

    @property
    def server(self) -> str | list[str] | StdioServerParameters | MCPServer[Any] | Server[Any]: ...
    @property
    def name(self) -> str: ...
    @property
    def transport(self) -> str: ...
    @property
    def headers(self) -> SecretHeaders: ...
    @property
    def mode(self) -> str: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def http_transport(self) -> httpx2.AsyncBaseTransport | None: ...
    @property
    def max_answer_bytes(self) -> int: ...


@contextmanager
def open_calls(target: McpServer) -> Iterator[McpCalls]:
    """Take calls while the block runs."""
    with start_blocking_portal() as portal:
        calls = McpCalls(target, portal)
        try:
            yield calls
        finally:
            calls.disconnect()


class McpCalls:
    """An MCP server that takes calls. Made by :func:`open_calls`.

    Args:
        target: which one.
        portal: the thread in which its client lives.
    """

    def __init__(self, target: McpServer, portal: BlockingPortal) -> None:
        self._target = target
        self._portal = portal
        self._wire = CallOnTheWire()
        self._notifications: list[dict[str, Any]] = []
        self._connection: ExitStack | None = None
        self._client: Client | None = None

    def list_tools(self) -> list[dict[str, Any]] | None:
        """The tools in their JSON form; None where the server lists none, or not now."""
        try:
            listed: list[dict[str, Any]] = self._portal.call(_list_tools, self._connect())
        except Exception:  # noqa: BLE001 - of whatever kind: nobody vouches for anything then
            self.disconnect()
            return None
        return listed

    def call(self, event: Event, outgoing: Outgoing, route: str) -> Answer:
        """Send one call and wait for its end. Whatever goes wrong is an answer."""
        del route
        with scrubbed_logs(outgoing.scrubber):
            return self._call(event.tool_name, outgoing.arguments).scrubbed(outgoing.scrubber)

    def fetch(self, replay_id: str) -> Event | None:
        """None: an MCP server shows no events."""
        del replay_id
        return None

    def _call(self, name: str, arguments: Any) -> Answer:
        started, begin = datetime.now(UTC), time.monotonic()
        self._notifications.clear()
        self._wire.begin(arguments)
        try:
            client = self._connect()
            request = self._request(name, arguments)
        except Exception as error:  # noqa: BLE001 - nothing was sent, of whatever kind it is
            self.disconnect()
            answer = Answer(ReplayStatus.UNSENT, error=_reason(error))
        else:
            started, begin = datetime.now(UTC), time.monotonic()
            answer = self._portal.call(self._ask, client, request)
        elapsed_ms = round((time.monotonic() - begin) * 1000)
        if answer.status in (ReplayStatus.UNCERTAIN, ReplayStatus.UNSENT):
            self.disconnect()
        return Answer(
            answer.status,
            answer.result,
            answer.error,
            tuple(self._notifications),
            started,
            elapsed_ms,
            retry_after_s=answer.retry_after_s,
        )

    def _request(self, name: str, arguments: Any) -> types.CallToolRequest:
        if arguments is None:
            shown = None
        elif self._target.transport == "in-process":
            # As it would be parsed from JSON text, which does not exist here.
            shown = json.loads(dumps(arguments))
        elif self._target.mode == "legacy":
            shown = {}
        else:
            # The later era repeats some arguments in headers.
            shown = json.loads(dumps(arguments, lossy=True))
        if self._target.transport == "in-process":
            self._wire.sent = True
        params = types.CallToolRequestParams(name=name, arguments=shown)
        return types.CallToolRequest(params=params)

    async def _ask(self, client: Client, request: types.CallToolRequest) -> Answer:
        try:
            with anyio.fail_after(self._target.timeout_s + _GRACE_S):
                raw = await client.session.send_request(
                    request,
                    _Anything,
                    request_read_timeout_seconds=self._target.timeout_s,
                    progress_callback=self._progressed,
                )
                # Notifications that came before the answer are handled by tasks of their own.
                for _ in range(3):
                    await anyio.lowlevel.checkpoint()
        except MCPError as error:
            return failed_answer(self._wire, error.error.code, error.error.message)
        except ValidationError:
            return Answer(ReplayStatus.FAILED, error="the response is not a tool result")
        except TimeoutError:
            return Answer(ReplayStatus.UNCERTAIN, error="no answer in time")
        except Exception as error:  # noqa: BLE001 - whatever it was, it was after the sending
            status = ReplayStatus.UNCERTAIN if self._wire.sent else ReplayStatus.UNSENT
            return Answer(status, error=_reason(error))
        return _answered(raw.root)

    # The connection

    def _connect(self) -> Client:
        if self._client is not None:
            return self._client
        connection = ExitStack()
        try:
            client = connection.enter_context(self._opened())
        except BaseException:
            with suppress(Exception):
                connection.close()
            raise
        self._connection, self._client = connection, client
        return client

    def disconnect(self) -> None:
        """Let the connection go; the next call makes a new one."""
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            # The call that broke the connection reported the error.
            with suppress(Exception):
                connection.close()

    def _opened(self) -> AbstractContextManager[Client]:
        return self._portal.wrap_async_context_manager(_Connected(self))

    def client(self, transport: Transport | None) -> Client:
        """A client that is not connected yet, over a transport or in this process."""
        server: Any = self._target.server if transport is None else transport
        return Client(
            server,
            mode=self._target.mode,
            read_timeout_seconds=min(self._target.timeout_s, _CONNECT_S),
            message_handler=self._heard,
            client_info=types.Implementation(name="mcpaudit-lab", version=VERSION),
            log_level="debug",
            cache=None,
        )

    def transport(self) -> tuple[Transport | None, httpx2.AsyncClient | None]:
        """The transport of the target and the HTTP client to close after it."""
        server = self._target.server
        if isinstance(server, str):
            http = httpx2.AsyncClient(
                transport=ExactTransport(
                    self._wire,
                    self._target.http_transport,
                    max_bytes=self._target.max_answer_bytes,
                ),
                headers=self._target.headers,
                timeout=httpx2.Timeout(_CONNECT_S, read=self._target.timeout_s),
            )
            return (
                streamable_http_client(
                    server, http_client=http, max_sse_event_size=self._target.max_answer_bytes
                ),
                http,
            )
        if isinstance(server, list):
            # The caller's own command sees the caller's own environment.
            server = StdioServerParameters(command=server[0], args=server[1:], env=dict(os.environ))
        if isinstance(server, StdioServerParameters):
            return exact_stdio(server, self._wire), None
        return None, None

    # Notifications during the call

    async def _heard(self, message: Any) -> None:
        if not isinstance(message, Exception):
            self._note(message.model_dump(by_alias=True, mode="json", exclude_none=True))

    async def _progressed(self, progress: float, total: float | None, message: str | None) -> None:
        # Over a transport the notification itself is heard, as it came.
        if self._target.transport == "in-process" and self._target.mode != "legacy":
            params = {"progress": progress, "total": total, "message": message}
            given = {name: value for name, value in params.items() if value is not None}
            self._note({"method": "notifications/progress", "params": given})

    def _note(self, notification: dict[str, Any]) -> None:
        params = notification.get("params")
        if isinstance(params, dict) and "progressToken" in params:
            params = {**params, "progressToken": REDACTED}
        noted = {"ts": format_time(datetime.now(UTC)), "method": notification.get("method", "")}
        self._notifications.append(noted if params is None else {**noted, "params": params})


class _Connected:
    """A connected client while an asynchronous block runs."""

    def __init__(self, calls: McpCalls) -> None:
        self._calls = calls

    async def __aenter__(self) -> Client:
        transport, self._http = self._calls.transport()
        self._client = self._calls.client(transport)
        try:
            # No cancel scope of ours around it: the scopes that it opens stay open.
            return await self._client.__aenter__()
        except BaseException:
            if self._http is not None:
                await self._http.aclose()
            raise

    async def __aexit__(self, *exc: Any) -> None:  # noqa: PYI036 - handed on as it is
        try:
            await self._client.__aexit__(*exc)
        finally:
            if self._http is not None:
                await self._http.aclose()


async def _list_tools(client: Client) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = []
    cursor: str | None = None
    for _ in range(_PAGES_MAX):
        with anyio.fail_after(_CONNECT_S):
            page = await client.list_tools(cursor=cursor)
        tools += [
            tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in page.tools
        ]
        cursor = page.next_cursor
        if not cursor:
            break
    return tools


def _answered(raw: dict[str, Any]) -> Answer:
    kind = raw.get("resultType", "complete")
    if kind != "complete" or "content" not in raw:
        return Answer(ReplayStatus.FAILED, error="the tool asks for more input")
    result = {name: value for name, value in raw.items() if name not in ("resultType", "_meta")}
    result.setdefault("isError", False)
    failed = result["isError"] is True
    return Answer(ReplayStatus.FAILED if failed else ReplayStatus.SUCCEEDED, result)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
