"""The command that shows a portal's events as they are stored: ``tail``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from mcpaudit_lab.cli.options import filter_options, json_option
from mcpaudit_lab.cli.output import open_output, print_json
from mcpaudit_lab.cli.status import FOUND, LOOK

if TYPE_CHECKING:
    from rich.text import Text

    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.portal.stream import Gap
    from mcpaudit_lab.portal.tail import Line

__all__ = ["tail"]


@click.command()
@click.argument("url", envvar="MCPAUDIT_URL")
@filter_options
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@json_option
def tail(*, url: str, filters: tuple[EventFilter, ...], count: int | None, as_json: bool) -> int:
    """Show a portal's events as they are stored, until Ctrl-C.

    URL is the portal's, such as http://localhost:8080; MCPAUDIT_URL by default. Put the API key
    into MCPAUDIT_API_KEY. A connection that breaks is made again, and what was missed meanwhile is
    fetched; what cannot be fetched is told as a gap. With --json an event is a line as the stream
    has it, and a gap a line with the member "gap".

    Exit status: 1 if there was a gap.
    """
    from mcpaudit_lab.portal import PortalClient
    from mcpaudit_lab.portal.tail import line_of
    from mcpaudit_lab.record import Event

    console = open_output()
    shown = gaps = 0
    with PortalClient(url) as portal, portal.stream(*filters) as stream:
        try:
            for key, item in enumerate(stream, 1):
                if isinstance(item, Event):
                    shown += 1
                else:
                    gaps += 1
                if as_json:
                    _print_json(item)
                else:
                    console.print(_shown(line_of(key, item)), soft_wrap=True)
                # Whoever reads through a pipe reads at once.
                sys.stdout.flush()
                if count is not None and shown >= count:
                    break
        except KeyboardInterrupt:
            pass
    return LOOK if gaps else FOUND


def _print_json(item: Any) -> None:
    from mcpaudit_lab.record import Event, escape_json

    if isinstance(item, Event):
        click.echo(escape_json(item.to_json()))
    else:
        print_json({"gap": _gap_dict(item)})


def _gap_dict(gap: Gap) -> dict[str, Any]:
    from mcpaudit_lab.record import format_time

    return {
        "from": format_time(gap.from_),
        "to": format_time(gap.to),
        "missed": gap.missed,
        "reason": gap.reason,
    }


def _shown(line: Line) -> Text:
    """A line in colours: failures red, gaps yellow."""
    from rich.text import Text

    from mcpaudit_lab.portal.tail import lines_text

    text = Text(lines_text([line]))
    if line.event is None:
        text.stylize("yellow")
    elif not line.event.success:
        text.stylize("red")
    return text
