"""mcpproxy-go: the activity export, as JSON Lines or CSV."""

from __future__ import annotations

import csv
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from mcpaudit_lab.errors import RecordError, RejectReason
from mcpaudit_lab.formats.jsonrpc import event_id
from mcpaudit_lab.formats.lines import Found, Line, Outcome, Place, Tally, objects
from mcpaudit_lab.formats.reader import Reader
from mcpaudit_lab.record import Event, Payload, loads, outcome_of

__all__ = ["MCPPROXY"]

SOURCE = "mcpproxy"
# Members of an activity, and of the event.
EVENT = {
    "timestamp": "timestamp",
    "duration_ms": "duration_ms",
    "request_id": "request_id",
    "session_id": "session_id",
    "user_id": "user_subject",
    "user_email": "user_email",
    "tool_name": "tool_name",
    "arguments": "parameters",
    "error_message": "error_message",
}
PAYLOAD = {
    "arguments": "request_params",
    "request_bytes": "request_size_bytes",
    "response_bytes": "response_size_bytes",
    "response_truncated": "response_truncated",
}
# What goes into extra by another name; every other member goes there by its own.
EXTRA = {"id": "native_id", "type": "activity_type", "source": "origin"}
_ELSEWHERE = {*EVENT, *PAYLOAD, "response"}

_CALLS = ("tool_call", "internal_tool_call")
_NEVER_RAN = ("blocked", "rejected")
_TYPE = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_HEADER = {"id", "type", "source", "server_name", "tool_name", "status", "timestamp"}
_CSV_KINDS = {
    "duration_ms": "int",
    "request_bytes": "int",
    "response_bytes": "int",
    "response_truncated": "bool",
    "arguments": "json",
    "metadata": "json",
}
# Rows of one request are close together: this many calls are held back to find them.
_HELD = 10_000


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(name), str) for name in ("id", "type", "timestamp"))
        and _TYPE.fullmatch(value["type"]) is not None
        and any(isinstance(value.get(name), str) for name in ("status", "source", "server_name"))
        and "success" not in value
    )


def _is_start(text: str) -> bool:
    # Its names need no quotes, but may have them.
    header = text.split("\n", 1)[0].strip().split(",")
    return {name.strip().strip('"') for name in header} >= _HEADER


def _read(lines: Iterator[Line], tally: Tally) -> Iterator[Outcome]:
    rows = _rows(lines, tally) if tally.document else objects(lines, tally)
    return _Activities(tally).read(rows)


