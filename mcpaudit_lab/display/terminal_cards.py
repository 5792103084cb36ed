"""One event, one comparison, one entry of the ledger: as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from mcpaudit_lab.comparison import format_path
from mcpaudit_lab.display.terminal_tables import OUTCOMES, VERDICTS
from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import (
    Json,
    counted,
    dumps,
    format_time,
    parse_time,
    redacted_paths,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rich.console import Console

    from mcpaudit_lab.comparison import Comparison, ComparisonGroups
    from mcpaudit_lab.record import Event, Payload
    from mcpaudit_lab.storage.load import Provenance

__all__ = [
    "notification_parts",
    "pretty_json",
    "print_comparison",
    "print_event",
    "print_groups",
    "print_provenance",
]

_LABEL_WIDTH: Final = 10
# Limit of one value for people; --json has all of it.
_TEXT_MAX: Final = 1000
_LINES_MAX: Final = 400
# Deeper values are on one line.
_DEPTH_MAX: Final = 12
# The first character of a line in a text's difference, and its style.
_LINE_STYLES: Final = {"    -": "red", "    +": "green", "    ?": "bold", "    @": "cyan"}
_KIND_STYLES: Final = {
    "value": "yellow",
    "type": "yellow",
    "order": "yellow",
    "removed": "red",
    "added": "green",
    "unknown": "magenta",
}


def print_event(console: Console, event: Event) -> None:
    """Print an event as a card: the summary, then request, response and notifications."""
    outcome = "ok" if event.success else event.error_category or "failed"
    head = Text(visible(event.tool_name) or "(no tool)", "bold")
    head.append("  ")
    head.append(visible(outcome), OUTCOMES.get(outcome, "red"))
    head.append(f"  {event.duration_ms} ms  {format_time(event.timestamp)}", "not bold")
    console.print(head, soft_wrap=True)
    for label, text in _summary(event):
        _line(console, label, text)
    for note in event.notes:
        _line(console, "note", str(note))
    if event.definition is not None:
        _line(console, "definition", f"sha256 {event.definition.sha256}")
        for item in event.definition.hidden():
            _line(console, "hidden text", item)
    payload = event.payload
    if payload is None:
        _heading(console, "Parameters")
        _json(console, event.parameters, missing="none recorded")
        _line(console, "payload", "not captured, or not loaded")
        return
    _print_payload(console, event, payload)


def _summary(event: Event) -> Iterator[tuple[str, str]]:
    who = " ".join(filter(None, (event.user_subject, event.user_email))) or "nobody known"
    how = ", ".join(filter(None, (event.auth_type, event.api_key_name)))
    yield "id", event.id
    yield "user", f"{who} ({how})" if how else who
    yield "session", event.session_id
    yield "request", event.request_id
    yield "from", "  ".join(filter(None, (event.remote_addr, event.user_agent)))
    yield "by", " over ".join(filter(None, (event.source, event.transport)))
    yield "group", event.tool_group
    yield "error", event.error_message
    if event.extra:
        yield "extra", dumps(event.extra)


def _print_payload(console: Console, event: Event, payload: Payload) -> None:
    if payload.replayed_from:
        _line(console, "replay of", payload.replayed_from)
    _heading(console, f"Request  {_size(payload.request_size_bytes, payload.request_truncated)}")
    _json(console, payload.request_params, missing="no arguments")
    for path in redacted_paths(payload.request_params):
        _line(console, "redacted", format_path(path))
    headers = payload.request_headers
    if isinstance(headers, dict) and headers:
        _heading(console, "Headers")
        for name, values in headers.items():
            # An HTTP header is a list of texts; a record may contain anything.
            each = values if isinstance(values, list) else [dumps(values)]
            joined = ", ".join(item if isinstance(item, str) else dumps(item) for item in each)
            console.print(Text(f"  {visible(name)}: {visible(_cut(joined))}"), soft_wrap=True)
    _heading(console, f"Response  {_size(payload.response_size_bytes, payload.response_truncated)}")
    _json(console, payload.response_result, missing="no result")
    if payload.response_error is not None:
        _heading(console, "Error")
        _json(console, payload.response_error, missing="")
    notifications = payload.wire.get("notifications")
    if notifications:
        cut = ", the last ones left out" if payload.notifications_truncated else ""
        _heading(console, f"Notifications  {len(notifications)}{cut}")
        for item in notifications:
            after, method, params = notification_parts(item, event.timestamp)
            shown = "" if params is None else _cut(dumps(params))
            line = "  ".join(filter(None, (after, visible(method), visible(shown))))
            console.print(Text(f"  {line}"), soft_wrap=True)


def _size(size: int, truncated: bool) -> str:
    parts = (counted(size, "byte") if size else "", "too big, not kept" if truncated else "")
    return ", ".join(filter(None, parts))


def notification_parts(item: dict[str, Any], start: datetime) -> tuple[str, str, Json]:
    """When a notification came after the call's start, its method, and its params.

    A record may contain anything here: an invalid time becomes an empty text.
    """
    method = item.get("method")
    name = method if isinstance(method, str) else dumps(method)
    try:
        moment = parse_time(item["ts"])
    except (KeyError, TypeError, RecordError):
        return "", name, item.get("params")
    return f"+{(moment - start).total_seconds() * 1000:,.1f} ms", name, item.get("params")


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print a comparison: verdict, both sides, each change, what cannot be known."""
    # A value has half of the line that is left beside an average path.
    width = 60 if not console.is_terminal else max(20, (console.width - 30) // 2)
    first, *rest = comparison.describe(width=width).splitlines()
    console.print(Text(first, VERDICTS[comparison.verdict]), soft_wrap=True)
    for line in rest:
        console.print(_change_line(line, _LINE_STYLES.get(line[:5], ""), 2), soft_wrap=True)


def print_groups(console: Console, groups: ComparisonGroups, noun: str) -> None:
    """Print what changed in many comparisons, by tool and by place.

    Args:
        console: where to print.
        groups: the comparisons.
        noun: what one comparison is called, such as ``replay``.
    """
    first, *rest = groups.describe(noun).splitlines()
    console.print(Text(first, "bold"), soft_wrap=True)
    for line in rest:
        shown = _change_line(line, "", 4)
        if console.is_terminal:
            shown.truncate(console.width, overflow="ellipsis")
        console.print(shown, soft_wrap=True)


def _change_line(line: str, style: str, indent: int) -> Text:
    """A line with the kind of change in its colour, where it begins with one."""
    shown = Text(line, style)
    kind = line[: indent + 10].split(maxsplit=1)[0]
    if kind in _KIND_STYLES and line.startswith(f"{' ' * indent}{kind}"):
        shown.stylize(_KIND_STYLES[kind], indent, indent + len(kind))
    return shown


def print_provenance(console: Console, ledger: Sequence[Provenance]) -> None:
    """Print where an event, and its payload, came from, with the raw lines."""
    for item in ledger:
        _heading(console, f"Provenance of the {item.part}")
        _line(console, item.kind, item.source)
        _line(console, "line", f"{item.line:,}")
        _line(console, "asked", item.request or "")
        _line(console, "SHA-256", item.sha256)
        _line(console, "loaded", format_time(item.loaded_at))
        if item.raw is None:
            _line(console, "raw", item.note)
        else:
            _line(console, "raw", _cut(item.raw.decode("utf-8", "backslashreplace")))


def _heading(console: Console, text: str) -> None:
    console.print(Text(f"\n{text.rstrip()}", "bold"), soft_wrap=True)


def _line(console: Console, label: str, text: str) -> None:
    """Print a label and its text; nothing for an empty text."""
    if text:
        line = Text(f"  {label:{_LABEL_WIDTH}}", "dim")
        line.append(visible(text), "not dim")
        console.print(line, soft_wrap=True)


def _json(console: Console, value: Any, *, missing: str) -> None:
    if value is None:
        console.print(Text(f"  {missing}", "dim"), soft_wrap=True)
        return
    for line in pretty_json(value):
        console.print(Text(f"  {line}"), soft_wrap=True)


def pretty_json(value: Any) -> Iterator[str]:
    """A JSON value as indented lines for a person, fit for a terminal.

    Long texts and long values are cut, and say so.
    """
    for number, line in enumerate(_pretty(value, "", 0)):
        if number == _LINES_MAX:
            yield "… more; --json shows all"
            return
        yield visible(line)


def _pretty(value: Any, before: str, depth: int, after: str = "") -> Iterator[str]:
    """Lines of a value, with the text before and after it."""
    indent = "  " * depth
    if depth == _DEPTH_MAX or not value or not isinstance(value, dict | list):
        yield f"{indent}{before}{_cut(dumps(value))}{after}"
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield f"{indent}{before}{opening}"
    items = (
        [(f"{_cut(dumps(key))}: ", child) for key, child in value.items()]
        if isinstance(value, dict)
        else [("", child) for child in value]
    )
    for number, (key, child) in enumerate(items, 1):
        yield from _pretty(child, key, depth + 1, "," if number < len(items) else "")
    yield f"{indent}{closing}{after}"


def _cut(text: str) -> str:
    if len(text) <= _TEXT_MAX:
        return text
    return (
        f"{text[:_TEXT_MAX]}… {counted(len(text) - _TEXT_MAX, 'more character')}; --json shows all"
    )
