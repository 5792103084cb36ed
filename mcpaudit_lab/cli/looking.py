"""Commands that look at single events and at tools: ``show``, ``compare``, ``tools``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mcpaudit_lab.cli.options import filter_options, find_id, json_option, lab_option
from mcpaudit_lab.cli.output import open_output, print_json, print_rows, say
from mcpaudit_lab.cli.pages import PageWriter, page_options
from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble
from mcpaudit_lab.errors import EventNotFound

if TYPE_CHECKING:
    from mcpaudit_lab.comparison import Comparison
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.lab import Lab

__all__ = ["compare", "show", "tools"]


@click.command()
@lab_option
@click.argument("event_id", metavar="ID")
@click.option(
    "--provenance",
    is_flag=True,
    help="Also show its origin, with the raw line, read again and verified.",
)
@page_options
@json_option
def show(*, lab: Lab, event_id: str, provenance: bool, page: PageWriter, as_json: bool) -> int:
    """Show one event: who, what, request and response.

    What the server sent meanwhile is shown, too. ID is a UUID, or the first digits of one. With
    --json it is the event as a portal gives it, or with --provenance an object of `event` and
    `provenance`.

    Exit status: 1 if there is no such event.
    """
    try:
        event = lab.event(find_id(lab, event_id))
    except EventNotFound as error:
        click.echo(str(error), err=True)
        return LOOK
    if as_json:
        found: Any = event.wire
        if provenance:
            ledger = [item.to_dict() for item in lab.provenance(event.id)]
            found = {"event": event.wire, "provenance": ledger}
        print_json(found)
        return FOUND
    if page.write(f"event {event.id}", event):
        return FOUND
    from mcpaudit_lab.display import print_event, print_provenance

    console = open_output()
    print_event(console, event)
    if provenance:
        print_provenance(console, lab.provenance(event.id))
    return FOUND


@click.command()
@lab_option
@click.argument("ids", nargs=-1, metavar="[A B]")
@click.option("--replays", is_flag=True, help="Compare each original with each of its replays.")
@click.option(
    "--ignore",
    multiple=True,
    metavar="PATH",
    help="Leave this aside, such as response.structuredContent.ms or '**.trace_id'.",
)
@filter_options
@page_options
@json_option
def compare(
    *,
    lab: Lab,
    ids: tuple[str, ...],
    replays: bool,
    ignore: tuple[str, ...],
    filters: tuple[EventFilter, ...],
    page: PageWriter,
    as_json: bool,
) -> int:
    """Compare two events, or originals with their replays.

    The events are A and B; with --replays, every original and its replays. The verdict is equal,
    changed, or unknown where one side was redacted, truncated or not captured. Filters go with
    --replays: one of the two events must match.

    Exit status: 0 if equal, all of them; 1 if changed or unknown, or if there is no replay.
    """
    if replays:
        if ids:
            raise click.UsageError("give two ids, or --replays")
        return _compare_replays(lab, filters, ignore, page, as_json)
    if len(ids) != 2:
        raise click.UsageError("give the ids of two events, or --replays")
    if filters:
        raise click.UsageError("filters go with --replays")
    try:
        comparison = lab.compare(*(find_id(lab, text) for text in ids), ignore=ignore)
    except EventNotFound as error:
        # Exit with 2, unlike `show`: the question was whether two events are equal.
        raise Trouble(str(error)) from None
    return _print_comparison(comparison, page, as_json)


def _print_comparison(comparison: Comparison, page: PageWriter, as_json: bool) -> int:
    if as_json:
        print_json(comparison.to_dict())
    elif not page.write("comparison", comparison):
        from mcpaudit_lab.display import print_comparison

        print_comparison(open_output(), comparison)
    return FOUND if comparison.verdict == "equal" else LOOK


def _compare_replays(
    lab: Lab,
    filters: tuple[EventFilter, ...],
    ignore: tuple[str, ...],
    page: PageWriter,
    as_json: bool,
) -> int:
    from mcpaudit_lab.comparison import ChangeKind

    chosen = lab.events(*filters) if filters else None
    replays = lab.compare_replays(chosen, ignore=ignore)
    if as_json:
        for row in replays:
            kinds = [row[kind] for kind in ChangeKind]
            print_json({**row, "changes": None if None in kinds else sum(kinds)})
    elif not len(replays):
        say("The lab has no replays.")
    elif not page.write("replays", replays):
        from mcpaudit_lab.display import print_groups

        print_groups(open_output(), replays.groups, "replay")
        if replays.counts()["changed"]:
            say("mcpaudit-lab compare ORIGINAL REPLAY shows one of them.")
    return FOUND if replays.counts()["equal"] == len(replays) > 0 else LOOK


@click.command()
@lab_option
@click.option("--changes", is_flag=True, help="What was added, removed or changed, and when.")
@json_option
def tools(*, lab: Lab, changes: bool, as_json: bool) -> int:
    """List the tools that servers offered, and what they changed.

    Definitions come from recorders, portals and transcripts. Hidden text in a description is
    written out.

    Exit status: 1 with --changes if something changed; without it, if no definition is known.
    """
    from mcpaudit_lab.display import TOOL_CHANGE_COLUMNS, TOOL_COLUMNS
    from mcpaudit_lab.storage import records

    frame = lab.tool_changes() if changes else lab.tool_definitions()
    rows = records(frame)
    if as_json:
        print_rows(rows, None, as_json=True)
    elif not rows:
        say("No tool was changed." if changes else "No tool definition is known in this lab.")
    else:
        print_rows(rows, TOOL_CHANGE_COLUMNS if changes else TOOL_COLUMNS, as_json=False)
        for row in rows if changes else ():
            say(f"{row['name']} ({row['change']}):")
            for line in [*row["diff"].split("\n"), *row["hidden"]]:
                say(f"  {line}")
    found = bool(rows)
    return LOOK if found == changes else FOUND
