r"""Edits MCP client configurations: wraps servers in the recorder and unwraps them.

Supports the files of Claude Desktop, Claude Code (``.mcp.json``), Cursor (``mcpServers``) and VS
Code (``servers``, with comments). For a stdio server, ``command`` becomes the recorder's and the
original command moves verbatim into ``args``. For a server with a ``url``, ``url`` becomes the
address of a local recorder and the original URL is kept in a member beside it.

The inserted text has exactly one spelling, so that unwrapping restores the original bytes.
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
    """The result of wrapping or unwrapping one server."""

    WRAPPED = "wrapped"
    UNWRAPPED = "unwrapped"
    ALREADY = "recorded already"
    NOT_WRAPPED = "not recorded"
    NEEDS_PORT = "is reached over HTTP: give --port"
    UNKNOWN = "has neither a command nor a url"
    OTHERWISE = "was changed by hand: it stays as it is"


@dataclass(frozen=True, slots=True)
class Change:
    """The change to one server's entry.

    Attributes:
        name: the server's name.
        outcome: the result.
        url: the original URL of a server over HTTP; empty for stdio.
        port: the port of that server's recorder; 0 for stdio.
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
    """Wrap servers in the recorder.

    Args:
        text: the configuration.
        recorder: the command that starts the recorder, without ``record``.
        names: servers to wrap; empty: all of them.
        options: options for ``record``.
        port: port for the first server with a URL; the others get the ports after it. None leaves
            servers with a URL unchanged.

    Returns:
        The new text, and the change to each server.

    Raises:
        JsoncError: the text is not an MCP client configuration, or lacks a server in ``names``.
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
    """Remove the recorder from servers.

    Args:
        text: the configuration.
        names: servers to unwrap; empty: all of them.

    Returns:
        The new text, and the change to each server.

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
        raise JsoncError(f"the file has neither {' nor '.join(_SECTIONS)}")
    missing = [name for name in names if name not in found]
    if missing:
        raise JsoncError(f"the file has no server {', '.join(map(repr, missing))}")
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
            # The trailing space lets unwrapping tell an empty list from a missing one.
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
    """The index in ``args`` of the server's own command; None if the server is not wrapped."""
    command, args = members.get("command"), members.get("args")
    if command is None or args is None or not isinstance(command.value, str):
        return None
    values = [item.value for item in args.items or ()]
    if _RECORD not in values or "--" not in values:
        return None
    # Either `mcpaudit-lab record …` or `python -c "from mcpaudit_lab.cli …" record …`.
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
            # Wrapping inserted the text up to this comma right after the bracket.
            edits[1] = (args.start + 1, items[place].end + 2, "")
        return Outcome.UNWRAPPED, edits
    if text[items[place].end : args.end] == "]" and text[command.end : args.start] == ', "args": ':
        return Outcome.UNWRAPPED, [(command.start, args.end, own)]
    rest = text[items[place].end : args.end].removeprefix(" ")
    return Outcome.UNWRAPPED, [
        (command.start, command.end, own),
        (args.start + 1, args.end, rest),
    ]
