"""A portal as a target: its replay endpoint for events it stores, Try-It for the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.calls import (
    DEFAULT_PACE,
    Answer,
    Pace,
    Refusal,
    RefusalReason,
    ReplayStatus,
    ToolFacts,
    facts_of,
)
from mcpaudit_lab.comparison import diff, format_path
from mcpaudit_lab.errors import CsrfRefused, PortalError, PortalNotFound, RateLimited, Unauthorized
from mcpaudit_lab.record import same
from mcpaudit_lab.replay.mcp_target import McpTarget

if TYPE_CHECKING:
    from mcpaudit_lab.calls import Outgoing
    from mcpaudit_lab.portal import PortalClient
    from mcpaudit_lab.record import Event

__all__ = ["REPLAY", "TRY_IT", "PortalCalls", "PortalTarget"]

REPLAY: Final = "replay"
TRY_IT: Final = "try-it"

# Ours serves MCP at the first, the reference server at the second.
_MCP_PATHS: Final = ("/mcp", "/")
_PATHS_SHOWN: Final = 5


class PortalTarget:
    """A portal, through its own API.

    Args:
        client: the portal.
        mcp_paths: possible paths of its MCP endpoint, which declares what the tools take and do;
            ``()`` skips it. It is also skipped if the client has its own transport, which these
            requests, and the key in them, would bypass.
    """

    transport = "http"

    def __init__(self, client: PortalClient, *, mcp_paths: tuple[str, ...] = _MCP_PATHS) -> None:
        self.client = client
        self.name = client.url
        self._mcp_paths = mcp_paths

    def pace(self) -> Pace:
        """The rate in ``/audit/meta``; by default a burst of five and one every 12 s.

        Raises:
            PortalError: the portal does not answer.
        """
        return Pace.of_meta(self.client.meta()) or DEFAULT_PACE

    def tools(self) -> Mapping[str, ToolFacts]:
        """What its MCP endpoint says of its tools; else its own API, which tells no annotations.

        Raises:
            PortalError: the portal does not answer.
        """
        for path in () if self.client.transport else self._mcp_paths:
            endpoint = McpTarget(f"{self.client.url}{path}", headers=self.client.headers())
            found = endpoint.tools()
            if found is not None:
                return found
        # The portal's list has no annotations.
        listed = [
            replace(facts_of(tool), annotations=None, definition=None)
            for tool in self.client.tools()
        ]
        return {tool.name: tool for tool in listed}

    def route(self, event: Event, outgoing: Outgoing, *, via_tryit: bool) -> str | Refusal:
        """Its replay endpoint, if its copy of the event is the same call; Try-It for another call.

        Raises:
            PortalError: the portal does not answer.
        """
        if outgoing.modified:
            return TRY_IT
        try:
            theirs = self.client.event(event.id)
        except PortalNotFound:
            hint = "; via_tryit=True sends the lab's"
            refusal = Refusal(RefusalReason.NOT_AT_PORTAL, f"the portal has no such event{hint}")
            return TRY_IT if via_tryit else refusal
        found = _differences(event, theirs)
        if found is None:
            return REPLAY
        detail = "the portal's copy of the event is another call; via_tryit=True sends the lab's"
        refusal = Refusal(RefusalReason.DIFFERS_AT_PORTAL, detail, found)
        return TRY_IT if via_tryit else refusal

    @contextmanager
    def open(self) -> Iterator[PortalCalls]:
        """Take calls while the block runs."""
        yield PortalCalls(self.client)

    def __repr__(self) -> str:
        return f"PortalTarget({self.name!r})"


def _differences(ours: Event, theirs: Event) -> tuple[str, ...] | None:
    """The paths at which two captured calls differ; None if they are the same call."""
    if ours.tool_name != theirs.tool_name:
        return ("tool_name",)
    left = ours.payload.request_params if ours.payload else None
    right = theirs.payload.request_params if theirs.payload else None
    # An empty object is left out of the record.
    left, right = left or {}, right or {}
    if same(left, right):
        return None
    return tuple(format_path(change.path) for change in diff(left, right)[:_PATHS_SHOWN])


class PortalCalls:
    """A portal that takes calls. Made by :meth:`PortalTarget.open`."""

    def __init__(self, client: PortalClient) -> None:
        self._client = client

    def call(self, event: Event, outgoing: Outgoing, route: str) -> Answer:
        """Send one call and wait for its end. Whatever goes wrong is an answer."""
        as_it_is = route == REPLAY and not outgoing.modified
        answer = _asked(lambda: self._replay(event) if as_it_is else self._try_it(event, outgoing))
        return answer.scrubbed(outgoing.scrubber)

    def fetch(self, replay_id: str) -> Event | None:
        """The event of a replay; None where the portal does not give it now."""
        try:
            return self._client.event(replay_id)
        except PortalError:
            return None

    def _replay(self, event: Event) -> Answer:
        answer = self._client.post_replay(event.id)
        status = ReplayStatus.SUCCEEDED if answer.success else ReplayStatus.FAILED
        replay_id = answer.replay_event_id
        return Answer(status, answer.result, answer.error, replay_id=replay_id)

    def _try_it(self, event: Event, outgoing: Outgoing) -> Answer:
        answer = self._client.tryit(event.tool_name, outgoing.arguments)
        status = ReplayStatus.FAILED if answer.is_error else ReplayStatus.SUCCEEDED
        return Answer(status, answer.result, answer.error)


def _asked(ask: Callable[[], Answer]) -> Answer:
    started, begin = datetime.now(UTC), time.monotonic()
    try:
        answer = ask()
    except PortalError as error:
        answer = _refused(error)
    elapsed_ms = round((time.monotonic() - begin) * 1000)
    return Answer(
        answer.status,
        answer.result,
        answer.error,
        started=started,
        duration_ms=elapsed_ms,
        replay_id=answer.replay_id,
        retry_after_s=answer.retry_after_s,
    )


def _refused(error: PortalError) -> Answer:
    """What it means for a call that the portal did not answer with an outcome."""
    # A key that is not taken is something to put right; nothing ran.
    if not error.sent or isinstance(error, Unauthorized | CsrfRefused):
        return Answer(ReplayStatus.UNSENT, error=str(error))
    if isinstance(error, RateLimited):
        wait_s = max(1.0, error.retry_after_s)
        return Answer(ReplayStatus.LIMITED, error=str(error), retry_after_s=wait_s)
    # 408 is a proxy's: it does not know what became of the call behind it.
    turned_away = 300 <= error.status < 500 and error.status != 408
    if turned_away or (error.status == 503 and "MCP" in error.text):
        return Answer(ReplayStatus.REFUSED, error=error.text or str(error))
    return Answer(ReplayStatus.UNCERTAIN, error=str(error))
