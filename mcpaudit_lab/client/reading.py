"""Asking a portal: what it says of itself, its events and figures. Nothing here changes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self
from urllib.parse import quote

from mcpaudit_lab import __version__
from mcpaudit_lab.client.credentials import Credentials, SecretHeaders, base_url
from mcpaudit_lab.client.details import fetch_details
from mcpaudit_lab.client.exchange import MAX_ANSWER_BYTES, Exchange
from mcpaudit_lab.client.paging import (
    PAGE_ROWS,
    Page,
    event_or_none,
    read_event,
    read_page,
    walk_back,
)
from mcpaudit_lab.client.question import Question, filters_of, put_question
from mcpaudit_lab.errors import BadAnswer, FilterError, PortalError
from mcpaudit_lab.events import Event, parse_id
from mcpaudit_lab.filters import EventFilter

if TYPE_CHECKING:
    import httpx2
    import pandas as pd

__all__ = ["AUDIT_PATH", "PortalReader"]

_PORTAL: Final = "/api/v1/portal"
AUDIT_PATH: Final = f"{_PORTAL}/audit"
_CONNECT_S: Final = 10.0
_BREAKDOWNS: Final = ("tool", "user", "success", "auth_type")


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
        import httpx2

        self.url = base_url(os.environ.get("MCPAUDIT_URL", "") if url is None else url)
        base = httpx2.URL(self.url)
        self.http = httpx2.Client(
            base_url=base,
            auth=self._credentials.signer(base),
            headers={
                "User-Agent": f"mcpaudit-lab/{__version__}",
                "X-Requested-With": "mcpaudit-lab",
            },
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S)),
            transport=transport,
            follow_redirects=False,
        )
        self._exchange = Exchange(
            self.http,
            self.url,
            self._credentials,
            attempts=attempts,
            backoff_s=backoff_s,
            timeout_s=timeout_s,
            max_answer_bytes=max_answer_bytes,
            clock=clock,
        )
        self._is_reference: bool | None = None

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
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, {self._credentials.kind})"

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a portal's client holds a key and connections: make a new one instead")

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
            PortalNotFound: there is none of this name.
        """
        return self._object(f"{_PORTAL}/tools/{quote(name, safe='')}")

    def meta(self) -> dict[str, Any]:
        """What may be asked, and how much of it: ``has_keys``, ``replay``, ``export``."""
        return self._object(f"{AUDIT_PATH}/meta")

    def dashboard(self) -> dict[str, Any]:
        """Figures over the last hour, and the newest events."""
        return self._object(f"{_PORTAL}/dashboard")

    # Events

    def events(self, *filters: EventFilter, **keywords: Any) -> Iterator[Event]:
        """Summaries of events, newest first, ties by id; all pages, each read when it is needed.

        Every event that was there at the start comes once, unless the portal deletes it.

        Args:
            *filters: filters, all of which must hold.
            **keywords: a filter by its keywords, as :class:`EventFilter` takes them. What the
                portal cannot filter by, the client checks; it asks for payloads where it must.

        Raises:
            FilterError: a keyword or value that no filter has.
        """
        question = self.question(*filters, **keywords)
        events = walk_back(self._list, question)
        return self._finish(question, events, fetch=question.details is not None)

    def event(self, event_id: str) -> Event:
        """One event with its payload.

        Args:
            event_id: its id, in any spelling of a UUID.

        Raises:
            RecordError: that is no UUID.
            PortalNotFound: there is none.
        """
        path = f"{AUDIT_PATH}/events/{parse_id(event_id)}"
        return read_event(self._exchange.get_json(path), path)

    def export(
        self, *filters: EventFilter, payloads: bool = False, **keywords: Any
    ) -> Iterator[Event]:
        """The same as :meth:`events`, streamed.

        What a portal's cap cuts off, without a word at the reference server, is asked for again
        from there.

        Args:
            *filters: filters, all of which must hold.
            payloads: with payloads. The reference server's export has none: there each event is
                asked for by itself.
            **keywords: a filter by its keywords.

        Raises:
            FilterError: a keyword or value that no filter has.
        """
        question = self.question(*filters, **keywords)
        details = payloads or question.details is not None
        inline = details and not self.is_reference
        cap = self.export_cap()
        limit = question.limit if question.whole and not question.offset else None

        def fetch(asked: Question, skip: int) -> tuple[Iterable[Event], int]:
            if skip >= cap:
                # More rows at one moment than an export has: only pages can leave some out.
                return self._list(asked, skip)
            rows = self.export_once(asked, payloads=inline, limit=limit)
            return rows, cap if limit is None else max(cap, limit + 1)

        events = walk_back(fetch, question)
        return self._finish(question, events, payloads=payloads, fetch=details and not inline)

    def export_once(
        self,
        question: Question,
        *,
        payloads: bool = False,
        limit: int | None = None,
        bad: Callable[[bytes], object] | None = None,
    ) -> Iterator[Event]:
        """One export as the portal gives it: cut at its cap, its own filters only.

        Args:
            question: the question.
            payloads: with payloads, where the portal's exports have them.
            limit: at most so many.
            bad: takes the lines that are no events with an id; None: they are an error.
        """
        query = question.query(limit=limit)
        query = "&".join(filter(None, ("format=jsonl", query, "payloads=true" * payloads)))
        path = f"{AUDIT_PATH}/export"
        with self._exchange.lines(path, query) as (_, lines):
            for line in lines:
                if bad is None:
                    yield read_event(line, path)
                elif (event := event_or_none(line)) is not None:
                    yield event
                else:
                    bad(line)

    def export_cap(self) -> int:
        """How many rows one export has at most: what ``/audit/meta`` says, else 100,000."""
        export = self.meta().get("export")
        rows = export.get("max_rows") if isinstance(export, dict) else None
        return rows if type(rows) is int and rows > 0 else 100_000

    def list_once(self, question: Question, *, limit: int = PAGE_ROWS, offset: int = 0) -> Page:
        """One page of ``/audit/events`` and the total, the portal's own filters only."""
        query = question.query(limit=limit, offset=offset)
        return read_page(self._exchange.get_json(f"{AUDIT_PATH}/events", query))

    def question(self, *filters: EventFilter, **keywords: Any) -> Question:
        """Filters divided into what this portal is asked and what the client checks."""
        found = filters_of(filters, keywords)
        return put_question(found, reference=self.is_reference if found else False)

    # Figures

    def timeseries(
        self, bucket: str | timedelta = "1m", *filters: EventFilter, **keywords: Any
    ) -> pd.DataFrame:
        """Calls over time, as the portal counts them.

        Args:
            bucket: width of a bucket, ``5m``, ``90s``, ``1h30m``, or a ``timedelta``.
            *filters: filters, all of which must hold. The reference server knows ``from`` and
                ``to`` here.
            **keywords: a filter by its keywords.

        Returns:
            Columns ``time`` (start of the bucket, UTC), ``count``, ``errors``,
            ``avg_duration_ms``, in order of time, as :meth:`EventSet.timeseries` has them. Buckets
            without an event are left out.

        Raises:
            FilterError: the portal would count more than was asked for; or no duration.
            PortalError: the window is too long, or has too many buckets.
        """
        from mcpaudit_lab.client.figures import duration_text, series_frame

        query = f"bucket={duration_text(bucket)}"
        return series_frame(self._figures("timeseries", query, filters, keywords))

    def breakdown(self, by: str = "tool", *filters: EventFilter, **keywords: Any) -> pd.DataFrame:
        """How many events and failures there are for each value, as the portal counts them.

        Args:
            by: ``tool``, ``user``, ``success`` or ``auth_type``.
            *filters: as in :meth:`timeseries`.
            **keywords: a filter by its keywords.

        Returns:
            Columns ``key``, ``count``, ``errors``, most frequent first; 50 rows at most.

        Raises:
            FilterError: ``by`` is no choice; the portal would count more than was asked for.
        """
        from mcpaudit_lab.client.figures import shares_frame

        if by not in _BREAKDOWNS:
            raise FilterError(f"by={by!r}: choose from {', '.join(_BREAKDOWNS)}")
        return shares_frame(self._figures("breakdown", f"by={by}", filters, keywords))

    def _figures(
        self, what: str, query: str, filters: tuple[EventFilter, ...], keywords: dict[str, Any]
    ) -> dict[str, Any]:
        question = self.question(*filters, **keywords)
        sent = question.sent
        if self.is_reference and sent != EventFilter(from_=sent.from_, to=sent.to):
            raise FilterError(
                f"this portal's {what} knows no filter but from and to; pull the events into a "
                f"lab and ask lab.events(…).{what}()"
            )
        if not question.whole or question.limit is not None or question.offset:
            raise FilterError(
                f"a portal's {what} cannot count that; pull the events into a lab and ask "
                f"lab.events(…).{what}()"
            )
        return self._object(
            f"{AUDIT_PATH}/{what}", "&".join(filter(None, (query, question.query())))
        )

    # How

    def _object(self, path: str, query: str = "") -> dict[str, Any]:
        value = self._exchange.get_json(path, query)
        if not isinstance(value, dict):
            raise BadAnswer(f"the answer to {path} is not what a portal says", status=200)
        return value

    def _list(self, question: Question, skip: int) -> tuple[list[Event], int]:
        return self.list_once(question, offset=skip).events, PAGE_ROWS

    def _finish(
        self, question: Question, events: Iterator[Event], *, payloads: bool = False, fetch: bool
    ) -> Iterator[Event]:
        """What the client has to do to the portal's events: check, complete, and page."""
        events = (event for event in events if question.wants(event))
        if fetch:
            events = fetch_details(self, events)
        if (details := question.details) is not None:
            events = (event for event in events if details.matches(event))
        if not payloads:
            events = (event.summary if "payload" in event.wire else event for event in events)
        stop = None if question.limit is None else question.offset + question.limit
        return islice(events, question.offset, stop)
