"""Assembles a portal from a database URL: store, minted keys, rate limits, default server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.record import CapturePolicy
from mcpaudit_lab.server.audit import AsyncLogger
from mcpaudit_lab.server.auth import MemoryKeyStore, SqlKeyStore, SqlTokenBuckets
from mcpaudit_lab.server.http import PortalOptions, portal_app
from mcpaudit_lab.server.stores import SqlLogger
from mcpaudit_lab.server.tools import demo_server, demo_tool_groups, demo_tools

if TYPE_CHECKING:
    from mcp.server import MCPServer, Server
    from starlette.applications import Starlette

    from mcpaudit_lab.server.auth import ApiKeys
    from mcpaudit_lab.server.stores import EventStore

__all__ = ["database_portal_app", "default_portal_app"]


def database_portal_app(
    database: str,
    server: MCPServer[Any] | Server[Any] | None,
    keys: ApiKeys | Mapping[str, str],
    *,
    burst: int = 5,
    refill_s: float = 12.0,
    **settings: Any,
) -> Starlette:
    """A portal with its events, minted keys and replay limits in one database.

    Args:
        database: SQLAlchemy URL: ``sqlite:///audit.db``, ``postgresql+psycopg://…``.
        server: the MCP server; None for the demonstration server.
        keys: API keys.
        burst: replays at once, for each caller.
        refill_s: seconds until one more replay is allowed.
        **settings: for :func:`~mcpaudit_lab.server.http.app.portal_app`.

    Raises:
        ValueError: the URL is invalid.
        StoreUnavailable: the database is unavailable.
    """
    store = SqlLogger(database)
    try:
        settings.setdefault("key_store", SqlKeyStore(store.engine))
        settings.setdefault("limiter", SqlTokenBuckets(store.engine, burst, refill_s))
        return default_portal_app(server, store, keys, **settings)
    except BaseException:
        store.close()
        raise


def default_portal_app(
    server: MCPServer[Any] | Server[Any] | None,
    logger: AsyncLogger | EventStore,
    keys: ApiKeys | Mapping[str, str],
    **settings: Any,
) -> Starlette:
    """A portal that mints keys; ``server`` None means the demonstration server.

    Args:
        server: the MCP server, or None.
        logger: receives the events.
        keys: API keys.
        **settings: for :func:`~mcpaudit_lab.server.http.app.portal_app`.
    """
    settings.setdefault("key_store", MemoryKeyStore())
    if server is None:
        server = demo_server()
        settings.setdefault("policy", CapturePolicy(tool_groups=demo_tool_groups()))
        options = settings.get("options") or PortalOptions()
        if not options.tool_summaries:
            summaries = {tool.name: tool.summary for tool in demo_tools()}
            settings["options"] = replace(options, tool_summaries=summaries)
    return portal_app(server, logger, keys, **settings)
