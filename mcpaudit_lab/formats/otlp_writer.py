"""Events as OTLP JSON: one server span for each call, by the MCP semantic conventions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from mcpaudit_lab.formats.otlp import EVENT, EXTRA, KINDS, PAYLOAD
from mcpaudit_lab.record import Event, dumps

__all__ = ["otlp_document"]

_TRANSPORTS: Final = {"stdio": "pipe", "http": "tcp"}
_NANOSECONDS: Final = 1_000_000
_ERROR: Final = 2
_SERVER: Final = 2
_HEX: Final = set("0123456789abcdef")
# Members of an event and of its payload that the conventions have no attribute for.
_NO_ATTRIBUTE: Final = (
    *("user_subject", "user_email", "auth_type", "api_key_name", "tool_group", "user_agent"),
    "source",
)
_NO_PAYLOAD: Final = ("request_headers", "notifications", "replayed_from")
_KINDS: Final = {name: number for number, name in KINDS.items()}
# Members of ``extra`` that are parts of the span or its resource.
_SPAN_EXTRA: Final = {
    *("trace_id", "span_id", "parent_span_id", "native_id", "span_kind", "server_name"),
    *("service_name", "resource", "scope", "attributes", "jsonrpc_id"),
}


def otlp_document(
    events: Iterable[Event], lost: Counter[str], skipped: Counter[str]
) -> Iterator[tuple[str, bool]]:
    """One OTLP JSON document, in pieces; True with each piece that ends an event.

    Args:
        events: the events.
        lost: counts the members that the conventions cannot carry.
        skipped: counts events that are left out; none are.
    """
    del skipped
    yield '{"resourceSpans":[', False
    first = True
    for event in events:
        text = dumps(_resource_span(event, lost))
        yield text if first else f",\n{text}", True
        first = False
    yield "]}\n", False


def _resource_span(event: Event, lost: Counter[str]) -> dict[str, Any]:
    extra = event.extra
    service = extra.get("service_name") or extra.get("server_name")
    attributes = [_attribute("service.name", service)] if isinstance(service, str) else []
    return {
        "resource": {"attributes": attributes},
        "scopeSpans": [{"scope": {"name": "mcpaudit_lab"}, "spans": [_span(event, lost)]}],
    }


def _span(event: Event, lost: Counter[str]) -> dict[str, Any]:
    start = event.timestamp_ns
    extra, payload = event.extra, event.payload
    wire = {} if payload is None else payload.wire
    own = _hexadecimal(extra.get("native_id"), 16)
    trace = _hexadecimal(extra.get("trace_id"), 32)
    caller = extra.get("parent_span_id") if own else extra.get("span_id")
    span: dict[str, Any] = {
        "traceId": trace or event.id.replace("-", ""),
        "spanId": own or hashlib.sha256(event.id.encode()).hexdigest()[:16],
        "name": f"tools/call {event.tool_name}",
        "kind": _KINDS.get(extra.get("span_kind", ""), _SERVER),
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + event.duration_ms * _NANOSECONDS),
    }
    if parent := _hexadecimal(caller, 16):
        span["parentSpanId"] = parent
    about: dict[str, Any] = {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
    }
    about |= {name: event.wire.get(member) for name, member in EVENT.items()}
    about |= {name: extra[member] for name, member in EXTRA.items() if member in extra}
    about |= {
        name: dumps(wire[member])
        for name, member in PAYLOAD.items()
        if wire.get(member) is not None
    }
    if payload is None and event.parameters is not None:
        about["gen_ai.tool.call.arguments"] = dumps(event.parameters)
    about.setdefault("network.transport", _TRANSPORTS.get(event.transport))
    about["client.address"] = event.remote_addr
    about["mcpaudit.event.id"] = event.id
    if not event.success:
        error = wire.get("response_error")
        code = error.get("code") if isinstance(error, dict) else None
        about.setdefault("error.type", _error_type(event, code))
        if isinstance(code, int) and not isinstance(code, bool):
            about.setdefault("rpc.response.status_code", str(code))
        span["status"] = {"code": _ERROR, "message": event.error_message}
    span["attributes"] = [
        _attribute(name, value) for name, value in about.items() if value not in (None, "")
    ]
    _count_lost(event, lost)
    return span


def _error_type(event: Event, code: Any) -> str:
    if event.error_category == "tool":
        return "tool_error"
    return "_OTHER" if code is None else str(code)


def _attribute(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": name, "value": {"boolValue": value}}
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"key": name, "value": {"intValue": str(value)}}
    text = value if isinstance(value, str) else dumps(value)
    return {"key": name, "value": {"stringValue": text}}


def _hexadecimal(value: Any, digits: int) -> str | None:
    """A trace's or span's id, if it is a valid one."""
    valid = isinstance(value, str) and len(value) == digits and set(value) <= _HEX
    return value if valid and set(value) != {"0"} else None


def _count_lost(event: Event, lost: Counter[str]) -> None:
    wire = event.payload.wire if event.payload else {}
    lost.update(name for name in _NO_ATTRIBUTE if event.wire.get(name))
    lost.update(name for name in _NO_PAYLOAD if wire.get(name))
    lost.update(name for name in wire if name.endswith("_truncated") and wire[name])
    known = {*_SPAN_EXTRA, *EXTRA.values()}
    lost.update(f"extra.{name}" for name in event.extra if name not in known)
    if event.error_category == "auth":
        lost["error_category"] += 1
