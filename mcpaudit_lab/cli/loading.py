"""Commands that bring events in, write them out, and say where they came from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from mcpaudit_lab.cli.options import filter_options, json_option, lab_option, new_lab_option
from mcpaudit_lab.cli.output import open_output, print_frame, print_json, say
from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble

if TYPE_CHECKING:
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.lab import Lab, LoadReport

__all__ = ["demo", "load", "load_database", "rejects", "sources", "write"]


@click.command()
@click.option(
    "--lab",
    "lab_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the sample in this lab, to go on with; otherwise it is in memory.",
)
@click.option("--keep", is_flag=True, help="Leave the portal serving at the end, until Ctrl-C.")
def demo(*, lab_path: Path | None, keep: bool) -> int:
    """Show what this is about: a portal at work, and a recorded sample.

    Starts a portal on a free loopback port, calls its tools, loads what it recorded, replays a
    call, is refused another, and compares; then walks through a sample that comes with the
    package. Takes seconds, needs no network, and leaves no file unless told to.

    Exit status: 0, also where Ctrl-C or SIGTERM ends a portal that was kept.
    """
    from mcpaudit_lab.demo import run_demo

    run_demo(open_output(), lab_path, keep=keep)
    return FOUND


@click.command()
@click.argument("files", nargs=-1, required=True)
@new_lab_option
@click.option("--strict", is_flag=True, help="Stop at the first bad line and load nothing.")
@json_option
def load(*, files: tuple[str, ...], lab_path: Path, strict: bool, as_json: bool) -> int:
    """Load exports, detail lines, saved answers of a portal, or Parquet that a lab wrote.

    FILES are files, folders, patterns in quotes, or - for standard input; .gz and .zst are
    unpacked. All of it is loaded or nothing. The same again adds nothing.

    Exit status: 1 if lines were rejected; the others are loaded, see `rejects`. 2 if nothing was.
    """
    from mcpaudit_lab.lab import Lab

    inputs: list[str | IO[Any]] = [sys.stdin.buffer if name == "-" else name for name in files]
    with Lab(lab_path) as lab:
        return _print_report(lab, lab.load(inputs, strict=strict), as_json)


@click.command()
@click.argument("url", envvar="MCPAUDIT_DATABASE_URL")
@new_lab_option
@filter_options
@click.option("--strict", is_flag=True, help="Stop at the first conflict and load nothing.")
@json_option
def load_database(
    *, url: str, lab_path: Path, filters: tuple[EventFilter, ...], strict: bool, as_json: bool
) -> int:
    """Load events and payloads from a portal's own PostgreSQL or SQLite tables.

    URL is postgresql://user:password@host/database or sqlite:///audit.db. A password in it shows
    in the list of processes: put the URL into MCPAUDIT_DATABASE_URL instead.

    Exit status: 1 if rows contradict what the lab has; the others are loaded, see `rejects`.
    """
    from mcpaudit_lab.lab import Lab

    with Lab(lab_path) as lab:
        return _print_report(lab, lab.load_database(url, *filters, strict=strict), as_json)


def _print_report(lab: Lab, report: LoadReport, as_json: bool) -> int:
    if as_json:
        print_json(report.to_dict())
    else:
        from mcpaudit_lab.tables import print_load

        print_load(open_output(), report)
        say(f"The lab {lab.path} holds {lab.events().count():,} events.")
        if report.rejected and report.rejected == report.lines - report.blank:
            say("No line is an audit event: is this an export of a portal, or events that it gave?")
        if report.rejected:
            say(f"Look at what was rejected: mcpaudit-lab rejects --lab {lab.path}")
    return LOOK if report.rejected else FOUND


@click.command()
@lab_option
@json_option
def sources(lab: Lab, as_json: bool) -> int:
    """List what was loaded: each file or database, with its SHA-256 and counts.

    Exit status: 1 if nothing was loaded yet.
    """
    from mcpaudit_lab.tables import SOURCE_COLUMNS

    count = print_frame(lab.sources(), SOURCE_COLUMNS, as_json=as_json)
    return FOUND if count else LOOK


@click.command()
@lab_option
@json_option
def rejects(lab: Lab, as_json: bool) -> int:
    """List the lines that were not loaded, and why.

    With --json the bytes of the line are in `raw`, as base64.

    Exit status: 1 if there are any.
    """
    from mcpaudit_lab.tables import REJECT_COLUMNS

    count = print_frame(lab.rejects(), REJECT_COLUMNS, as_json=as_json)
    if not count and not as_json:
        say("Every line was loaded.")
    return LOOK if count else FOUND


@click.command()
@lab_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@filter_options
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@json_option
def write(
    *, lab: Lab, file: Path, filters: tuple[EventFilter, ...], overwrite: bool, as_json: bool
) -> int:
    """Write events with their payloads into FILE, which loads back equal.

    Its name says the format: .jsonl, .jsonl.gz, .jsonl.zst or .parquet.

    Exit status: 1 if no event matches; nothing is written then.
    """
    if file.exists() and not overwrite:
        from mcpaudit_lab.terminal import visible

        raise Trouble(f"{visible(str(file))} is there already; --overwrite replaces it")
    chosen = lab.events(*filters)
    count = chosen.write(file, overwrite=overwrite) if chosen.count() else 0
    if as_json:
        print_json({"file": str(file), "events": count})
    elif count:
        say(f"{count:,} events are in {file}.")
    else:
        say(f"No event matches: {chosen.describe()}.")
    return FOUND if count else LOOK
