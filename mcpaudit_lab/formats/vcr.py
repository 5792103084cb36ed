"""mcp-vcr: a session's messages as YAML.

YAML is read as events of its grammar, and scalars are resolved here: quoted ones are strings, a
plain one is a number only if JSON has it as one, with the digits it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mcpaudit_lab.errors import RecordError, RejectReason, SourceError
from mcpaudit_lab.formats.jsonrpc import Call, CallOpened, event_id
from mcpaudit_lab.formats.lines import Bad, Document, Line, Outcome, Tally, peek_members
from mcpaudit_lab.formats.mcpsnoop import outcomes
from mcpaudit_lab.formats.pairing import Pairing
from mcpaudit_lab.formats.reader import Reader
from mcpaudit_lab.record import JsonDecimal, loads, parse_time_ns

__all__ = ["VCR"]

SOURCE = "mcp-vcr"
# Members of a transcript's meta, and their names in ``extra``.
META = {
    "server_command": "command",
    "client_hint": "client_hint",
    "incomplete": "incomplete",
    "incomplete_reason": "incomplete_reason",
}
DEFAULTS = {"protocol_version": "protocol_version"}

_START = re.compile(r"[\"']?(?:meta|messages)[\"']?[ \t]*:[ \t]*(?:#.*)?")
_SIGNS = re.compile(
    r"^[ \t]+[\"']?(?:recorded_at|session_id|server_command)[\"']?[ \t]*:", re.MULTILINE
)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAG = "tag:yaml.org,2002:"
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
# What aliases may blow a document up to.
_MAX_NODES = 20_000_000


def _is_start(text: str) -> bool:
    if text.lstrip()[:1] == "{":
        whole, cut, _ = peek_members(text)
        return {"meta", "messages"} <= {*whole, cut}
    first = next((line for line in text.split("\n") if _says_something(line)), "")
    return _START.fullmatch(first.rstrip()) is not None and _SIGNS.search(text) is not None


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(("#", "%", "---"))


def _read(lines: Iterator[Line], tally: Tally) -> Iterator[Outcome]:
    document = Document(lines, tally)
    meta, messages = _parse(document.text)
    session = meta.get("session_id")
    recorded = meta.get("recorded_at")
    start = _start_of(recorded)
    current = [0]

    def identify(call: Call) -> str:
        place = call.places[0]
        number = place[1] if isinstance(place, tuple) else 0
        return event_id(SOURCE, call.session, str(recorded), str(current[0]), str(number))

    pairing = Pairing(SOURCE, identify=identify)
    extra = {META[name]: meta[name] for name in META if meta.get(name) is not None}
    defaults = {DEFAULTS[name]: meta[name] for name in DEFAULTS if meta.get(name) is not None}
    for index, (message, begin, end) in enumerate(messages):
        tally.lines += 1
        current[0] = index
        places = document.places(begin, end)
        line = Line(document.text[begin:end].encode("utf-8", "surrogatepass"), places)
        try:
            after, direction, payload = _message(message)
        except RecordError as error:
            yield Bad(places[0], error.reason, error.detail, line.text)
            continue
        items = pairing.feed(
            payload,
            direction="c2s" if direction == "c2s" else "s2c",
            at=start + after,
            session=session if isinstance(session, str) else "",
            place=line,
        )
        for item in items:
            if isinstance(item, CallOpened):
                item.call.transport = "stdio" if "command" in extra else ""
                item.call.extra.update({"native_id": item.call.jsonrpc_id, **extra})
                item.call.defaults.update(defaults)
        yield from outcomes(items, tally)
    yield from outcomes(pairing.finish(), tally)


def _start_of(recorded: Any) -> int:
    if not isinstance(recorded, str):
        raise SourceError("the transcript has no meta.recorded_at")
    text = recorded.strip().replace(" ", "T", 1).replace(" ", "")
    # The format says that it is UTC, with a zone or without.
    if not re.search(r"(?:[Zz]|[+-]\d\d:?\d\d)$", text):
        text += "Z"
    try:
        return parse_time_ns(re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text))
    except RecordError as error:
        raise SourceError(f"meta.recorded_at: {error.detail}") from None


def _message(message: Any) -> tuple[int, str, Any]:
    """Nanoseconds since the start, direction and payload of one entry."""
    if not isinstance(message, dict):
        raise RecordError(RejectReason.NOT_AN_OBJECT, "the message is not a mapping")
    after, direction = message.get("t"), message.get("dir")
    if isinstance(after, bool) or not isinstance(after, int | float | JsonDecimal):
        raise RecordError(RejectReason.BAD_TIME, "t is not a number of milliseconds")
    if not -1e12 < after < 1e12:
        raise RecordError(RejectReason.BAD_TIME, "t is out of range")
    if direction not in ("c2s", "s2c"):
        raise RecordError(RejectReason.BAD_FIELD, "dir is not c2s or s2c")
    if "payload" not in message:
        raise RecordError(RejectReason.BAD_FIELD, "there is no payload")
    return int(after * 1_000_000), direction, message["payload"]


def _parse(text: str) -> tuple[dict[str, Any], list[tuple[Any, int, int]]]:
    """The meta of a transcript, and its messages with their character positions."""
    import yaml

    faster = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        try:
            found = _Builder().build(yaml.parse(text, Loader=faster))
        except yaml.YAMLError:
            # The faster one refuses escapes that JSON has, such as halves of a pair.
            found = _Builder().build(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None)
        raise SourceError(f"{place}no YAML: {problem or 'it cannot be read'}") from None
    root, spans = found
    meta = root.get("meta") if isinstance(root, dict) else None
    messages = root.get("messages") if isinstance(root, dict) else None
    if not isinstance(meta, dict) or not isinstance(messages, list | None):
        raise SourceError("no transcript: meta is a mapping, messages a list")
    values: list[Any] = messages or []
    return meta, [(value, *spans[number]) for number, value in enumerate(values)]


class _Builder:
    """Values out of YAML's events, without recursion."""

    def __init__(self) -> None:
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0
        # Positions of the entries of /messages.
        self._spans: list[tuple[int, int]] = []

    def build(self, events: Iterator[Any]) -> tuple[Any, list[tuple[int, int]]]:
        """The first document's value, and the positions of its messages."""
        from yaml import events as kinds

        root: list[Any] = []
        # Each open container: its value, the pending key, its anchor, its start.
        stack: list[list[Any]] = [[root, None, None, 0, 0]]
        for event in events:
            if isinstance(event, kinds.DocumentEndEvent):
                break
            if isinstance(event, kinds.MappingStartEvent | kinds.SequenceStartEvent):
                value: Any = {} if isinstance(event, kinds.MappingStartEvent) else []
                stack.append([value, None, event.anchor, event.start_mark.index, self._nodes])
            elif isinstance(event, kinds.MappingEndEvent | kinds.SequenceEndEvent):
                value, _, anchor, begin, nodes = stack.pop()
                if anchor:
                    self._anchors[anchor] = (value, self._nodes - nodes)
                self._put(stack, value, begin, event.end_mark.index)
            elif isinstance(event, kinds.ScalarEvent):
                scalar = _scalar(event)
                if event.anchor:
                    self._anchors[event.anchor] = (scalar, 1)
                self._put(stack, scalar, event.start_mark.index, event.end_mark.index, event)
            elif isinstance(event, kinds.AliasEvent):
                if event.anchor not in self._anchors:
                    raise SourceError("an alias names a value that is not complete")
                value, nodes = self._anchors[event.anchor]
                self._nodes += nodes
                self._put(stack, value, event.start_mark.index, event.end_mark.index)
        return (root[0] if root else None), self._spans

    def _put(
        self, stack: list[list[Any]], value: Any, begin: int, end: int, event: Any = None
    ) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise SourceError(f"the transcript has more than {_MAX_NODES:,} values")
        top = stack[-1]
        holder = top[0]
        if isinstance(holder, list):
            holder.append(value)
            if len(stack) == 3 and stack[1][1] == ("messages",):
                self._spans.append((begin, end))
        elif top[1] is None:
            if event is None:
                raise SourceError("a key of a mapping is not a scalar")
            # A key is a text in JSON, whatever it looks like.
            top[1] = (_pairs(event.value),)
        else:
            holder[top[1][0]] = value
            top[1] = None


def _scalar(event: Any) -> Any:
    text, tag = _pairs(event.value), event.tag
    plain = event.implicit[0] or (tag or "").startswith(_TAG)
    if not plain or (tag and tag.removeprefix(_TAG) not in ("int", "float", "bool", "null")):
        return text
    if text in _WORDS:
        return _WORDS[text]
    return loads(text) if _NUMBER.fullmatch(text) else text


def _pairs(text: str) -> str:
    """Halves of a pair, as JSON escapes them, put together."""
    if text.isascii() or not _PAIR.search(text):
        return text
    return _PAIR.sub(
        lambda found: found.group().encode("utf-16", "surrogatepass").decode("utf-16"), text
    )


VCR = Reader(SOURCE, "mcp-vcr: transcripts in YAML", _read, None, _is_start)
