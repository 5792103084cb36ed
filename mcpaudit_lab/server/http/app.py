"""Assembles the portal as an ASGI application, to run or to mount."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp.server import MCPServer, Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from mcpaudit_lab.calls import RateLimiter, TokenBuckets
from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.proof import LogSigner
from mcpaudit_lab.record import CapturePolicy
from mcpaudit_lab.server.audit import AsyncLogger, AuditMiddleware, add_audit, open_in_process
from mcpaudit_lab.server.auth import ApiKeys, Authenticator, OidcConfig, OidcVerifier
from mcpaudit_lab.server.http import calls as http_calls
from mcpaudit_lab.server.http import events as http_events
from mcpaudit_lab.server.http import keys as http_keys
from mcpaudit_lab.server.http import portal_info, proofs, stream
from mcpaudit_lab.server.http.mcp_endpoint import McpEndpoint
from mcpaudit_lab.server.http.middleware import CorsHeaders, HostCheck
from mcpaudit_lab.server.http.portal import Handler, Portal, PortalOptions
from mcpaudit_lab.server.stores import EventLog, SqlLogger, log_key_path

if TYPE_CHECKING:
    from mcpaudit_lab.server.auth import KeyStore
    from mcpaudit_lab.server.stores import EventStore

__all__ = ["portal_app"]

_PORTAL: Final = "/api/v1/portal"
_ADMIN: Final = "/api/v1/admin"
# Method, path, handler. As recorded, all other requests go to MCP, even a GET of the replay route.
_ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", f"{_PORTAL}/me", portal_info.show_me),
    ("GET", f"{_PORTAL}/tools", portal_info.list_tools),
    ("GET", f"{_PORTAL}/tools/{{name}}", portal_info.show_tool),
    ("GET", f"{_PORTAL}/instructions", portal_info.show_instructions),
    ("GET", f"{_PORTAL}/server", portal_info.show_server),
    ("GET", f"{_PORTAL}/wellknown", portal_info.show_wellknown),
    ("GET", f"{_PORTAL}/dashboard", http_events.show_dashboard),
    ("GET", f"{_PORTAL}/audit/meta", http_events.show_meta),
    ("GET", f"{_PORTAL}/audit/events", http_events.list_events),
    ("GET", f"{_PORTAL}/audit/events/{{event_id}}", http_events.show_event),
    ("POST", f"{_PORTAL}/audit/events/{{event_id}}/replay", http_calls.replay_event),
    ("GET", f"{_PORTAL}/audit/tool-lists", http_events.list_tool_lists),
    ("GET", f"{_PORTAL}/audit/export", http_events.export_events),
    ("GET", f"{_PORTAL}/audit/timeseries", http_events.show_timeseries),
    ("GET", f"{_PORTAL}/audit/breakdown", http_events.show_breakdown),
    ("GET", f"{_PORTAL}/audit/checkpoint", proofs.show_checkpoint),
    ("GET", f"{_PORTAL}/audit/proof", proofs.show_inclusion),
    ("GET", f"{_PORTAL}/audit/consistency", proofs.show_consistency),
    ("GET", f"{_PORTAL}/audit/leaves", proofs.list_leaves),
    ("GET", f"{_PORTAL}/audit/stream", stream.open_stream),
    ("POST", f"{_ADMIN}/tryit/{{name}}", http_calls.try_tool),
    ("GET", f"{_ADMIN}/keys", http_keys.list_keys),
    ("POST", f"{_ADMIN}/keys", http_keys.mint_key),
    ("DELETE", f"{_ADMIN}/keys/{{name}}", http_keys.revoke_key),
)


_messages = logging.getLogger(__name__)

_CHECKPOINT_S: Final = 0.5


def portal_app(
    server: MCPServer[Any] | Server[Any],
    logger: AsyncLogger | EventStore,
    keys: ApiKeys | Mapping[str, str] | None = None,
    *,
    key_store: KeyStore | None = None,
    oidc: OidcConfig | OidcVerifier | None = None,
    limiter: RateLimiter | None = None,
    policy: CapturePolicy | None = None,
    options: PortalOptions | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Starlette:
    """Create the portal of an MCP server: its events over HTTP, and the server at ``/mcp``.

    Audits the server, unless it is audited already. To mount the portal in another application, run
    its ``router.lifespan_context`` inside that application's lifespan.

    Args:
        server: the MCP server; MCP is also served at every path that is not a portal route.
        logger: where events are written and read. A store is wrapped in an ``AsyncLogger`` and
            closed when the application ends; an ``AsyncLogger`` must be closed by its owner.
        keys: API keys: name to key, or an ``ApiKeys``.
        key_store: store of minted keys; None disables minting.
        oidc: accepted bearer tokens; None accepts none.
        limiter: rate limit of replays; None: in this process, five at once and one more every 12 s
            for each caller.
        policy: what to store of a call, if the server is not audited yet; and the tool groups.
        options: settings; by default only requests for a loopback host are served.
        now: the current time, with a zone.

    Returns:
        The application. ``app.state.portal`` is its :class:`.server.http.portal.Portal`.

    Raises:
        ValueError: the server is audited already, by a logger other than this portal's.
    """
    low: Server[Any] = (
        server._lowlevel_server  # noqa: SLF001 - the SDK has no public name for it yet
        if isinstance(server, MCPServer)
        else server
    )
    audit_logger = logger if isinstance(logger, AsyncLogger) else AsyncLogger(logger)
    owned = None if audit_logger is logger else audit_logger
    audit = next((item for item in low.middleware if isinstance(item, AuditMiddleware)), None)
    if audit is None:
        audit = add_audit(low, audit_logger, policy=policy)
    elif audit.logger not in (audit_logger, logger):
        raise ValueError(
            "this server is audited already by another logger: pass the portal the logger that was"
            " passed to add_audit, or a new server"
        )
    options = options or PortalOptions()
    portal = Portal(
        audit_logger,
        Authenticator(
            keys if isinstance(keys, ApiKeys) else ApiKeys(keys or {}),
            key_store,
            OidcVerifier(oidc) if isinstance(oidc, OidcConfig) else oidc,
            now=now,
        ),
        TokenBuckets() if limiter is None else limiter,
        options,
        tool_groups=(policy or audit.policy).tool_groups,
        now=now,
    )
    portal.log = _open_log(audit_logger.store, options)
    portal.server_name = low.name
    portal.server_version = low.version or ""
    portal.instructions = (
        options.instructions if options.instructions is not None else low.instructions or ""
    )
    endpoint = McpEndpoint(portal)
    app = Starlette(
        routes=_routes(portal, endpoint),
        middleware=_middleware(options),
        lifespan=lambda _: _run(portal, low, endpoint, owned),
    )
    app.state.portal = portal
    return app


def _routes(portal: Portal, endpoint: McpEndpoint) -> list[Route | Mount]:
    # The mount below would serve /mcp too; listed first because most requests are MCP calls.
    routes: list[Route | Mount] = [Route("/mcp", endpoint)]
    routes += [
        Route(path, show, methods=["GET"])
        for path, show in portal_info.public_routes(portal).items()
    ]
    routes += [
        Route(path, portal.endpoint(handler), methods=[method]) for method, path, handler in _ROUTES
    ]
    routes.append(Mount("/", endpoint))
    return routes


def _middleware(options: PortalOptions) -> list[Middleware]:
    found = [
        Middleware(HostCheck, hosts=options.allowed_hosts, origins=options.cors_origins),
    ]
    if options.cors_origins:
        found.insert(0, Middleware(CorsHeaders, origins=options.cors_origins))
    return found


async def _keep_log(log: EventLog) -> None:
    """Sign a checkpoint within a second after each commit."""
    while True:
        try:
            # anyio waits for the thread when cancelled: no connection may outlive the store.
            await anyio.to_thread.run_sync(log.sync)
        except StoreUnavailable as error:
            _messages.warning("the log could not be extended: %s", error)
        await anyio.sleep(_CHECKPOINT_S)


def _open_log(store: object, options: PortalOptions) -> EventLog | None:
    """The Merkle log of a store in a database; None for others, or if it is switched off."""
    if not isinstance(store, SqlLogger) or not store.tables.numbered or not options.log:
        return None
    path = options.log_key or log_key_path(store.engine)
    if path is None:
        return None
    return EventLog(store, LogSigner.from_file(Path(path)))


@asynccontextmanager
async def _run(
    portal: Portal, server: Server[Any], endpoint: McpEndpoint, owned: AsyncLogger | None
) -> AsyncIterator[None]:
    manager = StreamableHTTPSessionManager(app=server)
    async with AsyncExitStack() as stack:
        if owned is not None:
            await stack.enter_async_context(owned)
        portal.caller = await stack.enter_async_context(open_in_process(server))
        await stack.enter_async_context(manager.run())
        watchers = await stack.enter_async_context(anyio.create_task_group())
        watchers.start_soon(portal.drain.watch_signals)
        if portal.log is not None:
            watchers.start_soon(_keep_log, portal.log)
        endpoint.use(manager)
        try:
            yield
        finally:
            portal.drain.begin()
            watchers.cancel_scope.cancel()
            endpoint.use(None)
            portal.caller = None
