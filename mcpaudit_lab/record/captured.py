"""What is kept of one tool call: the request, the notifications, and how it ended.

The part of the contract that does not depend on who watches: an audited server, a recorder between
client and server, and the readers of transcripts all keep a call by these rules. Nothing here
waits, keeps time, or knows how the messages travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcpaudit_lab.record.jsontext import Json
from mcpaudit_lab.record.sanitize import Sanitizer, copy_json
from mcpaudit_lab.record.wiretext import wire_size

__all__ = ["VERBATIM", "CapturePolicy", "CapturedCall", "outcome_of"]

# What a call that was cancelled leaves behind: the error of a cancelled context, as recorded.
_CANCELLED_RESULT: dict[str, Any] = {
    "content": [{"type": "text", "text": "context canceled"}],
    "isError": True,
}
# Envelope members of the 2026-07-28 era that say nothing about the call. Without them the same
# call has the same result in both eras.
_SERVER_INFO_KEY = "io.modelcontextprotocol/serverInfo"


@dataclass(frozen=True, slots=True)
class CapturePolicy:
    """What is kept of a call.

    Attributes:
        sanitizer: removes secrets from everything that is stored.
        sanitize_responses: take it out of results too. The reference server keeps them as they
            are.
        max_payload_bytes: a request or response over this size is left out whole, its size kept.
        max_notifications: how many notifications of one call are kept; together they have at most
            ``max_payload_bytes``.
        tool_groups: tool name to the group it is listed under.
        verbatim: keep all of it as it is: nothing is taken out, left out, added or measured. For
            reading what another recorder kept.
    """

    sanitizer: Sanitizer = field(default_factory=Sanitizer)
    sanitize_responses: bool = True
    max_payload_bytes: int = 65_536
    max_notifications: int = 100
    tool_groups: Mapping[str, str] = field(default_factory=dict)
    verbatim: bool = False


VERBATIM = CapturePolicy(verbatim=True)
"""Everything as it was recorded: for the readers of other recorders' files."""


