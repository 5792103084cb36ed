"""The options that commands share: the lab, the filters, JSON; and ids in short."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from mcpaudit_lab.cli.status import Trouble
from mcpaudit_lab.errors import EventNotFound, RecordError

if TYPE_CHECKING:
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.lab import Lab

__all__ = [
    "filter_options",
    "find_id",
    "json_option",
    "lab_option",
    "lab_path_option",
    "new_lab_option",
    "open_existing",
    "refused_read_only",
    "written_lab_option",
]

Command: TypeAlias = Callable[..., int]

# Digits of an id that are enough to look for it.
_LEAST_DIGITS: Final = 4

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON for programs, one object a line."
)


def lab_path_option(text: str) -> Callable[[Command], Command]:
    """``--lab`` alone; the command gets it as ``lab_path``."""
    return click.option(
        "--lab",
        "lab_path",
        required=True,
        envvar="MCPAUDIT_LAB",
        show_envvar=True,
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help=text,
    )


def _refuse_read_only(ctx: click.Context, _: click.Parameter, value: object) -> None:
    if value:
        raise Trouble(
            f"`{ctx.command.name}` writes into the lab, so it cannot be read-only; nothing was"
            " changed. Leave --read-only out, or use a copy of the lab."
        )


# Every command that takes --lab takes --read-only; these say why they cannot.
refused_read_only = click.option(
    "--read-only",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_refuse_read_only,
    help="Refused here: this command writes into the lab.",
)

# Option, metavar, help. The names are those of the query string, with - for _.
_TEXTS: Final = (
    ("tool", "NAME", "Name of the tool; may be repeated, as others here, for either."),
    ("user", "SUBJECT", "Who called, such as apikey:ci-runner."),
    ("session", "ID", "MCP session."),
    ("error_category", "NAME", "auth, tool or handler."),
    ("source", "NAME", "mcp, portal-tryit, portal-replay, or a format's name."),
    ("tool_group", "NAME", "Group of the tool."),
    ("auth_type", "NAME", "oidc, apikey or anonymous."),
    ("has", "COLUMN", "Payload column that is not empty, such as notifications."),
)
_ONCE: Final = (
    ("since", "TIME", "The same as --from; 90m, 24h, 7d mean that long before now."),
    (
        "from",
        "TIME",
        "Not before 2026-11-24T10:00, 2026-11-24, yesterday, 24h; UTC without a zone.",
    ),
    ("to", "TIME", "Not after this moment; a day until its end."),
    ("q", "TEXT", "A part of tool, error message or user, in any case."),
    ("min_duration_ms", "MS", "Minimum duration, in milliseconds."),
    ("trace", "ID", "Only calls of this trace, 32 hex digits."),
)
_PATHS: Final = (
    ("param", "PATH=VALUE", "An argument, such as user.id=alice."),
    ("response", "PATH=VALUE", "A value in the result, such as isError=true."),
    ("header", "NAME=VALUE", "A header of the request."),
    ("extra", "PATH=VALUE", "What other recorders keep, such as server_name=weather."),
)
_FAILED: Final = "failed"
_TIMES: Final = ("since", "from", "to")


def lab_option(command: Command) -> Command:
    """Add ``--lab`` and ``--read-only``; the command gets an open ``lab``, closed when it ends."""

    @functools.wraps(command)
    def wrapped(*, lab_path: Path, read_only: bool, **options: Any) -> int:
        with open_existing(lab_path, read_only=read_only) as lab:
            return command(lab=lab, **options)

    flag = click.option(
        "--read-only",
        is_flag=True,
        help="Write nothing beside or into the lab's file: on a read-only disk, or while others"
        " read it.",
    )
    return lab_path_option("The lab's file.")(flag(wrapped))


def written_lab_option(command: Command) -> Command:
    """The same for a command that writes into an existing lab."""

    @functools.wraps(command)
    def wrapped(*, lab_path: Path, **options: Any) -> int:
        with open_existing(lab_path) as lab:
            return command(lab=lab, **options)

    return lab_path_option("The lab's file.")(refused_read_only(wrapped))


def new_lab_option(command: Command) -> Command:
    """Add ``--lab`` to a command that makes a lab or writes into one; it gets ``lab_path``."""
    return lab_path_option("The lab's file; made if it is not there.")(refused_read_only(command))


@contextmanager
def open_existing(path: Path, *, read_only: bool = False) -> Iterator[Lab]:
    """Open an existing lab: a query must not create a file."""
    if not path.exists():
        from mcpaudit_lab.record import visible

        shown = visible(str(path))
        raise Trouble(f"there is no lab {shown}\nMake one: mcpaudit-lab load FILES --lab {shown}")
    from mcpaudit_lab.lab import Lab

    with Lab(path, read_only=read_only) as lab:
        yield lab


def filter_options(command: Command) -> Command:
    """Add an option for each filter, and ``--filter``; the command gets them as ``filters``."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> int:
        given = [(name, options.pop(name)) for name, _, _ in (*_TEXTS, *_ONCE, *_PATHS)]
        failed = options.pop(_FAILED)
        queries = options.pop("queries")
        conditions = options.pop("conditions")
        pairs = [(name, value) for name, values in given for value in _list(values)]
        if failed is not None:
            pairs.append(("success", "false" if failed else "true"))
        return command(filters=_read_filters(pairs, queries, conditions), **options)

    decorated: Command = wrapped
    for option in reversed(tuple(_filter_options())):
        decorated = option(decorated)
    return decorated


