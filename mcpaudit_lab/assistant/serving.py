"""Serves an assistant over standard input and output, with its calls audited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from mcpaudit_lab.server import AsyncLogger, SqlLogger, add_audit

if TYPE_CHECKING:
    from mcp.server import MCPServer

__all__ = ["serve_stdio"]


def serve_stdio(server: MCPServer[Any], database: str) -> None:
    """Serve until the client closes standard input.

    Args:
        server: the server.
        database: SQLAlchemy URL of the database for its own calls.

    Raises:
        ValueError: the URL is invalid.
        StoreUnavailable: the database is unavailable.
    """

    async def run() -> None:
        async with AsyncLogger(SqlLogger(database)) as logger:
            add_audit(server, logger)
            await server.run_stdio_async()

    anyio.run(run)
