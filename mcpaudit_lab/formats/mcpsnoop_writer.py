"""Events as mcpsnoop frames: the JSON-RPC messages of each call, as far as they were captured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from mcpaudit_lab.formats.jsonrpc import NO_ANSWER
from mcpaudit_lab.record import Event, Payload, dumps, format_time

__all__ = ["mcpsnoop_lines"]

_TRANSPORTS: Final = ("stdio", "http")
_INTERNAL_ERROR: Final = -32603
# Members of an event and of its payload that a transcript has no place for.
_NO_MEMBER: Final = (
    *("user_subject", "user_email", "auth_type", "api_key_name", "tool_group", "user_agent"),
    *("remote_addr", "source"),
)
_NO_PAYLOAD: Final = ("request_headers", "replayed_from")
_KEPT_EXTRA: Final = ("server_label", "jsonrpc_id")


def mcpsnoop_lines(
    events: Iterable[Event], lost: Counter[str], skipped: Counter[str]
) -> Iterator[tuple[str, bool]]:
    """Frames as lines; True with the last frame of each event.

    Args:
        events: the events, oldest first.
        lost: counts the members that a transcript cannot carry.
        skipped: counts the events without captured messages, by reason.
    """
    sequences = Counter[str]()
    for event in events:
        payload = event.payload
        if payload is None:
            skipped["its messages were not captured"] += 1
            continue
        session = event.session_id or f"event-{event.id}"
        frames = list(_frames(event, payload, sequences[session] + 1))
        for number, (at, direction, raw) in enumerate(frames, 1):
            sequences[session] += 1
            envelope = {
                "session_id": session,
                "server_label": _label(event),
                "seq": sequences[session],
                "ts": at,
                "direction": direction,
                "transport": event.transport if event.transport in _TRANSPORTS else "stdio",
                "raw": raw,
            }
            yield f"{dumps(envelope)}\n", number == len(frames)
        _count_lost(event, payload, lost)


def _label(event: Event) -> str:
    known = (event.extra.get(name) for name in ("server_label", "server_name"))
    return next((name for name in known if isinstance(name, str)), "")


def _frames(event: Event, payload: Payload, call: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Time, direction and message of each frame of a call."""
    wire = payload.wire
    started = str(event.wire["timestamp"])
    ended = format_time(event.timestamp + timedelta(milliseconds=event.duration_ms))
    params: dict[str, Any] = {"name": event.tool_name}
    if wire.get("request_params") is not None:
        params["arguments"] = wire["request_params"]
    notifications = [
        item
        for item in _list(wire.get("notifications"))
        if isinstance(item, dict) and isinstance(item.get("method"), str)
    ]
    # The token by which progress belongs to this call is not captured with the request.
    tokens = [_token(item) for item in notifications]
    if token := next((token for token in tokens if token is not None), None):
        params["_meta"] = {"progressToken": token}
    yield started, "c2s", {"jsonrpc": "2.0", "id": call, "method": "tools/call", "params": params}
    for item in notifications:
        message = {"jsonrpc": "2.0", "method": item["method"]}
        if item.get("params") is not None:
            message["params"] = item["params"]
        at = item.get("ts")
        yield at if isinstance(at, str) else started, "s2c", message
    if wire.get("response_result") is not None:
        yield ended, "s2c", {"jsonrpc": "2.0", "id": call, "result": wire["response_result"]}
    elif event.error_message != NO_ANSWER:
        yield ended, "s2c", {"jsonrpc": "2.0", "id": call, "error": _error(event, wire)}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _token(notification: dict[str, Any]) -> Any:
    params = notification.get("params")
    return params.get("progressToken") if isinstance(params, dict) else None


def _error(event: Event, wire: dict[str, Any]) -> dict[str, Any]:
    known = wire.get("response_error")
    error = {
        name: value
        for name, value in (known.items() if isinstance(known, dict) else ())
        if name != "category"
    }
    return {"code": _INTERNAL_ERROR, "message": event.error_message} | error


def _count_lost(event: Event, payload: Payload, lost: Counter[str]) -> None:
    lost.update(name for name in _NO_MEMBER if event.wire.get(name))
    lost.update(name for name in _NO_PAYLOAD if payload.wire.get(name))
    lost.update(name for name in payload.wire if name.endswith("_truncated") and payload.wire[name])
    lost.update(f"extra.{name}" for name in event.extra if name not in _KEPT_EXTRA)
    if not event.session_id:
        lost["an event without a session gets one of its own"] += 1
