"""A portal at work: real calls over HTTP, pulled, planned, replayed, compared.

It uses only what users have: an MCP client calls the tools, the portal writes to SQLite, and its
API returns what it wrote.
"""

from __future__ import annotations

import asyncio
import atexit
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.demo.printing import say, show_lines, show_step

if TYPE_CHECKING:
    from rich.console import Console

    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.portal import PortalClient
    from mcpaudit_lab.replay import ReplayPlan
    from mcpaudit_lab.server import BackgroundPortal

__all__ = ["keep_serving", "live_portal", "say_ended", "show_portal", "start_portal", "told_to_end"]

# Tool and arguments: one structured, one with a seed, one with progress, two that fail in different
# ways, and one with a secret in its arguments.
_CALLS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("echo", {"message": "hello", "extras": {"user": {"id": "alice"}}}),
    ("lorem", {"words": 12, "seed": "demo"}),
    ("progress", {"steps": 3, "step_ms": 20}),
    ("error", {"message": "the disk is on fire", "category": "tool"}),
    ("flaky", {"fail_rate": 1.0, "seed": "demo"}),
    ("echo", {"message": "let me in", "extras": {"password": "correct horse"}}),
)


@contextmanager
def live_portal(**options: Any) -> Iterator[BackgroundPortal]:
    """A portal on a free loopback port, on SQLite in a folder that goes with the block.

    Args:
        **options: as :func:`background_portal` takes them, such as ``keys``.

    Raises:
        RuntimeError: it does not start.
    """
    from mcpaudit_lab.server import background_portal

    with tempfile.TemporaryDirectory(prefix="mcpaudit-demo-") as folder:
        database = Path(folder) / "audit.db"
        with background_portal(database=f"sqlite:///{database.as_posix()}", **options) as portal:
            yield portal


def start_portal(**options: Any) -> BackgroundPortal:
    """Start the same portal for a notebook; it ends with the kernel.

    Args:
        **options: as :func:`background_portal` takes them, such as ``keys``.

    Raises:
        RuntimeError: it does not start.
    """
    running = ExitStack()
    atexit.register(running.close)
    return running.enter_context(live_portal(**options))


def show_portal(console: Console, portal: BackgroundPortal) -> None:
    """Call the tools of a portal, then pull, replay and compare what it recorded.

    Args:
        console: where to print.
        portal: with the demonstration tools, and nothing recorded yet.
    """
    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.portal import PortalClient

    show_step(
        console,
        f"A portal on SQLite at {portal.url}: {len(_CALLS)} calls by an MCP client",
        f'Client(streamable_http_client("{portal.url}/mcp", …))',
    )
    asyncio.run(_call_tools(f"{portal.url}/mcp", portal.headers))
    # A call is answered before its event is stored.
    portal.flush()
    with PortalClient(portal.url, portal.api_key) as client, Lab() as lab:
        _pull(console, client, lab)
        _replay(console, _plan(console, client, lab), lab)


async def _call_tools(url: str, headers: dict[str, str]) -> None:
    """Make the demo's calls over streamable HTTP."""
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        """Take a report of progress; a client that takes none is sent none."""

    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=30) as http,
        # The era with sessions, which are part of the record.
        Client(streamable_http_client(url, http_client=http), mode="legacy") as client,
    ):
        for name, arguments in _CALLS:
            await client.call_tool(name, arguments, progress_callback=heard)


def _pull(console: Console, client: PortalClient, lab: Lab) -> None:
    from mcpaudit_lab.display import EVENT_COLUMNS, event_row, print_table
    from mcpaudit_lab.storage import records

    show_step(
        console,
        "Pulled into a lab, with requests, results and notifications",
        "lab.pull(portal)",
    )
    report = lab.pull(client, progress=False)
    columns = [column.key for column in EVENT_COLUMNS if column.key != "outcome"]
    frame = lab.events().df(columns=[*columns, "success", "error_category"])
    print_table(console, EVENT_COLUMNS, map(event_row, records(frame.sort_values("ts"))))
    kept = lab.sql(
        "select sum(json_array_length(notifications))::int from audit_payloads"
    ).fetchall()
    say(
        console,
        f"{len(_CALLS)} calls, {report.new} events. The tool that reports progress sent "
        f"{kept[0][0]} notifications.",
    )


def _plan(console: Console, client: PortalClient, lab: Lab) -> ReplayPlan:
    from mcpaudit_lab.display import PLAN_COLUMNS, print_table
    from mcpaudit_lab.storage import records

    show_step(
        console,
        "What would be called again, and why not the rest: nothing has been called yet",
        'plan = lab.plan_replay(lab.events(), portal, allow={"echo", "lorem"})',
    )
    plan = lab.plan_replay(lab.events(), client, allow={"echo", "lorem"})
    print_table(console, PLAN_COLUMNS, records(plan.df()))
    say(console, "A password that was never stored is not sent again, unless secrets= supplies it.")
    return plan


def _replay(console: Console, plan: ReplayPlan, lab: Lab) -> None:
    from mcpaudit_lab.display import print_groups

    show_step(console, "The portal makes the calls that are ready again", "plan.run()")
    plan.run(progress=False)
    print_groups(console, lab.compare_replays().groups, "replay")
    say(console, "The same arguments and the same seed: the responses are equal.")


def say_ended(console: Console, portal: BackgroundPortal) -> None:
    """Report the portal's end, and what it could not store."""
    status = portal.app.state.portal.logger.status()
    say(
        console,
        f"The portal has ended: {status.stored} events stored, {status.queued} left in the queue, "
        f"{status.rejected + status.dropped} lost.",
    )


def keep_serving(console: Console, portal: BackgroundPortal) -> None:
    """Serve on until SIGINT or SIGTERM, and say how to get in.

    Args:
        console: where to print.
        portal: it is running.
    """
    # Install the handler first: a reader of the lines below may send a signal at once.
    with told_to_end() as told:
        show_step(console, "The portal serves on, until Ctrl-C")
        show_lines(
            console,
            f"URL      {portal.url}   (MCP at {portal.url}/mcp)",
            f"API key  {portal.api_key}",
        )
        asking = f"curl -H 'X-API-Key: {portal.api_key}'"
        api = f"{portal.url}/api/v1/portal/audit"
        show_step(console, "In a shell")
        show_lines(
            console,
            f"{asking} '{api}/events?limit=3'",
            f"{asking} -N {api}/stream",
        )
        show_step(console, "or in a notebook")
        show_lines(
            console,
            "from mcpaudit_lab import PortalClient",
            f'portal = PortalClient("{portal.url}", "{portal.api_key}")',
            "list(portal.events(limit=3))",
            'portal.tryit("echo", {"message": "hello"})',
        )
        told.wait()


@contextmanager
def told_to_end() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, and do no more than that. Only in the main thread."""
    from mcpaudit_lab.server import signals_call

    told = threading.Event()
    with signals_call(told.set):
        yield told
