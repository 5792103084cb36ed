"""The commands that put the recorder into a client's configuration: ``wrap`` and ``unwrap``."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mcpaudit_lab.cli.recording import database_path
from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble

if TYPE_CHECKING:
    from mcpaudit_lab.recorder import Change

__all__ = ["unwrap", "wrap"]

_MAIN: Final = "from mcpaudit_lab.cli import main; main()"
_FILE: Final[Any] = click.Path(path_type=Path, dir_okay=False, exists=True)
_dry_run = click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")


@click.command()
@click.argument("file", type=_FILE)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@click.option(
    "--database",
    metavar="FILE",
    help="SQLite file for the calls, or its URL; by default one in this user's data folder.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    help="Also servers at a URL: the port of the first one's recorder; the next ones follow.",
)
@_dry_run
def wrap(
    *, file: Path, servers: tuple[str, ...], database: str | None, port: int | None, dry_run: bool
) -> int:
    """Put the recorder in front of a client's servers.

    Without SERVER every server in FILE is wrapped.

    FILE is claude_desktop_config.json, .mcp.json, or the mcp.json of VS Code or Cursor. Comments
    and order are kept, a backup is written beside it, and `unwrap` restores the original bytes.

    Exit status: 1 where no server was wrapped.
    """
    from mcpaudit_lab.recorder import Outcome, wrap_text

    path = database_path(database)
    options = () if database is None else ("--database", str(path.absolute()))

    def edit(text: str) -> tuple[str, list[Change]]:
        return wrap_text(text, _recorder(), servers, options=options, port=port)

    changes = _change(file, edit, dry_run=dry_run)
    for change in changes:
        if change.port:
            _report(f"for {change.name} run: {_http_command(change, options)}")
    wrapped = [change for change in changes if change.outcome == Outcome.WRAPPED]
    if wrapped:
        _report(f"calls go into {path}; restart the client")
    already = all(change.outcome == Outcome.ALREADY for change in changes)
    return FOUND if wrapped or already else LOOK


@click.command()
@click.argument("file", type=_FILE)
@click.argument("servers", nargs=-1, metavar="[SERVER]...")
@_dry_run
def unwrap(*, file: Path, servers: tuple[str, ...], dry_run: bool) -> int:
    """Take the recorder out of a client's configuration.

    Without SERVER every server in FILE is unwrapped.

    Exit status: 1 where no server was recorded.
    """
    from mcpaudit_lab.recorder import Outcome, unwrap_text

    changes = _change(file, lambda text: unwrap_text(text, servers), dry_run=dry_run)
    return FOUND if any(c.outcome == Outcome.UNWRAPPED for c in changes) else LOOK


def _recorder() -> list[str]:
    """The command of this program, by its path: a client started from a desktop has no other."""
    script = Path(sys.argv[0]).absolute()
    if script.stem == "mcpaudit-lab" and script.exists():
        return [str(script)]
    beside = shutil.which("mcpaudit-lab", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("mcpaudit-lab")
    return [found] if found else [sys.executable, "-c", _MAIN]


def _http_command(change: Change, options: tuple[str, ...]) -> str:
    import shlex

    url = shlex.quote(change.url)
    return shlex.join(["mcpaudit-lab", "record", *options]) + f" --url {url} --port {change.port}"


def _change(
    file: Path, edit: Callable[[str], tuple[str, list[Change]]], *, dry_run: bool
) -> list[Change]:
    """Edit a file, with a copy beside it; or show the difference."""
    from mcpaudit_lab.recorder import JsoncError

    before = file.read_bytes()
    try:
        text = before.decode("utf-8")
        after, changes = edit(text)
    except UnicodeDecodeError:
        raise Trouble(f"{file} is not UTF-8") from None
    except JsoncError as error:
        raise Trouble(f"{file}: {error}") from None
    for change in changes:
        _report(f"{change.name}: {change.outcome}")
    if after == text:
        return changes
    if dry_run:
        _show(file, text, after)
        return changes
    _report(f"the file as it was: {_back_up(file, before)}")
    # Its own target, so that a link stays a link.
    target = file.resolve()
    new = target.with_name(f"{target.name}.mcpaudit-new")
    new.write_bytes(after.encode("utf-8"))
    shutil.copymode(target, new)
    os.replace(new, target)  # noqa: PTH105 - of two paths; reads as what it does
    return changes


def _back_up(file: Path, content: bytes) -> Path:
    """Keep the content under a name that is free."""
    number = 0
    while True:
        number += 1
        path = file.with_name(f"{file.name}.before-mcpaudit-{number}")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with open(descriptor, "wb") as copy:  # noqa: PTH123 - of a descriptor
            copy.write(content)
        return path


def _show(file: Path, before: str, after: str) -> None:
    import difflib

    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), str(file), str(file), lineterm=""
    )
    for line in lines:
        _report(line)


def _report(text: str) -> None:
    from mcpaudit_lab.record import visible

    click.echo(visible(text))
