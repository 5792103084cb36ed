"""The command line, ``mcpaudit-lab``.

Only click is imported before a command runs, so that help comes at once.
"""

from __future__ import annotations

import click

from mcpaudit_lab.cli import (
    asking,
    checking,
    loading,
    looking,
    noting,
    pulling,
    recording,
    replaying,
    wrapping,
)
from mcpaudit_lab.cli.assisting import mcp
from mcpaudit_lab.cli.browsing import browse
from mcpaudit_lab.cli.completing import completion
from mcpaudit_lab.cli.serve import serve
from mcpaudit_lab.cli.status import STATUS_HELP, CommandGroup
from mcpaudit_lab.cli.tailing import tail
from mcpaudit_lab.cli.verifying import bundle, verify
from mcpaudit_lab.record.version import VERSION

__all__ = ["commands", "main"]


@click.group(
    cls=CommandGroup,
    epilog=STATUS_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="mcpaudit-lab")
def commands() -> None:
    """Load, query, compare and replay the audit events of MCP servers.

    Events live in a lab, a file that `load` makes. Say which with --lab, or once with the
    environment variable MCPAUDIT_LAB. Start with `mcpaudit-lab demo`.

    Tables are for people. With --json every command writes JSON, one object a line: numbers exact,
    times as RFC 3339 has them.
    """


for command in (
    loading.demo,
    loading.load,
    loading.load_database,
    pulling.pull,
    tail,
    asking.events,
    browse,
    looking.show,
    looking.compare,
    replaying.plan,
    replaying.replay,
    checking.check,
    asking.stats,
    asking.breakdown,
    asking.timeseries,
    asking.sql,
    looking.tools,
    loading.sources,
    loading.rejects,
    noting.note,
    noting.notes,
    verify,
    bundle,
    loading.write,
    recording.record,
    wrapping.wrap,
    wrapping.unwrap,
    serve,
    mcp,
    completion,
):
    commands.add_command(command)


def main() -> None:
    """Run the command that the process was started with."""
    commands(prog_name="mcpaudit-lab")
