"""What of an event is compared: five sections, without what differs between any two calls.

The table in :mod:`.comparison.comparison` says what they are; this is how they are taken from the
record, and how the JSON in text blocks is opened.
"""

from __future__ import annotations

from typing import Any, Final

from mcpaudit_lab.comparison.equality import JsonText, identical
from mcpaudit_lab.comparison.jsondiff import Change
from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import Event, Marks, loads

__all__ = [
    "FILLER",
    "NOTIFICATION_NOISE",
    "SECTIONS",
    "SUMMARY_MEMBERS",
    "close_texts",
    "known_sections",
    "open_texts",
    "surely_equal",
]

SECTIONS: Final = ("summary", "param", "response", "error", "notifications")
"""The sections in their order; each is the first segment of the paths in it."""

SUMMARY_MEMBERS: Final = (
    "tool_name",
    "tool_group",
    "success",
    "error_category",
    "error_message",
    "content_blocks",
)
"""The members of an event that are compared."""

NOTIFICATION_NOISE: Final = frozenset(
    {
        "progressToken",
        "requestId",
        "taskId",
        "elicitationId",
        "createdAt",
        "lastUpdatedAt",
    }
)
"""Members of a notification's params that are ignored: ids and times that MCP defines."""

_TRUNCATED: Final = (
    ("request_truncated", ("param",)),
    ("response_truncated", ("response", "error")),
    ("notifications_truncated", ("notifications",)),
)
FILLER: Final = "tool returned IsError"
"""The reference server's default error message for Try-It and replays."""


def known_sections(event: Event) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The known parts of a call, by section, and the sections that are unknown."""
    wire = event.wire
    summary = {name: wire[name] for name in SUMMARY_MEMBERS if wire.get(name)}
    summary.setdefault("success", False)
    summary.setdefault("content_blocks", 0)
    if summary.get("error_message") == FILLER:
        del summary["error_message"]
    params = wire.get("parameters")
    payload = wire.get("payload")
    if payload is None:
        if params is None:
            # No arguments and none captured look the same here.
            return {"summary": summary}, ("param", "response", "error", "notifications")
        return {"summary": summary, "param": params}, ("response", "error", "notifications")
    # Empty members are left out of the record, or null.
    if payload.get("request_params") is not None:
        params = payload["request_params"]
    known = {"summary": summary, "param": {} if params is None else params}
    if payload.get("response_result") is not None:
        known["response"] = payload["response_result"]
    if payload.get("response_error") is not None:
        known["error"] = payload["response_error"]
    known["notifications"] = [
        _without_noise(notification) for notification in payload.get("notifications") or ()
    ]
    unknown: tuple[str, ...] = ()
    for flag, names in _TRUNCATED:
        if payload.get(flag):
            unknown += names
    return known, unknown


def _without_noise(notification: dict[str, Any]) -> dict[str, Any]:
    params = notification.get("params")
    if isinstance(params, dict):
        params = {name: value for name, value in params.items() if name not in NOTIFICATION_NOISE}
    return {"method": notification.get("method"), "params": params}


def surely_equal(left: dict[str, Any], right: dict[str, Any], marks: Marks) -> bool:
    """Whether two calls are certainly equal and without redaction, after a quick check.

    False says nothing.
    """
    return identical(left, right, (*marks.hint_bytes, b"\\u"))


def open_texts(left: dict[str, Any], right: dict[str, Any], marks: Marks) -> bool:
    """Make the texts in both results that are JSON ready to be compared as JSON, if need be.

    Returns:
        Whether texts were opened; :func:`close_texts` undoes it in the findings.
    """
    one, other = _content(left), _content(right)
    if not one or not other:
        return False
    if _texts(one) == _texts(other) and not any(_may_hide_a_mark(it, marks) for it in _texts(one)):
        return False
    left["response"] = {**left["response"], "content": [_open(block) for block in one]}
    right["response"] = {**right["response"], "content": [_open(block) for block in other]}
    return True


def _content(sections: dict[str, Any]) -> list[Any]:
    result = sections.get("response")
    content = result.get("content") if isinstance(result, dict) else None
    return content if isinstance(content, list) else []


def _texts(content: list[Any]) -> list[str | None]:
    return [_text(block) for block in content]


def _text(block: Any) -> str | None:
    """The text of a text block."""
    if isinstance(block, dict) and block.get("type") == "text":
        text = block.get("text")
        return text if isinstance(text, str) else None
    return None


def _may_hide_a_mark(text: str | None, marks: Marks) -> bool:
    r"""Whether a mark could be in the JSON. Some writers escape ``<`` as ``\u003c``."""
    if text is None:
        return False
    text = text.lower()
    return "\\u" in text or any(hint in text for hint in marks.hints)


def _open(block: Any) -> Any:
    text = _text(block)
    if not text or text.lstrip(" \t\n\r")[:1] not in ("{", "["):
        return block
    try:
        return {**block, "text": JsonText.of(text, loads(text))}
    except RecordError:
        return block


def close_texts(change: Change) -> Change:
    """The change with its values as they are in the record."""
    # Of the section, its content, a block or its text.
    if change.path[0] != "response" or len(change.path) > 4:
        return change
    left, right = _close(change.left), _close(change.right)
    if left is change.left and right is change.right:
        return change
    return Change(change.path, change.kind, left, right)


def _close(value: Any) -> Any:
    """The same for a value: a text, a block, a list of blocks or a result."""
    if isinstance(value, JsonText):
        return str(value)
    if isinstance(value, list):
        return [_close(item) if isinstance(item, dict) else item for item in value]
    if isinstance(value, dict):
        for name in ("text", "content"):
            inner = value.get(name)
            if isinstance(inner, JsonText | list):
                return {**value, name: _close(inner)}
    return value
