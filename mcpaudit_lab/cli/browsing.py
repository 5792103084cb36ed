"""The command that shows a lab in a full-screen terminal: ``browse``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mcpaudit_lab.cli.options import lab_option
from mcpaudit_lab.cli.status import FOUND

if TYPE_CHECKING:
    from mcpaudit_lab.lab import Lab

__all__ = ["browse"]


@click.command()
@lab_option
@click.option("--where", default="", metavar="CONDITION", help="Begin with this condition.")
@click.option(
    "--target", metavar="URL", help="An MCP endpoint that plans ask for its tools; none is called."
)
def browse(*, lab: Lab, where: str, target: str | None) -> int:
    """Browse a lab by keys: a list, cards, comparisons, plans.

    Slash goes to the filter, Enter opens, Space selects, c compares two, p plans a replay, s sorts
    by duration, Escape goes back, q quits. It needs the extra tui.

    Exit status: 0.
    """
    from mcpaudit_lab.errors import MissingExtra

    try:
        from mcpaudit_lab.tui import Browser
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise MissingExtra("tui", "A lab in the terminal") from None
    Browser(lab, target=target, where=where).run()
    return FOUND
