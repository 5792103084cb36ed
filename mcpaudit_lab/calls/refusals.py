"""Why a call is not sent: reasons, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mcpaudit_lab.calls.arguments import ALL_DIALECTS, Outgoing, prepare
from mcpaudit_lab.record import Dialect, Event, is_redacted

__all__ = ["PlanVerdict", "Refusal", "RefusalReason", "not_captured", "not_whole", "refuse_event"]


def refuse_event(event: Event) -> Refusal | None:
    """Why the captured call of one event must not be sent as it is, whatever the target."""
    refusal = not_captured(event)
    if refusal is None:
        refusal = not_whole(event, prepare(event), ALL_DIALECTS)
    return refusal


def not_whole(
    event: Event, outgoing: Outgoing, dialects: tuple[Dialect | str, ...]
) -> Refusal | None:
    """Why a call is not all there."""
    if outgoing.missing:
        detail = "values were redacted; secrets= supplies them"
        return Refusal(RefusalReason.REDACTED, detail, outgoing.missing)
    if is_redacted(event.tool_name, dialects=dialects):
        return Refusal(RefusalReason.REDACTED, "the tool's name was redacted", ("tool_name",))
    if not isinstance(outgoing.arguments, dict | None):
        return Refusal(RefusalReason.NOT_A_CALL, "the arguments are no object")
    return None


def not_captured(event: Event) -> Refusal | None:
    """Why the event has no call to send; None if it has one."""
    payload = event.payload
    if event.error_category == "auth":
        detail = "its caller was not authenticated"
        return Refusal(RefusalReason.NOT_AUTHENTICATED, detail)
    if payload is None:
        return Refusal(RefusalReason.NO_PAYLOAD, "the lab has no payload of it")
    if payload.request_truncated:
        return Refusal(RefusalReason.TRUNCATED, "the request was too big to be kept")
    if not event.tool_name:
        return Refusal(RefusalReason.NOT_A_CALL, "it names no tool")
    if payload.jsonrpc_method not in ("", "tools/call"):
        return Refusal(RefusalReason.NOT_A_CALL, "it is not a tools/call")
    return None


class RefusalReason(StrEnum):
    """Why an event is not replayed, as in frames and JSON."""

    NO_PAYLOAD = "no_payload"
    """The lab has the event's summary only."""
    NOT_AUTHENTICATED = "not_authenticated"
    """The caller was not authenticated, so no tool ever received the call."""
    TRUNCATED = "truncated"
    """The request was too big to be kept."""
    REDACTED = "redacted"
    """Values were redacted and not supplied; ``paths`` lists them."""
    NOT_A_CALL = "not_a_call"
    """No tool's name, another method, or arguments that are no object."""
    UNCERTAIN = "uncertain"
    """It was sent to this target before with unknown outcome."""
    TOOL_MISSING = "tool_missing"
    """The target has no tool of this name."""
    DOES_NOT_FIT = "does_not_fit"
    """The arguments do not fit the input schema that the target has now; ``paths`` says where."""
    DESTRUCTIVE = "destructive"
    """The target says that the tool destroys, and ``allow`` does not name it."""
    NOT_ALLOWED = "not_allowed"
    """The tool is not in ``allow``."""
    NOT_AT_PORTAL = "not_at_portal"
    """The portal replays its own copy of an event, and has none of this one."""
    DIFFERS_AT_PORTAL = "differs_at_portal"
    """The portal's copy is another call than the lab's; ``paths`` says where."""


class PlanVerdict(StrEnum):
    """What a plan says of an event."""

    READY = "ready"
    UNKNOWN = "unknown"
    """It would be sent; the target does not say what the tool takes and does."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event is not replayed.

    Attributes:
        reason: which of the reasons.
        detail: the same for a person, without a value of the call.
        paths: places in the arguments, as text; empty if it is not about a place.
    """

    reason: RefusalReason
    detail: str
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" ({', '.join(self.paths)})" if self.paths else ""
        return f"{self.detail}{where}"
