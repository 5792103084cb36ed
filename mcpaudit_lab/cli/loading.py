"""Commands that load events, write them, and show their sources."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from mcpaudit_lab.cli.options import (
    filter_options,
    json_option,
    lab_option,
    new_lab_option,
    refused_read_only,
)
from mcpaudit_lab.cli.output import open_output, print_frame, print_json, say
from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble
from mcpaudit_lab.errors import NothingToLoad

if TYPE_CHECKING:
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.storage.load import LoadReport

__all__ = ["demo", "load", "load_database", "rejects", "sources", "write"]


@click.command()
@click.option(
    "--lab",
    "lab_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the sample in this lab, to go on with; otherwise it is in memory.",
)
@refused_read_only
@click.option("--keep", is_flag=True, help="Leave the portal serving at the end, until Ctrl-C.")
@click.option(
    "--notebook", is_flag=True, help="In place of that, JupyterLab on a tour, until Ctrl-C."
)
@click.option("--browser/--no-browser", default=True, help="With --notebook: open one, or not.")
def demo(*, lab_path: Path | None, keep: bool, notebook: bool, browser: bool) -> int:
    """Show a portal at work, and a recorded sample.

    Starts a portal on a free loopback port, calls its tools, loads what it recorded, replays a
    call, is refused another, and compares; then walks through a sample that comes with the
    package. Takes seconds, needs no network, and leaves no file unless told to.

    With --notebook it opens JupyterLab on a copy of the tour, in a temporary folder, while a portal
    runs that PortalClient() finds; all of it is gone at the end.

    Exit status: 0, also where Ctrl-C or SIGTERM ends a portal that was kept, or JupyterLab.
    """
    if notebook:
        if keep or lab_path is not None:
            raise click.UsageError("--notebook goes without --lab and --keep")
        from mcpaudit_lab.demo import run_notebook

        status = run_notebook(open_output(), browser=browser)
        if status:
            raise Trouble(f"JupyterLab ended with status {status}; see its messages above")
        return FOUND
    from mcpaudit_lab.demo import run_demo

    run_demo(open_output(), lab_path, keep=keep)
    return FOUND


def _list_formats(context: click.Context) -> None:
    from mcpaudit_lab.display import columns_of, print_table
    from mcpaudit_lab.formats import what_there_is

    names = ("name", "kind", "title")
    rows = [dict(zip(names, row, strict=True)) for row in what_there_is()]
    print_table(open_output(), columns_of(rows), rows)
    context.exit(FOUND)


@click.command()
@click.argument("files", nargs=-1, required=True)
@new_lab_option
@click.option("--format", "format_name", metavar="NAME", help="Read FILES as this format.")
@click.option(
    "--formats",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, asked: _list_formats(context) if asked else None,
    help="List the formats that FILES may have, and load nothing.",
)
@click.option("--strict", is_flag=True, help="Stop at the first bad line and load nothing.")
@json_option
def load(
    *,
    files: tuple[str, ...],
    lab_path: Path,
    format_name: str | None,
    strict: bool,
    as_json: bool,
) -> int:
    """Load exports and other recorders' files into a lab.

    FILES are exports and saved answers of a portal, Parquet that a lab wrote, or files of another
    recorder (--formats lists them): files, folders, ZIP archives, patterns in quotes, or - for
    standard input. .gz, .zst, .bz2 and .xz are unpacked. The content of a file says what it is,
    or --format does. All of it is loaded or nothing. The same again adds nothing.

    Exit status: 1 if lines were rejected, the others are loaded, see `rejects`; or if a file is
    empty, or a pattern or folder gives none. 2 if nothing was loaded for another reason.
    """
    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.record import visible
    from mcpaudit_lab.storage.load import find_inputs

    inputs: list[str | IO[Any]] = [sys.stdin.buffer if name == "-" else name for name in files]
    try:
        # Check before a lab is created in vain.
        find_inputs(inputs)
    except NothingToLoad as error:
        click.echo(f"{visible(str(error))}; nothing was loaded", err=True)
        return LOOK
    with Lab(lab_path) as lab:
        return _print_report(
            lab, lab.load(inputs, format=format_name, strict=strict), as_json, from_files=True
        )


@click.command()
@click.argument("url", envvar="MCPAUDIT_DATABASE_URL")
@new_lab_option
@filter_options
@click.option("--strict", is_flag=True, help="Stop at the first conflict and load nothing.")
@json_option
def load_database(
    *, url: str, lab_path: Path, filters: tuple[EventFilter, ...], strict: bool, as_json: bool
) -> int:
    """Load events and payloads from a portal's database.

    URL is postgresql://user:password@host/database or sqlite:///audit.db. A password in it shows
    in the list of processes: put the URL into MCPAUDIT_DATABASE_URL instead.

    Exit status: 1 if rows contradict what the lab has; the others are loaded, see `rejects`.
    """
    from mcpaudit_lab.lab import Lab

    with Lab(lab_path) as lab:
        return _print_report(lab, lab.load_database(url, *filters, strict=strict), as_json)


def _print_report(lab: Lab, report: LoadReport, as_json: bool, *, from_files: bool = False) -> int:
    from mcpaudit_lab.record import counted, visible

    if as_json:
        print_json(report.to_dict())
    else:
        from mcpaudit_lab.display import print_load

        print_load(open_output(), report)
        say(f"The lab {lab.path} holds {counted(lab.events().count(), 'event')}.")
        if report.rejected:
            say(f"See the rejected lines: mcpaudit-lab rejects --lab {lab.path}")
        if report.lines == report.rejected + report.blank and from_files:
            say(
                "No line of it is an audit event. An export comes from a portal's "
                "/api/v1/portal/audit/export; `mcpaudit-lab pull URL` fetches what a portal has."
            )
    empty = [file for file in report if file.lines == file.blank] if from_files else []
    for file in empty:
        what = "holds no event" if file.bytes else "is empty"
        click.echo(f"{visible(file.name)} {what}", err=True)
    return LOOK if report.rejected or empty else FOUND


@click.command()
@lab_option
@json_option
def sources(lab: Lab, as_json: bool) -> int:
    """List what was loaded, with SHA-256 and counts.

    One row for each file, database or portal.

    Exit status: 1 if nothing was loaded yet.
    """
    from mcpaudit_lab.display import SOURCE_COLUMNS

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
    from mcpaudit_lab.display import REJECT_COLUMNS

    count = print_frame(lab.rejects(), REJECT_COLUMNS, as_json=as_json)
    if not count and not as_json:
        say("Every line was loaded.")
    return LOOK if count else FOUND


@click.command()
@lab_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@filter_options
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    help="portal, otel, csv or mcpsnoop; by default the name of FILE decides.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@json_option
def write(
    *,
    lab: Lab,
    file: Path,
    filters: tuple[EventFilter, ...],
    format_name: str | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Write events and their payloads into a file.

    The name of FILE selects the format: .jsonl and .parquet load back equal; .otlp.json has spans
    of OpenTelemetry, .csv a table. All but .parquet may end in .gz or .zst. What a format cannot
    carry is reported.

    Exit status: 1 if no event matches; nothing is written then.
    """
    if file.exists() and not overwrite:
        from mcpaudit_lab.record import visible

        raise Trouble(f"{visible(str(file))} exists; --overwrite replaces it")
    from mcpaudit_lab.formats import WriteReport
    from mcpaudit_lab.record import counted

    chosen = lab.events(*filters)
    report = WriteReport(0)
    if chosen.count():
        report = chosen.write(file, format=format_name, overwrite=overwrite)
    if as_json:
        lost = {"lost": report.lost, "skipped": report.skipped}
        print_json(
            {"file": str(file), "events": int(report)} | {k: v for k, v in lost.items() if v}
        )
    elif report:
        say(f"{counted(report, 'event')} {'is' if report == 1 else 'are'} in {file}.")
        for line in report.describe().splitlines():
            say(line)
    else:
        say(f"No event matches: {chosen.describe()}.")
    return FOUND if report else LOOK