class CapturedCall:
    """What is known of one call so far.

    Args:
        arguments: as sent; anything but an object counts as no arguments.
        policy: what to store.
        unbounded: keep requests, results and notifications of any size, and measure none.
        max_request_bytes: keep the request only up to this size; ``policy`` decides otherwise.
    """

    def __init__(
        self,
        arguments: Any,
        policy: CapturePolicy,
        *,
        unbounded: bool = False,
        max_request_bytes: int | None = None,
    ) -> None:
        self._policy = policy
        self._unbounded = unbounded or policy.verbatim
        self._request_bytes = 0
        self._request_truncated = False
        if policy.verbatim:
            self._parameters = arguments
        else:
            self._keep_request(arguments, max_request_bytes)
        self._notifications: list[dict[str, Any]] = []
        self._notification_bytes = 2
        self._notifications_truncated = False
        self._result: Any = None
        self._error: dict[str, Any] | None = None

    def _keep_request(self, arguments: Any, max_request_bytes: int | None) -> None:
        policy = self._policy
        cleaned = policy.sanitizer.clean(arguments if isinstance(arguments, Mapping) else {})
        # As recorded: a request is measured as it is kept, a response as it was sent.
        self._request_bytes = wire_size(cleaned)
        limit = policy.max_payload_bytes if max_request_bytes is None else max_request_bytes
        self._request_truncated = self._request_bytes > limit and not self._unbounded
        keep = max_request_bytes is None or not self._request_truncated
        self._parameters = cleaned if cleaned and keep else None

    @property
    def parameters(self) -> Any:
        """The arguments as they are kept, or None."""
        return self._parameters

    def add_notification(self, method: str, params: Any, ts: str) -> None:
        """A notification went to the client while the call ran.

        Args:
            method: its method.
            params: its params, any JSON.
            ts: when it was sent, RFC 3339.
        """
        if self._notifications_truncated:
            return
        clean = self._policy.sanitizer.clean
        notification = {
            "ts": ts,
            "method": method,
            "params": params if self._policy.verbatim else clean(params),
        }
        if self._policy.verbatim:
            self._notifications.append(notification)
            return
        size = self._notification_bytes + wire_size(notification) + 1
        fits = self._unbounded or size <= self._policy.max_payload_bytes
        if not fits or len(self._notifications) >= self._policy.max_notifications:
            # Drop the tail rather than single large notifications, so that the stored ones have no
            # holes.
            self._notifications_truncated = True
            return
        self._notification_bytes = size
        self._notifications.append(notification)

    def finish(self, result: Any) -> None:
        """The call was answered with this ``CallToolResult``, in its JSON form."""
        self._result = result

    def cancel(self) -> None:
        """The call was cancelled: by the caller, by its leaving, or since the server ends."""
        self._result = _CANCELLED_RESULT

    def fail(self, message: str, category: str = "handler", **details: Any) -> None:
        """The call raised, was refused, or was answered with a JSON-RPC error.

        Args:
            message: for the record.
            category: ``handler`` or ``auth``.
            **details: more members of ``response_error``.
        """
        limit = self._policy.max_payload_bytes
        if len(message) > limit and not self._policy.verbatim:
            message = message[: limit - 1] + "…"
        self._error = {"category": category, "message": message, **details}

    def sent(self) -> dict[str, Any]:
        """The payload members for the request and its notifications."""
        members: dict[str, Any] = {
            "jsonrpc_method": "tools/call",
            "request_params": None if self._request_truncated else self._parameters,
            "notifications": list(self._notifications),
            "notifications_truncated": self._notifications_truncated,
        }
        if not self._unbounded:
            members["request_size_bytes"] = self._request_bytes
            members["request_truncated"] = self._request_truncated
        return members

    def outcome(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The members of event and payload that say how it ended."""
        if self._error is not None:
            event = {
                "success": False,
                "error_message": self._error["message"],
                "error_category": self._error["category"],
            }
            return event, {"response_error": self._error}
        sent = self._result
        if self._policy.verbatim:
            result = sent
        else:
            result = _without_envelope(sent if isinstance(sent, Mapping) else {})
        event = outcome_of(result)
        if self._unbounded:
            return event, {"response_result": self._clean_result(result)}
        size = wire_size(result)
        truncated = size > self._policy.max_payload_bytes
        payload = {
            "response_result": None if truncated else self._clean_result(result),
            "response_size_bytes": size,
            "response_truncated": truncated,
        }
        return event, payload

    def _clean_result(self, result: Any) -> Json:
        if self._policy.verbatim:
            kept: Json = result
            return kept
        return (self._policy.sanitizer.clean if self._policy.sanitize_responses else copy_json)(
            result
        )


def outcome_of(result: Any) -> dict[str, Any]:
    """The members of an event that a ``CallToolResult`` decides.

    Args:
        result: any JSON; a value that is not an object has not failed and has no content.
    """
    members = result if isinstance(result, Mapping) else {}
    is_error = members.get("isError") is True
    content = members.get("content")
    blocks: list[Any] = content if isinstance(content, list) else []
    return {
        "success": not is_error,
        "error_category": "tool" if is_error else "",
        "response_chars": sum(map(_text_bytes, blocks)),
        "content_blocks": len(blocks),
    }


def _without_envelope(result: Mapping[str, Any]) -> dict[str, Any]:
    # A result that asks for more input (2026-07-28) is not a CallToolResult yet.
    members = {"isError": False, **result} if "content" in result else dict(result)
    if members.get("resultType") == "complete":
        del members["resultType"]
    meta = members.get("_meta")
    if isinstance(meta, dict) and _SERVER_INFO_KEY in meta:
        rest = {name: value for name, value in meta.items() if name != _SERVER_INFO_KEY}
        if rest:
            members["_meta"] = rest
        else:
            del members["_meta"]
    return members


def _text_bytes(block: Any) -> int:
    """The record calls them characters and counts bytes of UTF-8."""
    if not isinstance(block, Mapping) or block.get("type") != "text":
        return 0
    text = block.get("text")
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0
