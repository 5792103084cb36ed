"""What it means for a call that its answer was an error: did the tool run?

The SDK makes errors of its own where a server did not answer in JSON-RPC. Only what the server said
itself is an answer; where nobody can tell, the outcome is uncertain.
"""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.replay.answers import Answer, ReplayStatus

if TYPE_CHECKING:
    from mcpaudit_lab.replay.mcp_wire import CallOnTheWire

__all__ = ["failed_answer", "retry_after_s"]

# JSON-RPC codes, as the SDK uses them for a connection that closed and a time that ran out.
_UNANSWERED: Final = (-32000, -32001)
# What the SDK says in place of a server that did not answer in JSON-RPC.
_STAND_INS: Final = (*("Server returned an error response", "Session terminated", "Not Found"),)
_UNREADABLE: Final = (
    *("Failed to parse", "server answered a request with 202", "Unexpected content type"),
)
_MAX_WAIT_S: Final = 3600.0
# A key that is not taken, and an endpoint or session that is not there: something to put right.
_NO_ENTRY: Final = (401, 403)
_COME_AGAIN: Final = (*_NO_ENTRY, 404)


def failed_answer(wire: CallOnTheWire, code: int, message: str) -> Answer:
    """The answer that an error of the SDK's client stands for.

    Args:
        wire: what became of the call on its way.
        code: the JSON-RPC code of the error.
        message: its message.
    """
    if not wire.sent:
        return Answer(ReplayStatus.UNSENT, error=f"not sent: {wire.failure or message}")
    if wire.status == 429:
        wait_s = retry_after_s(wire.retry_after)
        return Answer(ReplayStatus.LIMITED, error="HTTP 429", retry_after_s=wait_s)
    if message.startswith("Redirect to "):
        return Answer(
            ReplayStatus.REFUSED, error="the target sends elsewhere, which is not followed"
        )
    if wire.status in _NO_ENTRY or (message in _STAND_INS and wire.status >= 400):
        return _http_failure(wire)
    if code in _UNANSWERED or message.startswith(_UNREADABLE):
        return Answer(ReplayStatus.UNCERTAIN, error=f"no answer that can be read: {message}")
    return Answer(ReplayStatus.FAILED, error=message)


def _http_failure(wire: CallOnTheWire) -> Answer:
    """An HTTP status with nothing of JSON-RPC behind it."""
    if wire.status in _COME_AGAIN:
        return Answer(ReplayStatus.UNSENT, error=f"the target answers HTTP {wire.status}")
    # 408 is a proxy's: it does not know what became of the call behind it.
    if wire.status < 500 and wire.status != 408:
        return Answer(ReplayStatus.REFUSED, error=f"the target answers HTTP {wire.status}")
    return Answer(ReplayStatus.UNCERTAIN, error=wire.failure or f"HTTP {wire.status}")


def retry_after_s(header: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float:
    """How long a ``Retry-After`` asks to wait, in seconds (RFC 9110 section 10.2.3).

    Args:
        header: whole seconds, or a date; what is neither, or empty, asks for one second.
        now: the time, with a zone.

    Returns:
        1 at least, 3,600 at most.
    """
    header = header.strip()
    seconds = 1.0
    if header.isascii() and header.isdigit():
        seconds = float(header[:9])
    elif header:
        try:
            seconds = (email.utils.parsedate_to_datetime(header) - now()).total_seconds()
        except (TypeError, ValueError):
            seconds = 1.0
    return min(max(seconds, 1.0), _MAX_WAIT_S)
