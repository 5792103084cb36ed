"""The reference server's HTTP, played from recorded rows through a passed-in transport.

It answers as the recordings do: times in the server's own zone, exports without payloads that are
cut at a cap without a word, filters it does not know dropped, a plain-text 403. Rows can be stored
while it is asked, late ones among them, and rows can be deleted.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import Any
from uuid import uuid4

import httpx2

from mcpaudit_lab import Event, EventFilter, FilterError
from mcpaudit_lab.filters.combined import contract_order
from mcpaudit_lab.record.jsontext import dumps, loads

KEY = "upstream-dev-key"
NEW_YORK = timezone(timedelta(hours=-5))
_API = "/api/v1/portal"
_KNOWN = ("from", "to", "tool", "user", "session", "success", "q", "has", "limit", "offset")
_PAGE = 50
_MOST = 1000


@dataclass
class ReferencePortal:
    """A portal that knows no more than the reference server.

    Args:
        events: its rows, with payloads.
        max_rows: what an export is cut at.
        zone: the zone of the times in its answers.
        before: called before every answer with the request, to store or delete rows meanwhile.

    Attributes:
        asked: how many requests there were of each kind: ``events``, ``detail``, ``export``, …
        requests: the requests, in order.
        down: whether nobody answers.
        breaks_after: the connection breaks after so many lines of an export; None: never.
    """

    events: list[Event]
    max_rows: int = 100_000
    zone: timezone = NEW_YORK
    before: Callable[[httpx2.Request], object] = lambda _: None
    asked: Counter[str] = field(default_factory=Counter)
    requests: list[httpx2.Request] = field(default_factory=list)
    down: bool = False
    breaks_after: int | None = None
    _ordered: list[Event] = field(default_factory=list)
    _by_id: dict[str, Event] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        self._ordered = contract_order(self.events)
        self._by_id = {event.id: event for event in self.events}

    def store(self, *events: Event) -> None:
        """Store rows, whatever time they have."""
        with self._lock:
            self.events += events
            self._arrange()

    def delete(self, *ids: str) -> None:
        """Delete rows."""
        with self._lock:
            self.events = [event for event in self.events if event.id not in ids]
            self._arrange()

    @property
    def transport(self) -> httpx2.MockTransport:
        """To be passed to a client."""
        return httpx2.MockTransport(self.answer)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        with self._lock:
            self.requests.append(request)
            self.before(request)
            if self.down:
                raise httpx2.ConnectError("[Errno 111] Connection refused", request=request)
            key = request.headers.get("x-api-key") or request.headers.get(
                "authorization", ""
            ).removeprefix("Bearer ")
            if key != KEY:
                return _json({"error": "unauthorized"}, 401)
            return self._route(request)

    def _route(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if request.method == "POST":
            return self._post(request, path)
        routes: dict[str, Callable[[httpx2.Request], httpx2.Response]] = {
            f"{_API}/audit/events": self._list,
            f"{_API}/audit/export": self._export,
            f"{_API}/audit/meta": self._meta,
            f"{_API}/audit/breakdown": self._breakdown,
            f"{_API}/me": lambda _: _json({"subject": "apikey:dev-local", "auth_type": "apikey"}),
        }
        if path in routes:
            return routes[path](request)
        if found := re.fullmatch(rf"{_API}/audit/events/([^/]+)", path):
            return self._detail(found[1])
        return httpx2.Response(404, text="404 page not found\n")

    def _meta(self, _: httpx2.Request) -> httpx2.Response:
        self.asked["meta"] += 1
        replay = {"burst": 5, "refill_secs": 12, "sustained_min": 5}
        return _json({"export": {"max_rows": self.max_rows}, "replay": replay})

    def _breakdown(self, request: httpx2.Request) -> httpx2.Response:
        counts = Counter(event.tool_name for event in self._selected(request))
        rows = [{"key": key, "count": count, "errors": 0} for key, count in counts.items()]
        return _json({"breakdown": rows, "by": "tool"})

    def _post(self, request: httpx2.Request, path: str) -> httpx2.Response:
        if not request.headers.get("x-requested-with"):
            return httpx2.Response(403, text="missing X-Requested-With header\n")
        self.asked["post"] += 1
        if path.startswith("/api/v1/admin/tryit/"):
            return _json({"content": [{"type": "text", "text": "done"}]})
        event_id = path.split("/")[-2]
        if event_id not in self._by_id:
            return _json({"error": "event not found"}, 404)
        answer = {"replay_event_id": str(uuid4()), "replayed_from": event_id, "success": True}
        return _json({**answer, "result": {"content": []}})

    def _selected(self, request: httpx2.Request) -> list[Event]:
        """The rows that a query string selects; what is malformed or unknown is dropped."""
        wanted = EventFilter()
        pairs: list[tuple[str, str]] = []
        for name, value in request.url.params.multi_items():
            known = name in _KNOWN or name.partition(".")[0] in ("param", "response", "header")
            repeated = name != "has" and any(name == other for other, _ in pairs)
            if known and not repeated and name not in ("limit", "offset"):
                try:
                    wanted = EventFilter.from_query([*pairs, (name, value)])
                except FilterError:
                    continue
                pairs.append((name, value))
        if wanted == EventFilter():
            return self._ordered
        return [event for event in self._ordered if wanted.matches(event)]

    def _list(self, request: httpx2.Request) -> httpx2.Response:
        self.asked["events"] += 1
        params = request.url.params
        limit, offset = int(params.get("limit", _PAGE)), int(params.get("offset", 0))
        rows = self._selected(request)
        page = rows[offset : offset + min(limit, _MOST)]
        listed = [self._wire(event.summary) for event in page]
        return _json({"events": listed, "limit": limit, "offset": offset, "total": len(rows)})

    def _export(self, request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "application/x-ndjson"}
        if request.method == "HEAD":
            return httpx2.Response(200, headers=headers)
        self.asked["export"] += 1
        limit = min(int(request.url.params.get("limit", self.max_rows)), self.max_rows)
        rows = self._selected(request)[:limit]
        lines = [dumps(self._wire(event.summary)).encode() + b"\n" for event in rows]
        if self.breaks_after is not None and len(lines) > self.breaks_after:
            broken = _Broken(lines[: self.breaks_after])
            return httpx2.Response(200, headers=headers, stream=broken)
        return httpx2.Response(200, headers=headers, content=b"".join(lines))

    def _detail(self, event_id: str) -> httpx2.Response:
        self.asked["detail"] += 1
        if (event := self._by_id.get(event_id)) is not None:
            return _json(self._wire(event))
        return _json({"error": f'event "{event_id}" not found'}, 404)

    def _wire(self, event: Event) -> dict[str, Any]:
        """The event with its time as the server's zone has it, cut to microseconds."""
        text = event.timestamp.astimezone(self.zone).isoformat(timespec="microseconds")
        whole, _, rest = text.partition(".")
        fraction = rest[:6].rstrip("0")
        return {**event.wire, "timestamp": f"{whole}{'.' * bool(fraction)}{fraction}{rest[6:]}"}


class _Broken(httpx2.SyncByteStream):
    """Some lines of a body, and then no more."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines

    def __iter__(self) -> Iterator[bytes]:
        yield from self.lines
        raise httpx2.RemoteProtocolError("peer closed connection without complete message body")


def recorded_events(path: Any) -> list[Event]:
    """The events of a file of detail lines."""
    lines: Iterable[bytes] = path.read_bytes().splitlines()
    return [Event.from_json(line) for line in lines]


def _json(value: Any, status: int = 200) -> httpx2.Response:
    text = dumps(value)
    assert loads(text) is not None
    content = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return httpx2.Response(
        status, headers={"content-type": "application/json"}, content=content.encode()
    )
