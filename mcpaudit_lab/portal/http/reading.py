"""Reading a portal: its settings, events and statistics. Nothing here changes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self
from urllib.parse import quote

from mcpaudit_lab.errors import BadAnswer, PortalError, PortalNotFound
from mcpaudit_lab.filters import EventFilter, filters_of
from mcpaudit_lab.portal.http.credentials import Credentials, SecretHeaders, base_url
from mcpaudit_lab.portal.http.details import fetch_details
from mcpaudit_lab.portal.http.exchange import MAX_ANSWER_BYTES, Exchange
from mcpaudit_lab.portal.http.paging import (
    PAGE_ROWS,
    Page,
    read_event,
    read_line,
    read_page,
    walk_back,
)
from mcpaudit_lab.portal.http.request import EventRequest, make_request
from mcpaudit_lab.record import VERSION, Event, ToolList, dumps, parse_id

if TYPE_CHECKING:
    import httpx2

__all__ = ["AUDIT_PATH", "PortalReader"]

_PORTAL: Final = "/api/v1/portal"
AUDIT_PATH: Final = f"{_PORTAL}/audit"
_CONNECT_S: Final = 10.0
# Connecting is what another thread cannot end.
_CONNECT_APART_S: Final = 3.0
# A proxy that the environment names reaches its own loopback, not this machine's.
_NEVER_BY_PROXY: Final = ("localhost", "127.0.0.1", "[::1]")


class PortalReader:
    """What one asks of a portal; :class:`~mcpaudit_lab.PortalClient` adds what makes calls."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        bearer: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx2.BaseTransport | None = None,
        attempts: int = 4,
        backoff_s: float = 0.2,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if api_key is None and bearer is None:
            api_key = os.environ.get("MCPAUDIT_API_KEY")
        self._credentials = Credentials(api_key, bearer)
        # Nothing below may have them among its variables.
        del api_key, bearer
        self.url = base_url(os.environ.get("MCPAUDIT_URL", "") if url is None else url)
        self.transport = transport
        self._max_answer_bytes = max_answer_bytes
        self._is_reference: bool | None = None
        self._is_apart = False
        self._open(timeout_s, attempts=attempts, backoff_s=backoff_s, clock=clock)

    def _open(
        self,
        timeout_s: float,
        *,
        attempts: int,
        backoff_s: float,
        clock: Callable[[], float],
        connect_s: float = _CONNECT_S,
        hooks: Mapping[str, list[Callable[..., Any]]] | None = None,
    ) -> None:
        import httpx2

        base = httpx2.URL(self.url)
        self.http = httpx2.Client(
            base_url=base,
            auth=self._credentials.signer(base),
            headers={
                "User-Agent": f"mcpaudit-lab/{VERSION}",
                "X-Requested-With": "mcpaudit-lab",
            },
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, connect_s)),
            transport=self.transport,
            mounts={f"all://{host}": None for host in _NEVER_BY_PROXY},
            follow_redirects=False,
            event_hooks=hooks,
        )
        self._exchange = Exchange(
            self.http,
            self.url,
            self._credentials,
            attempts=attempts,
            backoff_s=backoff_s,
            timeout_s=timeout_s,
            max_answer_bytes=self._max_answer_bytes,
            clock=clock,
        )

    def apart(
        self, hooks: Mapping[str, list[Callable[..., Any]]], *, timeout_s: float
    ) -> PortalReader:
        """The same portal over separate connections, each request made once.

        Args:
            hooks: ``request`` and ``response`` hooks, as ``httpx2.Client`` takes them.
            timeout_s: the time limit of connecting and of one read.
        """
        other = PortalReader.__new__(PortalReader)
        vars(other).update(vars(self), _is_apart=True)
        PortalReader._open(
            other,
            timeout_s,
            connect_s=_CONNECT_APART_S,
            attempts=1,
            backoff_s=0.0,
            clock=time.monotonic,
            hooks=hooks,
        )
        return other

    def open_stream(
        self, query: str, headers: Mapping[str, str], *, silence_s: float
    ) -> httpx2.Response:
        """The answer of ``/audit/stream``, whose body is not read yet; who asks closes it.

        Args:
            query: filters, as a query string.
            headers: such as ``Last-Event-ID``.
            silence_s: the time limit of one read.
        """
        target = f"{AUDIT_PATH}/stream?{query}" if query else f"{AUDIT_PATH}/stream"
        return self._exchange.begin(target, headers, read_timeout_s=silence_s)

    def headers(self) -> SecretHeaders:
        """What MCP and streams send: the credentials, and what changing calls need.

        Its repr shows names only.
        """
        return SecretHeaders({**self._credentials.headers(), "X-Requested-With": "mcpaudit-lab"})

    @property
    def is_reference(self) -> bool:
        """Whether the portal can no more than the reference server.

        Ours tells the number of events in the headers of an export. Asked once.
        """
        if self._is_reference is None:
            path = f"{AUDIT_PATH}/export"
            try:
                answer = self._exchange.get(path, "format=jsonl&limit=1", method="HEAD")
            except PortalError as error:
                # An answer to HEAD has no body that says more, so a refusal is asked for again.
                if error.status in (401, 403):
                    self.meta()
                if error.status not in (404, 405, 501):
                    raise
                self._is_reference = True
            else:
                self._is_reference = "x-export-total" not in answer.headers
        return self._is_reference

    # Closing

    def close(self) -> None:
        """Close the connections. A second time does nothing."""
        # A transport that was passed in is closed by the client it was passed to.
        if not (self._is_apart and self.transport):
            self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, {self._credentials.kind})"

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError(
            "a PortalClient has a key and connections and is not pickled: make a new one instead"
        )

    # What it says of itself

    def me(self) -> dict[str, Any]:
        """Who the portal takes the key's holder for: ``subject``, ``auth_type`` and so on."""
        return self._object(f"{_PORTAL}/me")

    def tools(self) -> list[dict[str, Any]]:
        """The tools of the portal's MCP server: ``name``, ``group``, ``description`` and more."""
        found = self._object(f"{_PORTAL}/tools").get("tools") or []
        if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
            raise BadAnswer("the portal's list of tools is not what a portal says", status=200)
        return found

    def tool(self, name: str) -> dict[str, Any]:
        """One of them.

        Raises:
            PortalNotFound: nothing has this name.
        """
        return self._object(f"{_PORTAL}/tools/{quote(name, safe='')}")

    def meta(self) -> dict[str, Any]:
        """What may be asked, and how much of it: ``has_keys``, ``replay``, ``export``."""
        return self._object(f"{AUDIT_PATH}/meta")

    def tool_lists(self) -> list[ToolList]:
        """The lists of tools that the portal's server has offered; empty if it keeps none."""
        try:
            found = self._object(f"{AUDIT_PATH}/tool-lists").get("lists")
        except PortalNotFound:
            return []
        lists = map(ToolList.from_dict, found if isinstance(found, list) else ())
        return [item for item in lists if item is not None]

    def checkpoint(self) -> tuple[str, str] | None:
        """The newest signed checkpoint of the portal's log, and its key; None without a log.

        Neither is verified here: :meth:`Lab.pull` does that.
        """
        target = f"{AUDIT_PATH}/checkpoint"
        try:
            answer = self._exchange.ask("GET", target)
        except PortalNotFound:
            return None
        return answer.body.decode("utf-8", "replace"), answer.headers.get("x-log-key", "")

    def log_leaves(self, start: int, end: int) -> Iterator[tuple[str, str]]:
        """Event id and hash (hexadecimal) of leaves of the portal's log, in order.

        Raises:
            BadAnswer: the response is malformed.
        """
        while start < end:
            target = f"{AUDIT_PATH}/leaves?from={start}&to={end}"
            found = self._object(target).get("leaves")
            if not isinstance(found, list) or not found:
                raise BadAnswer(f"the response to {target} has no leaves", status=200)
            for item in found:
                yield str(item[0]), str(item[1])
            start += len(found)

    def log_consistency(self, first: int, second: int) -> list[str]:
        """The proof (hexadecimal) that the portal's log at one size extends that at another."""
        found = self._object(f"{AUDIT_PATH}/consistency?from={first}&to={second}").get("path")
        return [str(item) for item in found] if isinstance(found, list) else []

    def dashboard(self) -> dict[str, Any]:
        """Figures over the last hour, and the newest events."""
        return self._object(f"{_PORTAL}/dashboard")

    # Events

    def events(self, *filters: EventFilter, **keywords: Any) -> Iterator[Event]:
        """Summaries of events, newest first, ties by id; all pages, each read when it is needed.

        Every event that was there at the start comes once, unless the portal deletes it.

        Args:
            *filters: filters; all of them must hold.
            **keywords: a filter as keywords, as for :class:`EventFilter`. The client checks what
                the portal cannot filter by; it fetches payloads where needed.

        Raises:
            FilterError: a keyword or value that no filter has.
        """
        request = self.request(*filters, **keywords)
        events = walk_back(self._list, request)
        return self._finish(request, events, fetch=request.details is not None)

    def event(self, event_id: str) -> Event:
        """One event with its payload.

        Args:
            event_id: its id, in any spelling of a UUID.

        Raises:
            RecordError: the id is not a UUID.
            PortalNotFound: the portal does not have it.
        """
        path = f"{AUDIT_PATH}/events/{parse_id(event_id)}"
        return read_event(self._exchange.get_json(path), path)

    def event_line(self, event_id: str) -> bytes:
        """The same as it was sent, in one line.

        Raises:
            BadAnswer: the response is not this event.
        """
        path = f"{AUDIT_PATH}/events/{event_id}"
        answer = self._exchange.get(path)
        line = answer.body.strip()
        if b"\n" in line or b"\r" in line:
            line = dumps(answer.json(path)).encode()
        listed = read_line(line)
        if listed is None or listed.id != event_id:
            raise BadAnswer(f"the answer to {path} is not that event", status=answer.status)
        return line

    def export(
        self, *filters: EventFilter, payloads: bool = False, **keywords: Any
    ) -> Iterator[Event]:
        """The same as :meth:`events`, streamed.

        What a portal's cap cuts off, without a word at the reference server, is asked for again
        from there.

        Args:
            *filters: filters; all of them must hold.
            payloads: with payloads. The reference server's export has none: each event is then
                fetched separately.
            **keywords: a filter as keywords.

        Raises:
            FilterError: a keyword or value that no filter has.
        """
        request = self.request(*filters, **keywords)
        details = payloads or request.details is not None
        inline = details and not self.is_reference
        cap = self.export_cap()
        limit = request.limit if request.whole and not request.offset else None
        if limit is not None and limit > cap:
            limit = None

        def fetch(asked: EventRequest, skip: int) -> tuple[Iterable[Event], int]:
            if skip >= cap:
                # More rows at one moment than an export has: only pages can leave some out.
                return self._list(asked, skip)
            lines = self.export_lines(asked, payloads=inline, limit=limit)
            rows = (read_event(line, f"{AUDIT_PATH}/export") for line in lines)
            return rows, cap if limit is None else limit + 1

        events = walk_back(fetch, request)
        return self._finish(request, events, payloads=payloads, fetch=details and not inline)

    def export_lines(
        self, request: EventRequest, *, payloads: bool = False, limit: int | None = None
    ) -> Iterator[bytes]:
        """The lines of one export as sent: cut at the portal's cap, with its filters only."""
        query = request.query(limit=limit)
        query = "&".join(filter(None, ("format=jsonl", query, "payloads=true" * payloads)))
        with self._exchange.lines(f"{AUDIT_PATH}/export", query) as (_, lines):
            yield from (line for line in lines if line.strip())

    def export_cap(self) -> int:
        """How many rows one export has at most: what ``/audit/meta`` says, else 100,000."""
        export = self.meta().get("export")
        rows = export.get("max_rows") if isinstance(export, dict) else None
        return rows if type(rows) is int and rows > 0 else 100_000

    def list_once(self, request: EventRequest, *, limit: int = PAGE_ROWS, offset: int = 0) -> Page:
        """One page of ``/audit/events`` and the total, the portal's own filters only."""
        query = request.query(limit=limit, offset=offset)
        return read_page(self._exchange.get_json(f"{AUDIT_PATH}/events", query))

    def request(self, *filters: EventFilter, **keywords: Any) -> EventRequest:
        """Filters divided into what this portal is asked and what the client checks."""
        found = filters_of(filters, keywords)
        return make_request(found, reference=self.is_reference if found else False)

    # How

    def _object(self, path: str, query: str = "") -> dict[str, Any]:
        value = self._exchange.get_json(path, query)
        if not isinstance(value, dict):
            raise BadAnswer(f"the answer to {path} is not what a portal says", status=200)
        return value

    def _list(self, request: EventRequest, skip: int) -> tuple[list[Event], int]:
        return self.list_once(request, offset=skip).events, PAGE_ROWS

    def _finish(
        self, request: EventRequest, events: Iterator[Event], *, payloads: bool = False, fetch: bool
    ) -> Iterator[Event]:
        """What the client has to do to the portal's events: check, complete, and page."""
        events = (event for event in events if request.wants(event))
        if fetch:
            events = fetch_details(self.event, events)
        if (details := request.details) is not None:
            events = (event for event in events if details.matches(event))
        if not payloads:
            events = (event.summary if "payload" in event.wire else event for event in events)
        stop = None if request.limit is None else request.offset + request.limit
        return islice(events, request.offset, stop)
