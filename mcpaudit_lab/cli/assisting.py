"""The command ``mcp``: a lab for an assistant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mcpaudit_lab.cli.options import lab_path_option, open_existing
from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble
from mcpaudit_lab.errors import StoreUnavailable

if TYPE_CHECKING:
    from mcpaudit_lab.lab import Lab

__all__ = ["mcp"]

_FILE: Final[Any] = click.Path(path_type=Path, dir_okay=False)


@click.command()
@lab_path_option("The lab's file.")
@click.option("--read-only", is_flag=True, expose_value=False, help="Always so here.")
@click.option(
    "--audit",
    "audit",
    metavar="FILE",
    help="SQLite file or URL of a database for the assistant's calls; by default beside the lab.",
)
@click.option("--port", type=click.IntRange(0, 65_535), help="Serve over HTTP; 0: a free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--api-key-file", type=_FILE, metavar="FILE", help="Keys for HTTP, a line each: NAME=KEY."
)
def mcp(
    *, lab_path: Path, audit: str | None, port: int | None, host: str, api_key_file: Path | None
) -> int:
    """Let an assistant ask a lab: an MCP server that only reads.

    A client starts it and talks over standard input and output; with --port it serves HTTP and asks
    for a key. The assistant finds, counts, compares and traces calls; it cannot make any.

    Exit status: 0 where the client ended it.
    """
    beside = lab_path.with_name(f"{lab_path.stem}.assistant.db")
    audit = audit or str(beside)
    database = audit if "://" in audit else f"sqlite:///{Path(audit).absolute()}"
    with open_existing(lab_path, read_only=True) as lab:
        try:
            return _serve(lab, database, host, port, api_key_file)
        except ValueError as error:
            raise Trouble(str(error)) from None
        except StoreUnavailable as error:
            raise Trouble(f"the database for the assistant's calls: {error}") from None


def _serve(lab: Lab, database: str, host: str, port: int | None, file: Path | None) -> int:
    from mcpaudit_lab.assistant import assistant_server, serve_stdio

    server = assistant_server(lab)
    if port is None:
        serve_stdio(server, database)
        return FOUND
    from mcpaudit_lab.server import ApiKeys
    from mcpaudit_lab.server import serve as run

    keys = ApiKeys.collect({}, file=file)
    if not len(keys):
        raise Trouble(
            "nobody could ask anything\nGive keys: --api-key-file FILE, or"
            " MCPAUDIT_API_KEYS='NAME=KEY'."
        )
    status = run(database, keys, host, port, server=server, on_start=_say_where)
    return LOOK if status.rejected or status.dropped else FOUND


def _say_where(url: str, _: str | None) -> None:
    click.echo(f"The lab's MCP server is at {url}/mcp. Press Ctrl-C to end it.", err=True)