def _filter_options() -> Iterator[Callable[[Command], Command]]:
    yield click.option(
        "--failed/--succeeded", _FAILED, default=None, help="Only calls that did so."
    )
    for name, takes, text in _TEXTS:
        yield click.option(_flag(name), name, metavar=takes, multiple=True, help=text)
    for name, takes, text in _ONCE:
        yield click.option(_flag(name), name, metavar=takes, help=text)
    for name, takes, text in _PATHS:
        yield click.option(
            _flag(name), name, metavar=takes, multiple=True, callback=_dotted, help=text
        )
    yield click.option(
        "--filter",
        "queries",
        metavar="QUERY",
        multiple=True,
        help="The same as a portal's query string: 'tool=echo&param.user.id=alice'.",
    )
    yield click.option(
        "--where",
        "conditions",
        metavar="CONDITION",
        multiple=True,
        help="A condition: 'tool != echo and (duration_ms > 200 or not success)'.",
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _list(values: Any) -> Iterable[Any]:
    return values if isinstance(values, tuple) else () if values is None else (values,)


def _dotted(
    _: click.Context, parameter: click.Parameter, values: Iterable[str]
) -> tuple[tuple[str, str], ...]:
    """``user.id=alice`` of ``--param`` as the query string has it: ``param.user.id``, ``alice``."""
    pairs = []
    for value in values:
        path, equals, wanted = value.partition("=")
        if not equals or not path or not wanted:
            raise click.BadParameter(f"write {parameter.metavar}", param=parameter)
        pairs.append((f"{parameter.name}.{path}", wanted))
    return tuple(pairs)


def _read_filters(
    pairs: Iterable[tuple[str, Any]], queries: Iterable[str], conditions: Iterable[str]
) -> tuple[EventFilter, ...]:
    """Filters of the options, of query strings and conditions, without those that ask nothing."""
    from mcpaudit_lab.filters import EventFilter

    named = [
        value
        if isinstance(value, tuple)
        else (name, _exact_time(name, value) if name in _TIMES else value)
        for name, value in pairs
    ]
    filters = [EventFilter.from_query(named), *map(EventFilter.from_query, queries)]
    filters += [EventFilter(where=condition, now=_now()) for condition in conditions]
    return tuple(item for item in filters if item != EventFilter())


def _exact_time(name: str, text: str) -> str:
    """A time as a person types it, as RFC 3339; says on standard error where UTC was assumed."""
    from mcpaudit_lab.filters import is_assumed_utc, parse_moment
    from mcpaudit_lab.record import format_time

    moment = parse_moment(name, text, now=_now(), latest=name == "to")
    exact = format_time(moment) if moment is not None else ""
    if is_assumed_utc(text):
        click.echo(f"{_flag(name)} {text.strip()} is read as {exact} (UTC)", err=True)
    return exact


def _now() -> datetime:
    """The current time: the clock's, or that of the function given to click as ``obj``."""
    clock = click.get_current_context().obj
    return clock() if callable(clock) else datetime.now(UTC)


def find_id(lab: Lab, text: str) -> str:
    """The id that a text means: in any spelling a portal takes, or its first digits.

    Raises:
        EventNotFound: no event has it.
        Trouble: an invalid id, or digits that several ids start with.
    """
    from mcpaudit_lab.record import parse_id, visible

    try:
        return parse_id(text)
    except RecordError:
        digits = text.lower()
    if len(digits) < _LEAST_DIGITS or set(digits) - set("0123456789abcdef-"):
        raise Trouble(
            f"{visible(text)!r} is not an event id; give a UUID, or at least its first four digits"
        )
    found = lab.sql(
        "select id from audit_events where starts_with(id::varchar, $digits) order by id limit 3",
        {"digits": digits},
    ).fetchall()
    if not found:
        raise EventNotFound(f"no event in this lab has an id that starts with {digits}")
    if len(found) > 1:
        ids = "\n".join(f"  {event_id}" for (event_id,) in found)
        raise Trouble(f"several ids begin with {digits}:\n{ids}\nGive more digits.")
    return str(found[0][0])
