"""One event as a card: summary, request, response, notifications, headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.comparison import FILLER
from mcpaudit_lab.display.html import (
    badge_html,
    data_html,
    facts_html,
    fold_html,
    heading_html,
    inset_html,
    note_html,
    page_html,
    text_html,
)
from mcpaudit_lab.display.json_tree import json_tree_html, json_value_html
from mcpaudit_lab.display.media import media_html
from mcpaudit_lab.display.terminal_cards import notification_parts
from mcpaudit_lab.record import ToolDefinition, counted, format_time, is_redacted, redacted_paths

if TYPE_CHECKING:
    from datetime import datetime

    from mcpaudit_lab.record import Event, Note, Payload

__all__ = ["event_html", "moment_html", "outcome_of"]

_NAME_MAX: Final = 120
_VALUE_MAX: Final = 300
_MESSAGE_MAX: Final = 1000
_NOTIFICATIONS_MAX: Final = 50
_HEADERS_MAX: Final = 100
_HEADER_VALUES_MAX: Final = 10


def event_html(event: Event) -> str:
    """The card of an event, as a notebook shows it.

    Without a payload it has the summary and the parameters, and says so.
    """
    body = "".join(_parts(event))
    label = f"audit event, {event.tool_name[:_NAME_MAX]}, {outcome_of(event)}"
    return page_html(_head(event), f'<div class="mal-body">{body}</div>', label=label)


def outcome_of(event: Event) -> str:
    """``ok``, or the category of the failure, or ``failed``."""
    return "ok" if event.success else event.error_category or "failed"


def moment_html(moment: datetime) -> str:
    """A time to the millisecond; all digits are in its title."""
    text = moment.isoformat(" ", "milliseconds")[:23]
    return f'<time datetime="{format_time(moment)}" title="{format_time(moment)}">{text} UTC</time>'


def _head(event: Event) -> str:
    name = text_html(event.tool_name, limit=_NAME_MAX) or "(no tool)"
    failed = "" if event.success else " mal-failed"
    return (
        f'<div class="mal-head{failed}"><span class="mal-title mal-data">{name}</span>'
        f"{badge_html(outcome_of(event))}<span>{event.duration_ms:,} ms</span>"
        f'<span class="mal-small mal-push">{moment_html(event.timestamp)}</span></div>'
    )


def _parts(event: Event) -> Iterator[str]:
    payload = event.payload
    if why := _why(event):
        yield f'<div class="mal-why">{text_html(why, limit=_MESSAGE_MAX, lines=True)}</div>'
    yield facts_html(_facts(event))
    if event.extra:
        yield heading_html("Unknown members")
        yield json_tree_html(event.extra)
    yield from map(_note, event.notes)
    if event.definition is not None:
        yield _definition(event.definition)
    if payload is None:
        yield heading_html("Parameters")
        yield _tree(event.parameters, missing="none recorded")
        yield note_html("The request and response were not captured, or are not loaded.")
    else:
        yield from _payload(event, payload)


def _note(note: Note) -> str:
    """A note about the event: when, who, tags, text."""
    tags = "".join(badge_html(tag) for tag in note.tags)
    head = f"{moment_html(note.at)} {data_html(note.by)} {tags}"
    text = text_html(note.text, limit=_MESSAGE_MAX, lines=True)
    return (
        f'{heading_html("Note")}<p class="mal-small">{head}</p>'
        f'<div class="mal-text mal-data">{text}</div>'
    )


def _definition(tool: ToolDefinition) -> str:
    """The tool as it was offered when it was called; hidden text is written out and named."""
    hidden = tool.hidden()
    warning = "".join(note_html(f"Hidden text in {item}", "warn") for item in hidden)
    body = f'<div class="mal-text">{text_html(tool.pretty(), lines=True)}</div>'
    title = "Tool definition at the call"
    return warning + fold_html(title, body, note=f"sha256 {tool.sha256[:12]}", is_open=bool(hidden))


def _why(event: Event) -> str:
    """Why a call failed: a tool that fails says it in its result, if anywhere."""
    if event.success or (event.error_message and event.error_message != FILLER):
        return event.error_message
    payload = event.payload
    result = payload.response_result if payload else None
    content = result.get("content") if isinstance(result, dict) else None
    for block in content if isinstance(content, list) else ():
        text = block.get("text") if isinstance(block, dict) else None
        if isinstance(text, str) and text:
            return text
    return ""


def _facts(event: Event) -> Iterator[tuple[str, str]]:
    yield "id", _mono(event.id)
    who = " ".join(filter(None, (event.user_subject, event.user_email)))
    how = ", ".join(filter(None, (event.auth_type, event.api_key_name)))
    known = data_html(who) if who else '<span class="mal-muted">unknown</span>'
    yield "user", known + (f' <span class="mal-small">({data_html(how)})</span>' if how else "")
    yield "session", _mono(event.session_id)
    yield "request", _mono(event.request_id)
    yield "from", _spaced(event.remote_addr, event.user_agent)
    yield "by", _spaced(event.source, event.transport)
    yield "group", data_html(event.tool_group)
    if event.payload is not None:
        yield "replay of", _mono(event.payload.replayed_from or "")


def _mono(text: str) -> str:
    shown = text_html(text, limit=_VALUE_MAX)
    return f'<span class="mal-data mal-mono">{shown}</span>' if text else ""


def _spaced(*texts: str) -> str:
    return ' <span class="mal-muted">·</span> '.join(data_html(text) for text in texts if text)


def _tree(value: Any, *, missing: str) -> str:
    return note_html(missing) if value is None else json_tree_html(value)


def _payload(event: Event, payload: Payload) -> Iterator[str]:
    yield heading_html("Request", _size(payload.request_size_bytes))
    if payload.request_truncated:
        yield note_html("The request was too big and was not kept.", "warn")
    yield _tree(payload.request_params, missing="no arguments")
    yield _redactions(payload.request_params)
    yield heading_html("Response", _size(payload.response_size_bytes))
    if payload.response_truncated:
        yield note_html("The response was too big and was not kept.", "warn")
    yield media_html(payload.response_result)
    yield _tree(payload.response_result, missing="no result")
    if payload.response_error is not None:
        yield heading_html("Error")
        yield json_tree_html(payload.response_error)
    yield from _notifications(event, payload)
    headers = payload.request_headers
    if isinstance(headers, dict) and headers:
        yield fold_html("Request headers", _headers(headers), note=f"{len(headers):,}")


def _size(size_bytes: int) -> str:
    return counted(size_bytes, "byte") if size_bytes else ""


def _redactions(arguments: Any) -> str:
    count = len(redacted_paths(arguments))
    if not count:
        return ""
    told = "a plan replays the call only if secrets= supplies the missing values"
    return note_html(f"redacted: {counted(count, 'argument')}; {told}", "unknown")


def _notifications(event: Event, payload: Payload) -> Iterator[str]:
    items: list[dict[str, Any]] = list(payload.wire.get("notifications") or ())
    if not items and not payload.notifications_truncated:
        return
    shown = "".join(_notification(item, event.timestamp) for item in items[:_NOTIFICATIONS_MAX])
    body = f'<div class="mal-inset">{shown}</div>' if items else ""
    if len(items) > _NOTIFICATIONS_MAX:
        body += note_html(f"… {len(items) - _NOTIFICATIONS_MAX:,} more")
    if payload.notifications_truncated:
        body += note_html("The last notifications were left out.", "warn")
    yield fold_html("Notifications", body, note=f"{len(items):,}", is_open=len(items) <= 5)


def _notification(item: dict[str, Any], start: datetime) -> str:
    after, name, params = notification_parts(item, start)
    if redacted_paths(params):
        shown = json_tree_html(params, values_max=_VALUE_MAX)
    elif params is not None:
        value = json_value_html(params, limit=_VALUE_MAX)
        shown = f'<span class="mal-data mal-mono">{value}</span>'
    else:
        shown = ""
    head = f'{data_html(name)} <span class="mal-small">{after}</span>'
    return f'<div class="mal-item">{head}{shown}</div>'


def _headers(headers: dict[str, Any]) -> str:
    shown = list(headers.items())[:_HEADERS_MAX]
    more = len(headers) - len(shown)
    body = inset_html(_header(name, values) for name, values in shown)
    return body + (note_html(f"… {more:,} more") if more else "")


def _header(name: str, values: Any) -> str:
    each = values if isinstance(values, list) else [values]
    shown = "<br>".join(map(_header_value, each[:_HEADER_VALUES_MAX]))
    if len(each) > _HEADER_VALUES_MAX:
        shown += note_html(f"… {len(each) - _HEADER_VALUES_MAX:,} more")
    return f"<tr><td>{data_html(name)}</td><td>{shown}</td></tr>"


def _header_value(value: Any) -> str:
    if isinstance(value, str) and not is_redacted(value):
        return data_html(value)
    return json_value_html(value, limit=_VALUE_MAX)
