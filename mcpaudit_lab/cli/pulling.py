"""The command that fetches events from a portal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcpaudit_lab.cli.options import filter_options, json_option, new_lab_option
from mcpaudit_lab.cli.output import print_json, say
from mcpaudit_lab.cli.status import FOUND, LOOK

if TYPE_CHECKING:
    from mcpaudit_lab.filters import EventFilter

__all__ = ["pull"]


@click.command()
@click.argument("url", envvar="MCPAUDIT_URL")
@new_lab_option
@filter_options
@click.option(
    "--payloads/--no-payloads", default=True, help="With requests and responses, or without."
)
@click.option(
    "--check-ids/--no-check-ids",
    default=None,
    help="Compare all ids with those seen before, or counts alone; by default the ids of up to"
    " 100,000 events, and of recent ones.",
)
@json_option
def pull(
    *,
    url: str,
    lab_path: Path,
    filters: tuple[EventFilter, ...],
    payloads: bool,
    check_ids: bool | None,
    as_json: bool,
) -> int:
    """Fetch from a portal what the lab does not have yet.

    URL is the portal's, such as http://localhost:8080; MCPAUDIT_URL by default. Put the API key
    into MCPAUDIT_API_KEY, because arguments show in the list of processes. If it is stopped,
    everything fetched is kept; the same command continues, and later fetches new events.

    Exit status: 1 if the lab still lacks events of the portal, or events contradict the lab; the
    rest is loaded.
    """
    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.portal import PortalClient
    from mcpaudit_lab.record import counted

    with PortalClient(url) as portal, Lab(lab_path) as lab:
        report = lab.pull(portal, *filters, payloads=payloads, check_ids=check_ids)
        if as_json:
            print_json(report.to_dict())
        else:
            for line in str(report).splitlines():
                click.echo(line)
            say(f"The lab {lab.path} holds {counted(lab.events().count(), 'event')}.")
    return FOUND if report.complete and not report.conflicts else LOOK
