"""Why a call is not sent: reasons, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["PlanVerdict", "Refusal", "RefusalReason"]


class RefusalReason(StrEnum):
    """Why an event is not replayed. The values are what frames and JSON hold."""

    NO_PAYLOAD = "no_payload"
    """The lab has the event's summary only."""
    NOT_AUTHENTICATED = "not_authenticated"
    """The caller was never let in, so no tool ever saw the call."""
    TRUNCATED = "truncated"
    """The request was too big to be kept."""
    REDACTED = "redacted"
    """Values were redacted, and nobody supplies them; ``paths`` says which."""
    NOT_A_CALL = "not_a_call"
    """No tool's name, another method, or arguments that are no object."""
    UNCERTAIN = "uncertain"
    """It was sent to this target before, and nobody knows whether it ran."""
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
        paths: where in the arguments, as text; empty where it is not about a place.
    """

    reason: RefusalReason
    detail: str
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" ({', '.join(self.paths)})" if self.paths else ""
        return f"{self.detail}{where}"
