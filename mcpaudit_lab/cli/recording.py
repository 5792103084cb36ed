"""The command ``record``: a proxy between a client and a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble
from mcpaudit_lab.errors import StoreUnavailable

if TYPE_CHECKING:
    from mcpaudit_lab.recorder import CallStore, CallWriter

__all__ = ["database_path", "record"]

_PORT: Final = 8900
_FILE: Final[Any] = click.Path(path_type=Path, dir_okay=False)


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "--database",
    metavar="FILE",
    help="SQLite file for the calls, or its URL; by default one in this user's data folder.",
)
@click.option("--lab", "lab_path", type=_FILE, metavar="FILE", help="Record into this lab instead.")
@click.option(
    "--events", "events_path", type=_FILE, metavar="FILE", help="Append JSON lines to it instead."
)
@click.option(
    "--on-store-failure",
    type=click.Choice(["refuse", "pass"]),
    default="refuse",
    show_default=True,
    help="Whether to refuse calls that cannot be stored, or let them pass.",
)
@click.option("--redact-key", "redact_keys", multiple=True, metavar="NAME", help="Also redact it.")
@click.option("--url", metavar="URL", help="Record the server at this address, over HTTP.")
@click.option(
    "--port",
    default=_PORT,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="Where the client reaches the recorder, with --url; 0: a free one.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on, with --url."
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A name that requests may use besides the address and the loopback names; * for any.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND [ARG]...]")
def record(
    *,
    database: str | None,
    lab_path: Path | None,
    events_path: Path | None,
    on_store_failure: str,
    redact_keys: tuple[str, ...],
    url: str | None,
    port: int,
    host: str,
    allowed_hosts: tuple[str, ...],
    command: tuple[str, ...],
) -> int:
    """Record the tool calls of any MCP server, through a proxy.

    Put `mcpaudit-lab record --` before the command that starts a stdio server: bytes pass both ways
    unchanged, and each call is stored before it is sent on. With --url it listens on --port and
    passes HTTP requests to the server there.

    Exit status: that of the server. With --url: 0 where SIGTERM or Ctrl-C ended it and every call
    is stored; 1 where calls were refused or not stored.
    """
    if bool(command) == bool(url):
        raise Trouble("give the server's command behind --, or its address with --url")
    if sum(item is not None for item in (database, lab_path, events_path)) > 1:
        raise Trouble("give one of --database, --lab and --events")
    from mcpaudit_lab.record import DEFAULT_REDACT_KEYS, CapturePolicy, Sanitizer
    from mcpaudit_lab.recorder import CallTracker, CallWriter, OnFailure, bare_url, masked_command

    sanitizer = Sanitizer((*DEFAULT_REDACT_KEYS, *redact_keys))
    policy = CapturePolicy(sanitizer=sanitizer)
    try:
        store = _open_store(database, lab_path, events_path)
    except StoreUnavailable as error:
        raise Trouble(f"calls cannot be stored: {error}") from None
    writer = CallWriter(store, OnFailure(on_store_failure), _report)
    try:
        if url is None:
            about = {"command": masked_command(command, sanitizer)}
            tracker = CallTracker("stdio", policy, about)
            tracker.on_tools = writer.add_tools
            return _record_command(command, tracker, writer)
        from mcpaudit_lab.recorder import serve_recorder

        tracker = CallTracker("http", policy, {"url": bare_url(url)})
        tracker.on_tools = writer.add_tools
        return serve_recorder(
            url,
            tracker,
            writer,
            host=host,
            port=port,
            allowed_hosts=allowed_hosts,
            report=_report,
        ) or (LOOK if writer.lost or writer.refused else FOUND)
    except ValueError as error:
        raise Trouble(str(error)) from None
    finally:
        writer.close()


def _record_command(command: Sequence[str], tracker: Any, writer: CallWriter) -> int:
    from mcpaudit_lab.recorder import StdioRecorder, find_command

    try:
        status = StdioRecorder(find_command(command), tracker, writer).run()
    except FileNotFoundError:
        _report(f"no such command: {command[0]}")
        return 127
    except PermissionError:
        _report(f"cannot be run: {command[0]}")
        return 126
    if status < 0:
        from mcpaudit_lab.recorder import end_as

        writer.close()
        return end_as(status)
    return status


def _report(text: str) -> None:
    """Tell on standard error, where a client shows what a server says."""
    from mcpaudit_lab.record import visible

    for line in text.splitlines():
        click.echo(f"mcpaudit-lab record: {visible(line)}", err=True)


def _open_store(database: str | None, lab_path: Path | None, events_path: Path | None) -> CallStore:
    from mcpaudit_lab.recorder import JsonlCallStore, LabCallStore, SqliteCallStore

    if lab_path is not None:
        return LabCallStore(lab_path, _report)
    if events_path is not None:
        return JsonlCallStore(events_path)
    return SqliteCallStore(database_path(database))


def database_path(given: str | None) -> Path:
    """The SQLite file that is meant: a path, a URL, or by default one of this user.

    Raises:
        Trouble: it is a URL of another kind.
    """
    if not given:
        from platformdirs import user_data_path

        return user_data_path("mcpaudit-lab", appauthor=False) / "recorded.db"
    kind, colon, rest = given.partition(":///")
    if colon and kind == "sqlite":
        return Path(rest)
    if "://" in given:
        raise Trouble("recorders write to SQLite: give --database a file, or sqlite:///FILE")
    return Path(given)
