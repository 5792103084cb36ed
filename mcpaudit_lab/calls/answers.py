"""What became of a call that was to be sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from mcpaudit_lab.record import Event, Payload

if TYPE_CHECKING:
    from mcpaudit_lab.calls.arguments import Outgoing
    from mcpaudit_lab.calls.scrubbing import Scrubber

__all__ = ["LAB_REPLAY", "MAX_ANSWER_BYTES", "Answer", "ReplayStatus", "event_of"]

MAX_ANSWER_BYTES: Final = 64 << 20
"""Default size limit of one call's response over HTTP, in bytes."""


LAB_REPLAY = "lab-replay"
"""The ``source`` of events that record a replay of our own."""


class ReplayStatus(StrEnum):
    """How far a replay came, as stored in the lab's table ``replays``."""

    WAITING = "waiting"
    """Not sent yet."""
    SENT = "sent"
    """Being sent; if the sending process died, the outcome is uncertain."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The target answered: the tool failed."""
    REFUSED = "refused"
    """By the plan, or by the target; nothing ran."""
    LIMITED = "limited"
    """The target wants us to wait; nothing ran."""
    UNSENT = "unsent"
    """The target could not be reached; nothing ran, and it may be sent again."""
    UNCERTAIN = "uncertain"
    """It was sent without a response, so it may have run. It is never resent automatically."""


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """A target's response to one call.

    Attributes:
        status: how far it came.
        result: the ``CallToolResult`` in its JSON form, or None.
        error: why there is no response, or why the call failed.
        notifications: what the tool sent during the call, in the record's form.
        started: when it was sent, UTC.
        duration_ms: from sending to the end, the way there and back included.
        replay_id: the event that the target wrote for it, if it says so.
        retry_after_s: with ``limited``, how long to wait, in seconds.
    """

    status: ReplayStatus
    result: dict[str, Any] | None = None
    error: str = ""
    notifications: tuple[dict[str, Any], ...] = ()
    started: datetime | None = None
    duration_ms: int = 0
    replay_id: str = ""
    retry_after_s: float = 0.0

    def scrubbed(self, scrubber: Scrubber) -> Answer:
        """The same without the secrets supplied for the call."""
        if not scrubber:
            return self
        return replace(
            self,
            result=scrubber.clean(self.result),
            error=scrubber.clean_text(self.error),
            notifications=tuple(scrubber.clean(item) for item in self.notifications),
        )

    def __repr__(self) -> str:
        return f"Answer({self.status}, {self.duration_ms} ms)"


def event_of(original: Event, outgoing: Outgoing, answer: Answer, transport: str) -> Event:
    """The event that records a replay where the target writes none that we could have.

    The stored arguments have marks where secrets were supplied.

    Args:
        original: the event that was replayed.
        outgoing: what went out.
        answer: the response, scrubbed.
        transport: ``http``, ``stdio`` or ``in-process``.
    """
    # A portal omits it from a response if it is false, but stores it.
    result = None if answer.result is None else {"isError": False, **answer.result}
    content = result.get("content") if result is not None else None
    blocks: list[Any] = content if isinstance(content, list) else []
    failed = answer.status is not ReplayStatus.SUCCEEDED
    category = ("handler" if result is None else "tool") if failed else ""
    error = {"message": answer.error, "category": category} if result is None else None
    return Event.build(
        id=answer.replay_id or str(uuid4()),
        timestamp=answer.started,
        duration_ms=answer.duration_ms,
        tool_name=original.tool_name,
        tool_group=original.tool_group,
        parameters=outgoing.kept,
        success=not failed,
        error_message=answer.error if result is None else "",
        error_category=category,
        response_chars=sum(_text_bytes(blocks)),
        content_blocks=len(blocks),
        transport=transport,
        source=LAB_REPLAY,
        payload=Payload.build(
            jsonrpc_method="tools/call",
            request_params=outgoing.kept,
            response_result=result,
            response_error=error,
            notifications=list(answer.notifications),
            replayed_from=original.id,
        ),
    )


def _text_bytes(blocks: Iterable[Any]) -> Iterable[int]:
    """As the record counts: bytes of UTF-8 in text blocks, under the name of characters."""
    for block in blocks:
        text = block.get("text") if isinstance(block, dict) else None
        if isinstance(text, str) and block.get("type") == "text":
            yield len(text.encode("utf-8", "surrogatepass"))
