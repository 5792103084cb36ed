"""mcpsnoop: frames as JSON Lines, and its JSON export of a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mcpaudit_lab.errors import RecordError, RejectReason, SourceError
from mcpaudit_lab.formats.jsonrpc import (
    NO_ANSWER,
    Call,
    CallFinished,
    CallOpened,
    Item,
    Other,
    PartSeen,
    ToolDefinitionsSeen,
    event_id,
    milliseconds_between,
)
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
from mcpaudit_lab.formats.pairing import Pairing
from mcpaudit_lab.formats.reader import Reader
from mcpaudit_lab.record import Event, Payload, outcome_of, parse_time_ns, skip_space

__all__ = ["MCPSNOOP", "outcomes"]

SOURCE = "mcpsnoop"
_DIRECTIONS = ("c2s", "s2c", "stderr", "meta")
# Members of an envelope, or of a session's export, and their names in ``extra``.
ENVELOPE = {
    "server_label": "server_label",
    "mcp_param_headers": "mcp_param_headers",
    "redacted": "redacted",
}
SESSION = {"label": "server_label", "endpoint": "endpoint"}
# Members of a call of the export, and of the event.
CALL = {
    "tool_name": "tool_name",
    "started_at": "timestamp",
    "id": "request_id",
}
# Maximum number of missing frames tracked per session; a frame may come late.
_MAX_MISSING = 10_000


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("session_id"), str)
        and isinstance(value.get("seq"), int)
        and isinstance(value.get("ts"), str)
        and value.get("direction") in _DIRECTIONS
    )


def _is_start(text: str) -> bool:
    whole, cut, _ = peek_members(text)
    names = {*whole, cut}
    return {"generated_at", "session"} <= names or {"session", "calls", "events"} <= names


def _read(lines: Iterator[Line], tally: Tally) -> Iterator[Outcome]:
    if tally.document:
        return _read_export(Document(lines, tally), tally)
    return _Frames(tally).read(lines)


class _Frames:
    """The frames of a log, whose sessions may be mixed."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._pairing = Pairing(SOURCE, identify=self._identify)
        self._about: dict[str, dict[str, Any]] = {}
        self._missing: dict[str, tuple[int, set[int], int]] = {}
        self._seq: Any = 0
        self._batch = 0

    def read(self, lines: Iterator[Line]) -> Iterator[Outcome]:
        for line, frame in objects(lines, self._tally):
            if self._tally.wrapped and not _is_record(frame):
                self._tally.other += 1
                continue
            try:
                items = self._frame(line, frame)
            except RecordError as error:
                self._tally.reject(line, error)
                continue
            yield from outcomes(items, self._tally)
        yield from outcomes(self._pairing.finish(), self._tally)
        for session, (_, numbers, more) in self._missing.items():
            if count := len(numbers) + more:
                self._tally.notes.append(f"session {session}: {count:,} frames are missing")

    def _frame(self, line: Line, frame: dict[str, Any]) -> list[Item]:
        if not _is_record(frame):
            raise RecordError(RejectReason.BAD_FIELD, "no frame: session_id, seq, ts, direction")
        parse_time_ns(frame["ts"])
        session, direction = frame["session_id"], frame["direction"]
        self._count(session, frame["seq"])
        raw = frame.get("raw")
        if direction == "meta":
            about = raw if isinstance(raw, Mapping) else {}
            names = ("command", "cwd")
            self._about[session] = {name: about[name] for name in names if name in about}
        if direction in ("meta", "stderr"):
            return [Other("no message")]
        cut = None
        if raw is None and frame.get("truncated") and isinstance(frame.get("text"), str):
            raw, cut = _cut_message(frame["text"])
        self._seq, self._batch = frame["seq"], 0
        connection = frame.get("conn_id")
        items = self._pairing.feed(
            raw,
            direction=direction,
            at=frame["ts"],
            session=session,
            connection=connection if isinstance(connection, str) and connection else None,
            place=line,
        )
        for item in items:
            if isinstance(item, CallOpened):
                self._describe(item.call, frame, cut)
            elif isinstance(item, CallFinished) and item.call.answered:
                if frame.get("status"):
                    item.call.extra["http_status"] = frame["status"]
                if frame.get("truncated"):
                    item.call.response_truncated = True
        return items

    def _describe(self, call: Call, frame: dict[str, Any], cut: str | None) -> None:
        transport = frame.get("transport")
        call.transport = transport if isinstance(transport, str) else ""
        call.extra["native_id"] = frame["seq"]
        call.extra.update({ENVELOPE[name]: frame[name] for name in ENVELOPE if frame.get(name)})
        call.extra.update(self._about.get(call.session, {}))
        if frame.get("mcp_protocol_version"):
            call.defaults["protocol_version"] = frame["mcp_protocol_version"]
        if cut or frame.get("truncated"):
            call.request_truncated = True

    def _identify(self, call: Call) -> str:
        self._batch += 1
        names = (SOURCE, call.session, "seq", str(self._seq))
        return event_id(*names, *([str(self._batch)] if self._batch > 1 else []))

    def _count(self, session: str, seq: int) -> None:
        """Remember which numbers of a session were left out."""
        last, numbers, more = self._missing.get(session, (0, set(), 0))
        if seq > last:
            room = min(seq - last - 1, _MAX_MISSING - len(numbers))
            numbers.update(range(last + 1, last + 1 + room))
            more += seq - last - 1 - room
            last = seq
        else:
            numbers.discard(seq)
        self._missing[session] = (last, numbers, more)