def _rows(lines: Iterator[Line], tally: Tally) -> Iterator[tuple[Line, dict[str, Any]]]:
    """The rows of a CSV as objects; an empty field is absent. A row may have several lines."""
    taken: list[Line] = []

    def texts() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            # A byte that is not UTF-8 makes its own row bad, and no other.
            yield line.text.decode("utf-8", "surrogateescape") + "\n"

    header: list[str] | None = None
    reader = csv.reader(texts(), strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = _joined(taken, tally)
            tally.reject(line, RecordError(RejectReason.BAD_FIELD, f"no row of a CSV: {error}"))
            continue
        line = _joined(taken, tally)
        if not any(field.strip() for field in fields):
            tally.blank += 1
        elif header is None:
            header = [field.strip() for field in fields]
            tally.other += 1
        else:
            try:
                yield line, _object(header, fields)
            except RecordError as error:
                tally.reject(line, error)


def _joined(taken: list[Line], tally: Tally) -> Line:
    tally.parts += len(taken) - 1
    text = b"\n".join(line.text for line in taken)
    line = Line(text, tuple(place for line in taken for place in line.places))
    taken.clear()
    return line


def _object(header: list[str], fields: list[str]) -> dict[str, Any]:
    if len(fields) != len(header):
        raise RecordError(
            RejectReason.BAD_FIELD, f"{len(fields)} fields under {len(header)} headings"
        )
    found: dict[str, Any] = {}
    for name, field in zip(header, fields, strict=True):
        if not field:
            continue
        if not field.isascii() and any("\ud800" <= char <= "\udfff" for char in field):
            raise RecordError(RejectReason.INVALID_UTF8, f"{name} is not UTF-8")
        kind = _CSV_KINDS.get(name, "text")
        if kind == "text":
            found[name] = field
        elif kind == "bool":
            if field not in ("true", "false"):
                raise RecordError(RejectReason.BAD_FIELD, f"{name} is not true or false")
            found[name] = field == "true"
        else:
            found[name] = loads(field)
    return found


class _Activities:
    """Rows into events; what mirrors or decides a call is found by its request."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        # Calls by request, mirrored calls, and decisions: the latest of each.
        self._calls: OrderedDict[str, list[tuple[Line, dict[str, Any]]]] = OrderedDict()
        self._mirrors: OrderedDict[str, list[tuple[Line, dict[str, Any]]]] = OrderedDict()
        self._decisions: OrderedDict[str, list[tuple[Line, dict[str, Any]]]] = OrderedDict()
        self._seen: set[str] = set()

    def read(self, rows: Iterator[tuple[Line, dict[str, Any]]]) -> Iterator[Outcome]:
        for line, row in rows:
            if not _is_record(row):
                self._odd(line)
            elif row["type"] in _CALLS:
                yield from self._call(line, row)
            else:
                self._tally.other += 1
                if row["type"] == "policy_decision" and (key := _request(row)):
                    self._decisions.setdefault(key, []).append((line, row))
            yield from self._flush(_HELD)
        yield from self._flush(0)
        for mirrors in self._mirrors.values():
            # Nobody else recorded this call.
            for line, row in mirrors:
                yield from self._event(line, row, [], [])

    def _call(self, line: Line, row: dict[str, Any]) -> Iterator[Outcome]:
        key = _request(row)
        if not key:
            yield from self._event(line, row, [], [])
        elif row["type"] == "tool_call" or not _mirrors(row):
            self._seen.add(key)
            self._calls.setdefault(key, []).append((line, row))
        elif key in self._seen:
            self._tally.parts += 1
            if held := self._calls.get(key):
                held[0] = (Line(held[0][0].text, (*held[0][0].places, *line.places)), held[0][1])
        else:
            self._mirrors.setdefault(key, []).append((line, row))

    def _odd(self, line: Line) -> None:
        if self._tally.wrapped:
            self._tally.other += 1
        else:
            what = RecordError(RejectReason.BAD_FIELD, "no activity: id, type, timestamp, status")
            self._tally.reject(line, what)

    def _flush(self, keep: int) -> Iterator[Outcome]:
        while len(self._calls) > keep:
            key, calls = self._calls.popitem(last=False)
            decisions, mirrors = self._decisions.pop(key, []), self._mirrors.pop(key, [])
            self._tally.parts += len(mirrors)
            for number, (line, row) in enumerate(calls):
                more = mirrors if number == 0 else []
                yield from self._event(line, row, decisions, more)
        while keep and len(self._decisions) > keep:
            self._decisions.popitem(last=False)

    def _event(
        self,
        line: Line,
        row: dict[str, Any],
        decisions: list[tuple[Line, dict[str, Any]]],
        mirrors: list[tuple[Line, dict[str, Any]]],
    ) -> Iterator[Outcome]:
        try:
            event = _event_of(row, [decision for _, decision in decisions])
        except RecordError as error:
            self._tally.reject(line, error)
            return
        places: list[Place] = list(line.places)
        for more, _ in (*mirrors, *decisions):
            places += more.places
        yield Found(event, tuple(places))


def _request(row: dict[str, Any]) -> str:
    request = row.get("request_id")
    return request if isinstance(request, str) else ""


def _mirrors(row: dict[str, Any]) -> bool:
    name = row.get("tool_name")
    return isinstance(name, str) and name.startswith("call_tool_")


def _event_of(row: dict[str, Any], decisions: list[dict[str, Any]]) -> Event:
    status = row.get("status")
    event = {EVENT[name]: row[name] for name in EVENT if row.get(name) is not None}
    payload = {PAYLOAD[name]: row[name] for name in PAYLOAD if row.get(name) is not None}
    response = _response(row.get("response"), cut=row.get("response_truncated") is True)
    outcome: dict[str, Any] = {"success": status == "success"}
    if response is not None:
        payload["response_result"] = response
        told = outcome_of(response)
        outcome["response_chars"] = told["response_chars"]
        outcome["content_blocks"] = told["content_blocks"]
        if not told["success"]:
            outcome |= {"success": False, "error_category": "tool"}
    extra = {EXTRA.get(name, name): row[name] for name in row if name not in _ELSEWHERE}
    if not outcome["success"] and "error_category" not in outcome:
        outcome["error_category"] = "handler"
        message = event.get("error_message") or _reason(row, decisions) or status or ""
        event["error_message"] = message
        payload["response_error"] = {"category": "handler", "message": message}
    if status in _NEVER_RAN:
        extra["ran"] = False
    if decisions:
        names = ("id", "status", "timestamp", "error_message", "metadata")
        extra["policy_decisions"] = [
            {name: decision[name] for name in names if name in decision} for decision in decisions
        ]
    if payload:
        payload["jsonrpc_method"] = "tools/call"
    session = row.get("session_id")
    return Event.build(
        id=event_id(SOURCE, session if isinstance(session, str) else "", row["id"]),
        source=SOURCE,
        payload=Payload.build(**payload) if payload else None,
        **event,
        **outcome,
        **extra,
    )


def _response(text: Any, *, cut: bool) -> Any:
    """A response as JSON if it is an object or a list; otherwise as text."""
    if not isinstance(text, str) or cut or text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return loads(text)
    except RecordError:
        return text


def _reason(row: dict[str, Any], decisions: list[dict[str, Any]]) -> str:
    for source in (row, *decisions):
        metadata = source.get("metadata")
        reason = metadata.get("reason") if isinstance(metadata, dict) else None
        if isinstance(reason, str):
            return reason
    return ""


MCPPROXY = Reader(
    SOURCE, "mcpproxy-go: activity export, JSON Lines or CSV", _read, _is_record, _is_start
)
