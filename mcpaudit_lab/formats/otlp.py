"""OpenTelemetry: spans of tool calls in OTLP JSON, one document or one a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mcpaudit_lab.errors import RecordError, RejectReason, SourceError
from mcpaudit_lab.formats.jsonrpc import event_id, milliseconds_between, time_text
from mcpaudit_lab.formats.lines import (
    Bad,
    Document,
    Found,
    Line,
    Outcome,
    Place,
    Tally,
    elements,
    members,
    objects,
    peek_members,
)
from mcpaudit_lab.formats.reader import Reader
from mcpaudit_lab.record import Event, Payload, loads, outcome_of, skip_space

__all__ = ["OTEL"]

SOURCE = "otel"
# Attributes of a span, and members of the event.
EVENT = {
    "gen_ai.tool.name": "tool_name",
    "jsonrpc.request.id": "request_id",
    "mcp.session.id": "session_id",
}
EXTRA = {
    "mcp.protocol.version": "protocol_version",
    "jsonrpc.request.id": "jsonrpc_id",
    "error.type": "error_type",
    "rpc.response.status_code": "rpc_status_code",
    "server.address": "server_address",
    "server.port": "server_port",
    "network.transport": "network_transport",
}
PAYLOAD = {
    "gen_ai.tool.call.arguments": "request_params",
    "gen_ai.tool.call.result": "response_result",
}
TRANSPORTS = {"pipe": "stdio", "tcp": "http", "quic": "http"}
KINDS: dict[Any, str] = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_CONSUMED = {*EVENT, *EXTRA, *PAYLOAD, "mcp.method.name", "client.address"}
_ERROR = (2, "2", "STATUS_CODE_ERROR")
_SIGNALS = ("resourceSpans", "resourceMetrics", "resourceLogs")
_MAX_DEPTH = 500


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("resourceSpans"), list)


def _is_start(text: str) -> bool:
    whole, cut, _ = peek_members(text)
    return "resourceSpans" in {*whole, cut}


def _read(lines: Iterator[Line], tally: Tally) -> Iterator[Outcome]:
    if tally.document:
        yield from _read_document(Document(lines, tally), tally)
        return
    for line, value in objects(lines, tally):
        if not any(isinstance(value.get(signal), list) for signal in _SIGNALS):
            if tally.wrapped:
                tally.other += 1
            else:
                error = RecordError(RejectReason.BAD_FIELD, "there are no resourceSpans")
                tally.reject(line, error)
            continue
        count = 0
        for resource, scope, span in _spans(value):
            count += 1
            yield from _outcome((resource, scope, span), line.places, line.text, tally)
        tally.lines += max(count - 1, 0)
        tally.other += count == 0


def _spans(value: dict[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    for resource in _list(value, "resourceSpans"):
        for scope in _list(resource, "scopeSpans"):
            for span in _list(scope, "spans"):
                yield resource, scope, span


def _list(holder: Any, name: str) -> list[Any]:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, list) else []


def _read_document(document: Document, tally: Tally) -> Iterator[Outcome]:
    text = document.text
    try:
        for resource, start in _within(text, skip_space(text, 0), "resourceSpans"):
            for scope, begin in _within(text, start, "scopeSpans"):
                for span, first, last in _elements_of(text, begin, "spans"):
                    tally.lines += 1
                    places = document.places(first, last)
                    raw = text[first:last].encode("utf-8", "surrogatepass")
                    yield from _outcome((resource, scope, span), places, raw, tally)
    except (ValueError, RecordError):
        raise SourceError("the document is cut off, or is not JSON") from None


def _within(text: str, pos: int, name: str) -> Iterator[tuple[Any, int]]:
    for value, start, _ in _elements_of(text, pos, name):
        yield value, start


def _elements_of(text: str, pos: int, name: str) -> Iterator[tuple[Any, int, int]]:
    """The elements of the list that an object has under a name."""
    if text[pos : pos + 1] == "{":
        for member, value, start, _ in members(text, pos):
            if member == name and isinstance(value, list):
                yield from elements(text, start)


def _outcome(
    found: tuple[Any, Any, Any], places: tuple[Place, ...], raw: bytes, tally: Tally
) -> Iterator[Outcome]:
    resource, scope, span = found
    if not isinstance(span, dict):
        yield Bad(places[0], RejectReason.NOT_AN_OBJECT, "the span is not a JSON object", raw)
        return
    try:
        attributes = _attributes(span)
        if attributes.get("mcp.method.name") != "tools/call":
            tally.other += 1
            return
        event = _event_of(resource, scope, span, attributes)
    except RecordError as error:
        yield Bad(places[0], error.reason, error.detail, raw)
        return
    yield Found(event, places)


def _attributes(holder: Any) -> dict[str, Any]:
    return {
        item["key"]: _value(item.get("value"), 0)
        for item in _list(holder, "attributes")
        if isinstance(item, dict) and isinstance(item.get("key"), str)
    }


def _value(value: Any, depth: int) -> Any:
    """An ``AnyValue`` as JSON: integers are texts there, and come out as numbers."""
    if not isinstance(value, dict):
        return None
    if depth > _MAX_DEPTH:
        raise RecordError(RejectReason.BAD_FIELD, f"an attribute is nested over {_MAX_DEPTH} deep")
    kind, held = next(iter(value.items()), ("", None))
    if kind == "intValue":
        return _number(held)
    if kind == "arrayValue":
        return [_value(item, depth + 1) for item in _list(held, "values")]
    if kind == "kvlistValue":
        return {
            item["key"]: _value(item.get("value"), depth + 1)
            for item in _list(held, "values")
            if isinstance(item, dict) and isinstance(item.get("key"), str)
        }
    return held


def _number(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        number = loads(text)
    except RecordError:
        return text
    return text if isinstance(number, str | list | dict | bool) or number is None else number


def _structured(value: Any) -> Any:
    """Arguments or a result: a JSON text is read, anything else is as it was recorded."""
    if not isinstance(value, str):
        return value
    try:
        return loads(value)
    except RecordError:
        return value


def _moment(span: dict[str, Any], name: str) -> int | None:
    value = span.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _event_of(resource: Any, scope: Any, span: dict[str, Any], about: dict[str, Any]) -> Event:
    trace, number = span.get("traceId"), span.get("spanId")
    if not (isinstance(trace, str) and isinstance(number, str) and trace and number):
        raise RecordError(RejectReason.NO_ID, "the span has no traceId or spanId")
    trace, number = trace.lower(), number.lower()
    start, end = _moment(span, "startTimeUnixNano"), _moment(span, "endTimeUnixNano")
    if start is None:
        raise RecordError(RejectReason.NO_TIME, "the span has no startTimeUnixNano")
    kind = span.get("kind")
    event = {EVENT[name]: _text(about[name]) for name in EVENT if about.get(name) is not None}
    name = span.get("name")
    if "tool_name" not in event and isinstance(name, str) and name.startswith("tools/call "):
        event["tool_name"] = name.removeprefix("tools/call ")
    if kind == 2 and isinstance(about.get("client.address"), str):
        event["remote_addr"] = about["client.address"]
    session = event.get("session_id", "")
    payload = {PAYLOAD[key]: _structured(about[key]) for key in PAYLOAD if key in about}
    outcome = _outcome_of(span, about, payload)
    if payload:
        payload["jsonrpc_method"] = "tools/call"
    return Event.build(
        id=event_id(SOURCE, session, trace, number),
        timestamp=time_text(start),
        duration_ms=0 if end is None else milliseconds_between(start, end),
        parameters=payload.get("request_params"),
        transport=TRANSPORTS.get(str(about.get("network.transport")), ""),
        source=SOURCE,
        payload=Payload.build(**payload) if payload else None,
        **event,
        **outcome,
        **_extra(resource, scope, span, about),
    )


def _outcome_of(
    span: dict[str, Any], about: dict[str, Any], payload: dict[str, Any]
) -> dict[str, Any]:
    """How the call ended; puts the error into the payload."""
    status = span["status"] if isinstance(span.get("status"), dict) else {}
    told = outcome_of(payload.get("response_result"))
    kind = about.get("error.type")
    failed = status.get("code") in _ERROR or kind is not None or not told["success"]
    outcome: dict[str, Any] = {"success": not failed}
    if "response_result" in payload:
        outcome["response_chars"] = told["response_chars"]
        outcome["content_blocks"] = told["content_blocks"]
    if not failed:
        return outcome
    message = status.get("message") if isinstance(status.get("message"), str) else ""
    tool = kind == "tool_error" or not told["success"]
    outcome |= {"error_category": "tool" if tool else "handler", "error_message": message}
    if not tool:
        error: dict[str, Any] = {"category": "handler", "message": message}
        code = _number(about.get("rpc.response.status_code", kind))
        if isinstance(code, int):
            error["code"] = code
        payload["response_error"] = error
    return outcome


def _extra(
    resource: Any, scope: Any, span: dict[str, Any], about: dict[str, Any]
) -> dict[str, Any]:
    known: dict[str, Any] = {
        "trace_id": str(span["traceId"]).lower(),
        "span_id": str(span["spanId"]).lower(),
        "native_id": str(span["spanId"]).lower(),
        "span_kind": KINDS.get(kind) if isinstance(kind := span.get("kind"), int) else kind,
    }
    if span.get("parentSpanId"):
        known["parent_span_id"] = str(span["parentSpanId"]).lower()
    known.update({EXTRA[name]: about[name] for name in EXTRA if name in about})
    if span.get("kind") != 2 and "client.address" in about:
        known["client_address"] = about["client.address"]
    whole = _attributes(resource.get("resource") if isinstance(resource, dict) else None)
    if "service.name" in whole:
        known["service_name"] = whole["service.name"]
        if span.get("kind") == 2:
            known["server_name"] = whole["service.name"]
    if whole:
        known["resource"] = whole
    named = scope.get("scope") if isinstance(scope, dict) else None
    if isinstance(named, dict) and named.get("name"):
        known["scope"] = named["name"]
    rest = {name: value for name, value in about.items() if name not in _CONSUMED}
    if rest:
        known["attributes"] = rest
    if span.get("events"):
        known["span_events"] = span["events"]
    if span.get("traceState"):
        known["trace_state"] = span["traceState"]
    return {name: value for name, value in known.items() if value is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


OTEL = Reader(SOURCE, "OpenTelemetry: OTLP JSON with MCP spans", _read, _is_record, _is_start)
