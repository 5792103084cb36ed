"""A portal over HTTP: its events, tools and figures, and the calls it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mcpaudit_lab.errors import BadAnswer, RecordError, ReplayRefused
from mcpaudit_lab.filters import filters_of
from mcpaudit_lab.portal.http import AUDIT_PATH, PortalCounter
from mcpaudit_lab.record import parse_id, visible

if TYPE_CHECKING:
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.portal.stream import EventStream
    from mcpaudit_lab.portal.tail import Tail
    from mcpaudit_lab.storage.load import LabStore

__all__ = ["PortalClient", "ReplayAnswer", "ToolAnswer"]


@dataclass(frozen=True, slots=True)
class ReplayAnswer:
    """What came of a replay.

    Attributes:
        replay_event_id: the id of the new event.
        replayed_from: the id of the original.
        result: the CallToolResult, or None where the call raised.
        success: whether the call succeeded; False also where the result says ``isError``.
        error: the portal's words for what went wrong, or an empty text.
        status: the HTTP status: 200, or 502 for a call that failed.
    """

    replay_event_id: str
    replayed_from: str
    result: dict[str, Any] | None
    success: bool
    error: str
    status: int


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What came of a Try-It call.

    Attributes:
        result: the CallToolResult, or None where the call raised.
        is_error: whether the result says ``isError``, or the call raised.
        error: the portal's words for a call that raised, or an empty text.
        status: the HTTP status: 200, or 502 for a call that raised.
    """

    result: dict[str, Any] | None
    is_error: bool
    error: str
    status: int


class PortalClient(PortalCounter):
    """A portal, ours or the reference server, asked over HTTP.

    Requests that change nothing are made again, with growing pauses, while the portal is away or
    wants no more for a moment; replays and Try-It calls never are. Redirects are not followed. Any
    thread may use it. Use it in a ``with`` statement, or call :meth:`close`.

    Args:
        url: the portal's base URL, such as ``http://localhost:8080``; None: the environment's
            ``MCPAUDIT_URL``.
        api_key: an API key; None: the environment's ``MCPAUDIT_API_KEY``. It is in no repr, error
            or log, and the client is not pickled.
        bearer: a bearer token instead of a key.
        timeout_s: the time limit of connecting and of one read.
        transport: an httpx2 transport instead of the network, which keeps to the environment's
            proxies, except before a loopback address.
        attempts: how often a request that changes nothing is made, at most.
        backoff_s: the first pause between two of them; it doubles, with jitter. 0 for none.
        max_answer_bytes: the most that one answer, or one line of an export, may have.
        clock: monotonic seconds.

    Raises:
        PortalError: the URL is missing or invalid; both a key and a token are given, or one cannot
            be sent in a header.

    Every method raises :class:`~mcpaudit_lab.errors.PortalError` of the kind that the answer means:
    ``Unauthorized``, ``PortalNotFound``, ``PortalUnavailable``, ``BadAnswer`` and so on.
    """

    # Live

    def stream(self, *filters: EventFilter, **keywords: Any) -> EventStream:
        """The events as they are stored, for ever: an iterator that reconnects and fills its gaps.

        Args:
            *filters: filters; all of them must hold.
            **keywords: a filter as keywords.

        Raises:
            FilterError: a keyword or value that no filter has; a limit or offset.
        """
        from mcpaudit_lab.portal.stream import EventStream

        return EventStream(self, filters_of(filters, keywords))

    def tail(
        self,
        *filters: EventFilter,
        max_rows: int = 200,
        into: LabStore | None = None,
        **keywords: Any,
    ) -> Tail:
        """Watch calls arrive: a widget in a notebook, text elsewhere. It runs from now on.

        Args:
            *filters: which events; all filters must hold.
            max_rows: maximum number of rows shown.
            into: a lab that gets all that arrives.
            **keywords: a filter as keywords.

        Raises:
            FilterError: a keyword or value that no filter has; a limit or offset.
        """
        from mcpaudit_lab.portal.tail import Tail

        wanted = filters_of(filters, keywords)
        title = ", ".join(item.describe() for item in wanted) or "all events"
        return Tail(
            self.stream(*wanted),
            portal=self,
            max_rows=max_rows,
            into=into,
            title=f"{title} of {self.url}",
        )

    # Calls

    def tryit(self, tool: str, arguments: dict[str, Any] | None = None) -> ToolAnswer:
        """Have the portal call a tool. The call is audited, as ``portal-tryit``; made once.

        Raises:
            PortalUnavailable: the portal is away. Where ``sent`` is true the tool may have run.
            BadAnswer: the response is not a portal's; the tool may have run.
        """
        body = {"arguments": {} if arguments is None else arguments}
        target = f"/api/v1/admin/tryit/{quote(tool, safe='')}"
        answer = self._exchange.ask("POST", target, body, also=(502,))
        value = answer.json(target)
        found = value if isinstance(value, dict) else {}
        if answer.status == 502 and found.keys() == {"error"} and isinstance(found["error"], str):
            return ToolAnswer(None, True, visible(found["error"]), 502)
        # A gateway may answer with its own JSON: the outcome of the call behind it is unknown.
        if answer.status == 502 or not isinstance(found.get("content"), list):
            raise BadAnswer("the response to Try-It is not a result", status=answer.status)
        return ToolAnswer(found, bool(found.get("isError")), "", answer.status)

    def replay(self, event_id: str) -> ReplayAnswer:
        """Have the portal call again what an event recorded; audited, as ``portal-replay``.

        The event is fetched first, and what must not be called again is refused here. For several
        events make a plan: :meth:`Lab.plan_replay`.

        Raises:
            RecordError: the id is not a UUID.
            ReplayRefused: no payload, redacted or truncated arguments, a failed authentication; or
                the portal refuses. No tool ran.
            RateLimited: the portal's budget is spent. No tool ran.
            PortalUnavailable: the portal is away. Where ``sent`` is true the tool may have run.
        """
        from mcpaudit_lab.calls import refuse_event

        event = self.event(event_id)
        if why := refuse_event(event):
            raise ReplayRefused(f"event {event.id} is not replayed: {why}", sent=False)
        return self.post_replay(event.id)

    def post_replay(self, event_id: str) -> ReplayAnswer:
        """The bare request for a replay, without a look at the event; made once.

        Raises:
            The same as :meth:`replay`.
        """
        target = f"{AUDIT_PATH}/events/{parse_id(event_id)}/replay"
        answer = self._exchange.ask("POST", target, also=(502,), is_replay=True)
        value = answer.json(target)
        if not isinstance(value, dict) or not isinstance(value.get("success"), bool):
            raise BadAnswer("the response to the replay is malformed", status=answer.status)
        try:
            replay_id = parse_id(str(value.get("replay_event_id")))
        except RecordError:
            raise BadAnswer("the answer names no event of a replay", status=answer.status) from None
        result = value.get("result")
        return ReplayAnswer(
            replay_event_id=replay_id,
            replayed_from=str(value.get("replayed_from") or ""),
            result=result if isinstance(result, dict) else None,
            success=value["success"],
            error=visible(str(value.get("error") or "")),
            status=answer.status,
        )
