r"""The recorder in a client's configuration: put in, taken out, nothing else changed.

The files are those of Claude Desktop, Claude Code (``.mcp.json``), Cursor (``mcpServers``) and VS
Code (``servers``, with comments). The recorder becomes a stdio server's ``command``, and the
original command moves to the front of ``args``, character by character. A server with a ``url``
gets the address of a local recorder; its original address is kept beside it.

Insertions have exactly one spelling, so that removing them restores the original bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from mcpaudit_lab.record import dumps
from mcpaudit_lab.recorder.jsonc import JsoncError, Node, parse_jsonc

__all__ = ["Change", "Outcome", "unwrap_text", "wrap_text"]

_SECTIONS: Final = ("mcpServers", "servers")
_KEPT_URL: Final = "x-mcpaudit-url"
_RECORD: Final = "record"


class Outcome(StrEnum):
    """What became of a server's entry."""

    WRAPPED = "wrapped"
    UNWRAPPED = "unwrapped"
    ALREADY = "recorded already"
    NOT_WRAPPED = "not recorded"
    NEEDS_PORT = "is reached over HTTP: give --port"
    UNKNOWN = "has neither a command nor a url"
    OTHERWISE = "was changed by hand: it stays as it is"


@dataclass(frozen=True, slots=True)
class Change:
    """One server of the file.

    Attributes:
        name: of the server.
        outcome: what became of it.
        url: the URL of the recorded server; empty for stdio.
        port: the port on which its recorder listens.
    """

    name: str
    outcome: Outcome
    url: str = ""
    port: int = 0


_Edit = tuple[int, int, str]


def wrap_text(
    text: str,
    recorder: Sequence[str],
    names: Collection[str] = (),
    *,
    options: Sequence[str] = (),
    port: int | None = None,
) -> tuple[str, list[Change]]:
    """Put the recorder before servers.

    Args:
        text: the configuration.
        recorder: the command that starts the recorder, without ``record``.
        names: of the servers; none: all of them.
        options: of ``record``.
        port: the first port for servers at a URL, the next ones following; None to leave these.

    Returns:
        The new text, and what became of each server.

    Raises:
        JsoncError: the text is not such a configuration, or has no server of that name.
    """
    edits: list[_Edit] = []
    changes = []
    for name, node in _servers(text, names):
        change, made = _wrapped(text, name, node, recorder=recorder, options=options, port=port)
        if change.port:
            port = change.port + 1
        changes.append(change)
        edits += made
    return _edited(text, edits), changes


def unwrap_text(text: str, names: Collection[str] = ()) -> tuple[str, list[Change]]:
    """Take the recorder out again.

    Args:
        text: the configuration.
        names: of the servers; none: all of them.

    Returns:
        The new text, and what became of each server.

    Raises:
        JsoncError: as :func:`wrap_text`.
    """
    edits: list[_Edit] = []
    changes = []
    for name, node in _servers(text, names):
        outcome, made = _unwrapped(text, node)
        changes.append(Change(name, outcome))
        edits += made
    return _edited(text, edits), changes


def _servers(text: str, names: Collection[str]) -> Iterable[tuple[str, Node]]:
    root = parse_jsonc(text)
    sections = [(root.members or {}).get(section) for section in _SECTIONS]
    found = {name: node for item in sections if item for name, node in (item.members or {}).items()}
    if not any(sections):
        raise JsoncError(f"there is neither {' nor '.join(_SECTIONS)} in it")
    missing = [name for name in names if name not in found]
    if missing:
        raise JsoncError(f"there is no server {', '.join(map(repr, missing))} in it")
    return [(name, node) for name, node in found.items() if not names or name in names]


