"""Commands that send captured calls again: ``plan`` and ``replay``."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from mcpaudit_lab.cli.options import (
    filter_options,
    find_id,
    json_option,
    lab_option,
    written_lab_option,
)
from mcpaudit_lab.cli.output import print_frame, say
from mcpaudit_lab.cli.status import FOUND, LOOK

if TYPE_CHECKING:
    from mcpaudit_lab.display import Column
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.replay import ReplayPlan, ReplayRun, TargetLike

__all__ = ["plan", "planned", "planning_options", "replay", "target_options"]

Command: TypeAlias = Callable[..., int]

_TARGETS: Final = ("target", "command", "portal")


def target_options(*, portals: bool) -> Callable[[Command], Command]:
    """Add the options that say where the calls go; the command gets ``where``, for ``with``."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(**options: Any) -> int:
            given = {name: options.pop(name, None) for name in _TARGETS}
            headers = options.pop("target_header")
            return command(where=lambda: _open_target(given, headers), **options)

        decorated: Command = wrapped
        added = [
            click.option("--target", metavar="URL", help="An MCP endpoint, by its URL."),
            click.option("--command", metavar="WORDS", help="An MCP server on stdio, by command."),
            click.option(
                "--target-header",
                multiple=True,
                metavar="NAME=VARIABLE",
                help="A header for the MCP endpoint, with the value of an environment variable.",
            ),
        ]
        if portals:
            text = "A portal, by its URL; put its key into MCPAUDIT_API_KEY."
            added.insert(0, click.option("--portal", metavar="URL", help=text))
        for option in reversed(added):
            decorated = option(decorated)
        return decorated

    return decorate


def planning_options(command: Command) -> Command:
    """Add the options that say what may be called, and with which values."""
    for option in reversed(
        (
            click.option("--allow", multiple=True, metavar="TOOL", help="Call this tool."),
            click.option(
                "--allow-read-only",
                is_flag=True,
                help="Call tools that the target declares read-only.",
            ),
            click.option(
                "--allow-all",
                is_flag=True,
                help="Call all tools except those that the target declares destructive.",
            ),
            click.option(
                "--secret",
                multiple=True,
                metavar="PATH=VARIABLE",
                help="For a redacted value, that of an environment variable; kept nowhere.",
            ),
            click.option(
                "--edit",
                multiple=True,
                metavar="NAME=JSON",
                help="Another value for an argument.",
            ),
            click.option(
                "--again",
                multiple=True,
                metavar="ID",
                help="Send this event although it may have run before.",
            ),
        )
    ):
        command = option(command)
    return command


@contextmanager
def _open_target(given: Mapping[str, Any], headers: Iterable[str]) -> Iterator[TargetLike]:
    chosen = [name for name in _TARGETS if given[name]]
    if len(chosen) != 1:
        raise click.UsageError("say where the calls go: one of --portal, --target, --command")
    if given.get("portal"):
        from mcpaudit_lab.portal import PortalClient

        with PortalClient(given["portal"]) as client:
            yield client
        return
    from mcpaudit_lab.replay import McpTarget

    server = given["target"] or shlex.split(given["command"])
    yield McpTarget(server, headers=dict(_from_environment(headers, "--target-header")))


def _from_environment(pairs: Iterable[str], option: str) -> Iterator[tuple[str, str]]:
    """What is typed shows in the list of processes, so values come by the environment."""
    for pair in pairs:
        name, equals, variable = pair.rpartition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} takes NAME=VARIABLE")
        if variable not in os.environ:
            raise click.UsageError(f"{option}: there is no environment variable {variable}")
        yield name, os.environ[variable]


def _edits(pairs: Iterable[str]) -> dict[str, Any] | None:
    from mcpaudit_lab.errors import RecordError
    from mcpaudit_lab.record import loads

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            found[name] = loads(text)
        except RecordError:
            equals = ""
        if not equals or not name:
            raise click.UsageError("--edit takes NAME=JSON, such as message='\"hello\"'")
    return found or None


def planned(
    lab: Lab,
    where: TargetLike,
    ids: Iterable[str],
    filters: tuple[EventFilter, ...],
    options: Mapping[str, Any],
) -> ReplayPlan:
    """The plan that the options of :func:`planning_options` ask for."""
    from mcpaudit_lab.replay import Allowed

    chosen = [find_id(lab, text) for text in ids]
    if chosen and filters:
        raise click.UsageError("give ids or filters")
    events: Any = chosen or lab.events(*filters)
    return lab.plan_replay(
        events,
        where,
        allow=Allowed(
            frozenset(options["allow"]),
            every=options["allow_all"],
            read_only=options["allow_read_only"],
        ),
        secrets=dict(_from_environment(options["secret"], "--secret")) or None,
        edit=_edits(options["edit"]),
        again=[find_id(lab, text) for text in options["again"]],
        via_tryit=options.get("via_tryit", False),
    )


