"""What of an event is compared: five sections, without what differs between any two calls.

The table in :mod:`mcpaudit_lab.comparison` says what they are; this is how they are taken from the
record, and how the JSON in text blocks is opened.
"""

from __future__ import annotations

import marshal
from typing import Any, Final

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.events import Event
from mcpaudit_lab.jsondiff import Change
from mcpaudit_lab.jsondigest import JsonText
from mcpaudit_lab.jsontext import loads
from mcpaudit_lab.redaction import Marks

__all__ = [
    "NOTIFICATION_NOISE",
    "SECTIONS",
    "SUMMARY_MEMBERS",
    "close_texts",
    "identical",
    "known_sections",
    "open_texts",
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
"""Members of a notification's params that are left aside: ids and times that MCP defines."""

_ZEROS: Final[dict[str, Any]] = {"success": False, "content_blocks": 0}
_TRUNCATED: Final = {
    "request_truncated": ("param",),
    "response_truncated": ("response", "error"),
    "notifications_truncated": ("notifications",),
}
_FILLER: Final = "tool returned IsError"


def known_sections(event: Event) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What is known of a call, by section, and the sections of which nothing is."""
    wire = event.wire
    summary = {
        name: value
        for name in SUMMARY_MEMBERS
        if (value := wire.get(name) or _ZEROS.get(name)) is not None
    }
    if summary.get("error_message") == _FILLER:
        del summary["error_message"]
    known: dict[str, Any] = {"summary": summary}
    payload = wire.get("payload")
    if payload is None:
        if wire.get("parameters") is None:
            # No arguments and none captured look the same here.
            return known, ("param", "response", "error", "notifications")
        known["param"] = wire["parameters"]
        return known, ("response", "error", "notifications")
    # Empty members are left out of the record, or null.
    params = payload.get("request_params")
    if params is None:
        params = wire.get("parameters")
    known["param"] = {} if params is None else params
    for name, member in (("response", "response_result"), ("error", "response_error")):
        if payload.get(member) is not None:
            known[name] = payload[member]
    known["notifications"] = [
        _without_noise(notification) for notification in payload.get("notifications") or ()
    ]
    return known, tuple(
        name for flag, names in _TRUNCATED.items() if payload.get(flag) for name in names
    )


def _without_noise(notification: dict[str, Any]) -> dict[str, Any]:
    params = notification.get("params")
    if isinstance(params, dict):
        params = {name: value for name, value in params.items() if name not in NOTIFICATION_NOISE}
    return {"method": notification.get("method"), "params": params}


def identical(left: dict[str, Any], right: dict[str, Any], marks: Marks) -> bool:
    """Whether two calls are surely equal and nothing in them is redacted, at the speed of C.

    False says nothing: they may still be equal, but written differently.
    """
    try:
        # == alone takes True for 1. The bytes tell types apart, but take longer to make.
        if left != right:
            return False
        content = marshal.dumps(left)
        if content != marshal.dumps(right):
            return False
    except (RecursionError, ValueError):
        # Nested too deep for either, or a JsonDecimal, which has no such bytes.
        return False
    content = content.lower()
    return b"\\u" not in content and not any(hint.encode() in content for hint in marks.hints)


def open_texts(left: dict[str, Any], right: dict[str, Any], marks: Marks) -> bool:
    """Make the texts in both results that are JSON ready to be compared as JSON, if need be.

    Returns:
        Whether it was done; :func:`close_texts` undoes it in what is found.
    """
    one, other = left.get("response"), right.get("response")
    left_texts, right_texts = _texts(one), _texts(other)
    if not left_texts or not right_texts:
        return False
    if left_texts == right_texts and not any(_may_hide_a_mark(text, marks) for text in left_texts):
        return False
    left["response"], right["response"] = _open(one), _open(other)
    return True


def _may_hide_a_mark(text: str, marks: Marks) -> bool:
    r"""Whether a mark could be in the JSON. Some writers escape ``<`` as ``\u003c``."""
    text = text.lower()
    return "\\u" in text or any(hint in text for hint in marks.hints)


def _texts(result: Any) -> list[str]:
    content = result.get("content") if isinstance(result, dict) else None
    blocks = content if isinstance(content, list) else ()
    return [block["text"] for block in blocks if _is_text_block(block)]


def _is_text_block(block: Any) -> bool:
    return (
        isinstance(block, dict)
        and block.get("type") == "text"
        and isinstance(block.get("text"), str)
    )


def _open(result: Any) -> Any:
    content = [
        {**block, "text": _read(block["text"])} if _is_text_block(block) else block
        for block in result["content"]
    ]
    return {**result, "content": content}


def _read(text: str) -> str:
    if text.lstrip(" \t\n\r")[:1] not in ("{", "["):
        return text
    try:
        return JsonText.of(text, loads(text))
    except RecordError:
        return text


def close_texts(change: Change) -> Change:
    """The change with its values as they stand in the record."""
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