def _cut_message(text: str) -> tuple[Any, str | None]:
    """The readable part of a message whose copy was cut off, and the member that was cut."""
    message, cut, start = peek_members(text)
    if cut == "params":
        message["params"] = peek_members(text[start:])[0]
    elif cut in ("result", "error"):
        message[cut] = None
    return message, cut


def outcomes(items: list[Item], tally: Tally) -> Iterator[Outcome]:
    """What a pairing says of the lines it was fed, counted; a call's places are lines.

    A line with a batch counts once for each of its messages.
    """
    said = 0
    for item in items:
        if isinstance(item, CallFinished):
            # The request was counted as nothing yet: the event counts for it.
            yield Found(item.call.event(), _places(item.call))
            if item.call.answered:
                tally.parts += 1
                said += 1
            continue
        said += 1
        if isinstance(item, PartSeen):
            tally.parts += 1
        elif isinstance(item, Other | ToolDefinitionsSeen):
            tally.other += 1
            if isinstance(item, ToolDefinitionsSeen):
                yield item
    tally.lines += max(said - 1, 0)


def _places(call: Call) -> tuple[Place, ...]:
    found: dict[Place, None] = {}
    for place in call.places:
        line = place[0] if isinstance(place, tuple) else place
        if isinstance(line, Line):
            found.update(dict.fromkeys(line.places))
    return tuple(found)


def _read_export(document: Document, tally: Tally) -> Iterator[Outcome]:
    text = document.text
    whole: dict[str, Any] = {}
    starts: dict[str, int] = {}
    try:
        for name, value, begin, _ in members(text, skip_space(text, 0)):
            if isinstance(value, list):
                starts[name] = begin
            else:
                whole[name] = value
    except (ValueError, RecordError):
        raise SourceError("the export is cut off, or is not JSON") from None
    session = whole["session"] if isinstance(whole.get("session"), dict) else {}
    about = _about_session(session, whole.get("capabilities"))
    notes = _notifications(text, starts.get("events"), document, tally)
    if isinstance(count := session.get("missing_frames"), int) and count:
        tally.notes.append(f"session {session.get('id')}: {count:,} frames are missing")
    for call, begin, end in elements(text, starts["calls"]) if "calls" in starts else ():
        tally.lines += 1
        places = document.places(begin, end)
        if not isinstance(call, dict) or call.get("method") != "tools/call":
            tally.other += 1
            continue
        index = call.get("index")
        sent, more = notes.pop(index if isinstance(index, int) else -1, ([], []))
        try:
            event = _export_event(call, session, about, sent)
        except RecordError as error:
            yield Bad(places[0], error.reason, error.detail, text[begin:end].encode())
            tally.other += len(more)
            continue
        tally.parts += len(more)
        yield Found(event, (*places, *more))
    tally.other += sum(len(more) for _, more in notes.values())