def _edited(text: str, edits: Iterable[_Edit]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _wrapped(
    text: str,
    name: str,
    node: Node,
    *,
    recorder: Sequence[str],
    options: Sequence[str],
    port: int | None,
) -> tuple[Change, list[_Edit]]:
    members = node.members or {}
    command, url = members.get("command"), members.get("url")
    if _is_recorded(members):
        return Change(name, Outcome.ALREADY), []
    if command is not None and isinstance(command.value, str):
        args = members.get("args")
        if args is not None and args.items is None:
            return Change(name, Outcome.UNKNOWN), []
        own = text[command.start : command.end]
        inserted = ", ".join([*map(_quoted, (*recorder[1:], _RECORD, *options, "--")), own])
        edits = [(command.start, command.end, _quoted(recorder[0]))]
        if args is None:
            edits = [(command.start, command.end, f'{_quoted(recorder[0])}, "args": [{inserted}]')]
        else:
            # The space tells an empty list from none at all when it is undone.
            inserted += ", " if args.items else " "
            edits.append((args.start + 1, args.start + 1, inserted))
        return Change(name, Outcome.WRAPPED), edits
    if url is None or not isinstance(url.value, str):
        return Change(name, Outcome.UNKNOWN), []
    if port is None:
        return Change(name, Outcome.NEEDS_PORT, url.value), []
    parts = urlsplit(url.value)
    query = f"?{parts.query}" if parts.query else ""
    local = _quoted(f"http://127.0.0.1:{port}{parts.path}{query}")
    kept = f'{local}, "{_KEPT_URL}": {text[url.start : url.end]}'
    return Change(name, Outcome.WRAPPED, url.value, port), [(url.start, url.end, kept)]


def _quoted(value: str) -> str:
    return dumps(value)


def _is_recorded(members: dict[str, Node]) -> bool:
    return _KEPT_URL in members or _own_command(members) is not None


def _own_command(members: dict[str, Node]) -> int | None:
    """The place in ``args`` of the command that the server has itself; None if not recorded."""
    command, args = members.get("command"), members.get("args")
    if command is None or args is None or not isinstance(command.value, str):
        return None
    values = [item.value for item in args.items or ()]
    if _RECORD not in values or "--" not in values:
        return None
    # As `mcpaudit-lab record …`, or `python -c "from mcpaudit_lab.cli …" record …`.
    record, dashes = values.index(_RECORD), values.index("--")
    before = [command.value, *values[:record]]
    ours = any(name in str(before[-1]) for name in ("mcpaudit-lab", "mcpaudit_lab"))
    return dashes + 1 if ours and record < dashes < len(values) - 1 else None


def _unwrapped(text: str, node: Node) -> tuple[Outcome, list[_Edit]]:
    members = node.members or {}
    url, kept = members.get("url"), members.get(_KEPT_URL)
    if url is not None and kept is not None:
        between = text[url.end : kept.start]
        if between != f', "{_KEPT_URL}": ':
            return Outcome.OTHERWISE, []
        return Outcome.UNWRAPPED, [(url.start, kept.end, text[kept.start : kept.end])]
    place = _own_command(members)
    if place is None:
        return Outcome.NOT_WRAPPED, []
    command, args = members["command"], members["args"]
    items = args.items or []
    own = text[items[place].start : items[place].end]
    if len(items) > place + 1:
        edits = [
            (command.start, command.end, own),
            (args.start + 1, items[place + 1].start, text[args.start + 1 : items[0].start]),
        ]
        between = text[items[place].end : items[place + 1].start]
        if between.startswith(", "):
            # What is behind our comma stood behind the bracket before.
            edits[1] = (args.start + 1, items[place].end + 2, "")
        return Outcome.UNWRAPPED, edits
    if text[items[place].end : args.end] == "]" and text[command.end : args.start] == ', "args": ':
        return Outcome.UNWRAPPED, [(command.start, args.end, own)]
    rest = text[items[place].end : args.end].removeprefix(" ")
    return Outcome.UNWRAPPED, [
        (command.start, command.end, own),
        (args.start + 1, args.end, rest),
    ]