_via_tryit = click.option(
    "--via-tryit", is_flag=True, help="Where a portal has no equal event, send the lab's by Try-It."
)


@click.command()
@lab_option
@click.argument("ids", nargs=-1, metavar="[ID]...")
@target_options(portals=True)
@planning_options
@_via_tryit
@filter_options
@json_option
def plan(
    *,
    lab: Lab,
    ids: tuple[str, ...],
    where: Callable[[], Any],
    filters: tuple[EventFilter, ...],
    as_json: bool,
    **options: Any,
) -> int:
    """Say which events would be called again, and why others not.

    Nothing is called. Events are given by IDs or by filters; calls that are not allowed are
    refused.

    Exit status: 1 if any call is refused, or there is none.
    """
    from mcpaudit_lab.display import PLAN_COLUMNS

    with where() as target:
        made = planned(lab, target, ids, filters, options)
    print_frame(made.df(), PLAN_COLUMNS, as_json=as_json)
    if not as_json:
        for line in made.describe().splitlines()[: 1 + bool(made.wait_s) + len(made.warnings)]:
            say(line)
    return FOUND if made.items and len(made.runnable) == len(made.items) else LOOK


@click.command()
@written_lab_option
@click.argument("ids", nargs=-1, metavar="[ID]...")
@target_options(portals=True)
@planning_options
@_via_tryit
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="Send at most this many calls now."
)
@click.option("--rate", metavar="RATE", help="How fast: 10/s, 5/m, 1/12s.")
@click.option(
    "--stop-on",
    multiple=True,
    type=click.Choice(["failed", "uncertain", "unsent", "refused", "changed"]),
    help="Stop after a call that ended so.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Number of times to send each call.",
)
@click.option(
    "--save-noise",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what differs between calls of the same, as --noise of `check` reads it.",
)
@filter_options
@json_option
def replay(
    *,
    lab: Lab,
    ids: tuple[str, ...],
    where: Callable[[], Any],
    limit: int | None,
    rate: str | None,
    stop_on: tuple[str, ...],
    repeat: int,
    save_noise: Path | None,
    filters: tuple[EventFilter, ...],
    as_json: bool,
    **options: Any,
) -> int:
    """Call captured calls again and keep the answers in the lab.

    Sends the calls that `plan` shows with the same options, one after another. If it is stopped,
    the same command continues; nothing is sent twice. `compare --replays` compares.

    Exit status: 1 if a call was refused, failed, has no known outcome, is left, or its result
    differs from the original's.
    """
    with where() as target:
        made = planned(lab, target, ids, filters, options)
        run = made.run(limit=limit, rate=rate, stop_on=stop_on, repeat=repeat)
    frame = run.df()
    print_frame(frame, _run_columns(), as_json=as_json)
    if save_noise is not None:
        run.noise.save(save_noise)
    if not as_json:
        _say_run(run)
    good = (frame["status"] == "succeeded") & (frame["comparison"] != "changed")
    return FOUND if len(frame) and bool(good.all()) else LOOK


def _say_run(run: ReplayRun) -> None:
    counts = ", ".join(f"{count} {status}" for status, count in run.counts().items())
    say(f"{counts or 'nothing to do'}")
    if run.stopped:
        say(f"Stopped: {run.stopped}. The same command continues.")
        if set(run.counts()) <= {"unsent", "refused"}:
            say(
                "Nothing was sent. Is a server there, is it the URL of its MCP endpoint (often with"
                " /mcp at its end), and does it want a key (--target-header NAME=VARIABLE)?"
            )
    if run.uncertain:
        say("Uncertain calls were sent and may have run; --again ID sends one once more.")


def _run_columns() -> tuple[Column, ...]:
    from mcpaudit_lab.display import VERDICTS, Column

    return (
        Column("event_id", "event", is_id=True),
        Column("tool_name", "tool", least=8),
        Column("status"),
        Column("comparison", "result", styles=VERDICTS),
        Column("original_ms", "ms", right=True),
        Column("replay_ms", "then", right=True),
        Column("replay_id", "replay", is_id=True),
        Column("detail", least=12),
    )
