"""Commands about findings: ``note``, ``notes``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mcpaudit_lab.cli.options import (
    filter_options,
    find_id,
    json_option,
    lab_option,
    written_lab_option,
)
from mcpaudit_lab.cli.output import print_json, print_rows, say
from mcpaudit_lab.cli.status import FOUND, LOOK
from mcpaudit_lab.errors import EventNotFound

if TYPE_CHECKING:
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.lab import Lab

__all__ = ["note", "notes"]


@click.command()
@written_lab_option
@click.argument("text")
@click.option("--event", "event_id", metavar="ID", help="About this event; by default filters say.")
@click.option("--tag", "tags", multiple=True, help="A tag; may be repeated.")
@click.option("--by", help="Who says so; by default this user.")
@click.option("--supersedes", type=int, metavar="NUMBER", help="The note that this one replaces.")
@filter_options
@json_option
def note(
    *,
    lab: Lab,
    text: str,
    event_id: str | None,
    tags: tuple[str, ...],
    by: str | None,
    supersedes: int | None,
    filters: tuple[EventFilter, ...],
    as_json: bool,
) -> int:
    """Write down what was found out about events.

    The note is about the event of --event, or the events that the filters choose now, or about the
    lab without either. It is never changed; --supersedes replaces it, with an empty TEXT and no tag
    it is taken back.

    Exit status: 1 if there is no such event.
    """
    from mcpaudit_lab.filters import EventFilter

    try:
        if event_id is not None:
            target = lab.event(find_id(lab, event_id))
            written = lab.note(target, text, tags=tags, by=by, supersedes=supersedes)
        else:
            chosen = lab.events(*filters) if any(f != EventFilter() for f in filters) else None
            written = lab.note(chosen, text, tags=tags, by=by, supersedes=supersedes)
    except EventNotFound as error:
        click.echo(str(error), err=True)
        return LOOK
    if as_json:
        print_json(written.to_dict())
    else:
        say(f"note {written.id}: {written}")
    return FOUND


@click.command()
@lab_option
@click.option("--history", is_flag=True, help="Also notes that were superseded or taken back.")
@json_option
def notes(*, lab: Lab, history: bool, as_json: bool) -> int:
    """List the notes of a lab, oldest first.

    Exit status: 1 if there is none.
    """
    from mcpaudit_lab.display import columns_of
    from mcpaudit_lab.storage import records

    rows = records(lab.notes(history=history))
    for row in rows:
        row["tags"] = list(row["tags"])
    if as_json:
        print_rows(rows, None, as_json=True)
    elif rows:
        shown = ("id", "at", "by", "tags", "count", "text")
        table = [
            {name: ", ".join(row[name]) if name == "tags" else row[name] for name in shown}
            for row in rows
        ]
        print_rows(table, columns_of(table), as_json=False)
    else:
        say("No note in this lab.")
    return FOUND if rows else LOOK
