"""What the audit needs of a store for events.

A place is reserved before the tool runs, since afterwards it is too late to refuse the call; what
is reserved is either committed, once, or released.
"""

from __future__ import annotations

from typing import Protocol

from mcpaudit_lab.events import Event

__all__ = ["AuditLogger", "Reservation"]


class Reservation(Protocol):
    """A place for one event."""

    def commit(self, event: Event) -> None:
        """Hand over the event with its payload. Takes effect once; never waits, never raises.

        It is called from the event loop, also inside a cancelled scope. An event may be larger
        than what was reserved (the portal's own calls have no limit): it is taken all the same.
        """

    def release(self) -> None:
        """Give the place back unused. After a commit it does nothing."""


class AuditLogger(Protocol):
    """A store for events, as far as whoever writes them is concerned."""

    async def reserve(self, size_hint: int) -> Reservation:
        """Wait for a place for one more event.

        Args:
            size_hint: about how many bytes the event with its payload will have.

        Raises:
            AuditUnavailable: there is none, or none in time. The call must not run.
        """

    async def flush(self) -> None:
        """Wait until every event committed so far is stored and can be read."""