def _about_session(session: dict[str, Any], capabilities: Any) -> dict[str, Any]:
    extra = {SESSION[name]: session[name] for name in SESSION if session.get(name)}
    about = capabilities if isinstance(capabilities, dict) else {}
    for name in ("protocol_version", "client_info", "server_info"):
        if about.get(name):
            extra[name] = about[name]
    info = about.get("server_info")
    if isinstance(info, dict) and isinstance(info.get("name"), str):
        extra["server_name"] = info["name"]
    return extra


def _notifications(
    text: str, start: int | None, document: Document, tally: Tally
) -> dict[int, tuple[list[dict[str, Any]], list[Place]]]:
    """The frames of an export by the call they belong to: notifications, and all their places."""
    found: dict[int, tuple[list[dict[str, Any]], list[Place]]] = {}
    for frame, begin, end in () if start is None else elements(text, start):
        tally.lines += 1
        index = frame.get("call_index") if isinstance(frame, dict) else None
        if not isinstance(index, int):
            tally.other += 1
            continue
        notifications, places = found.setdefault(index, ([], []))
        # One line of the log may contain several.
        places.append(document.places(begin, end)[0])
        if (sent := _notification(frame)) is not None:
            notifications.append(sent)
    return found


def _notification(frame: dict[str, Any]) -> dict[str, Any] | None:
    """The notification to the client in a frame of an export; None for another frame."""
    raw = frame.get("raw")
    if frame.get("direction") != "s2c" or not isinstance(raw, dict) or "id" in raw:
        return None
    method = raw.get("method")
    if not isinstance(method, str):
        return None
    return {"ts": frame.get("timestamp"), "method": method, "params": raw.get("params")}


def _export_event(
    call: dict[str, Any],
    session: dict[str, Any],
    about: dict[str, Any],
    notifications: list[dict[str, Any]],
) -> Event:
    params = call["params"] if isinstance(call.get("params"), dict) else {}
    started, ended = call.get("started_at"), call.get("ended_at")
    error, answered = call.get("error"), "result" in call or call.get("error") is not None
    if not isinstance(started, str):
        raise RecordError(RejectReason.NO_TIME, "the call has no started_at")
    event = {CALL[name]: call[name] for name in CALL if isinstance(call.get(name), str)}
    payload: dict[str, Any] = {}
    if error is not None:
        said = error if isinstance(error, dict) else {"message": str(error)}
        message = said.get("message")
        failure = {"category": "handler", "message": message if isinstance(message, str) else ""}
        payload["response_error"] = {**failure, **{k: v for k, v in said.items() if k != "message"}}
        outcome: dict[str, Any] = {"error_category": "handler", "error_message": failure["message"]}
    elif answered:
        payload["response_result"] = call["result"]
        outcome = outcome_of(call["result"])
    else:
        payload["response_error"] = {"category": "handler", "message": NO_ANSWER}
        outcome = {"error_category": "handler", "error_message": NO_ANSWER}
    extra = {"native_id": call.get("index"), **about}
    for ours, theirs in (("cancel_reason", "cancel_reason"), ("late_result", "late_result")):
        if call.get(theirs):
            extra[ours] = call[theirs]
    if call.get("cancelled_at") or call.get("state") == "cancelled":
        extra["cancelled"] = True
    name = session.get("id")
    session_id = name if isinstance(name, str) else ""
    return Event.build(
        **{"tool_name": params.get("name", ""), **event},
        id=event_id(SOURCE, session_id, "index", str(call.get("index"))),
        duration_ms=milliseconds_between(started, ended) if isinstance(ended, str) else 0,
        session_id=session_id,
        parameters=params.get("arguments"),
        transport=session.get("transport", ""),
        source=SOURCE,
        payload=Payload.build(
            jsonrpc_method="tools/call",
            request_params=params.get("arguments"),
            notifications=notifications,
            **payload,
        ),
        **outcome,
        **extra,
    )


MCPSNOOP = Reader(
    SOURCE, "mcpsnoop: frames as JSON Lines, export -T json", _read, _is_record, _is_start
)
