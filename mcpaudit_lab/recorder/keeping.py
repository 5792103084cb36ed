"""Calls into a store as they pass, and what happens when the store fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.record import Event, ToolList, dumps
from mcpaudit_lab.recorder.stores import CallStore

__all__ = ["Keeper", "OnFailure", "refusal"]

_INTERNAL_ERROR: Final = -32603
# A store that keeps failing is reported once per this many failures.
_SAID_EVERY: Final = 1000


class OnFailure(StrEnum):
    """What to do with a call that cannot be stored."""

    REFUSE = "refuse"
    PASS = "pass"  # noqa: S105 - to let pass; no password


class Keeper:
    """Puts calls into a store, and says what could not be.

    Args:
        store: where calls go.
        on_failure: whether what cannot be stored is refused.
        say: called with messages for people about failures.

    Attributes:
        stored: calls that are stored whole.
        lost: calls, or answers, that passed without being stored.
        refused: calls, or answers, that were refused.
    """

    def __init__(
        self,
        store: CallStore,
        on_failure: OnFailure = OnFailure.REFUSE,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._on_failure = on_failure
        self._say = say
        self.stored = self.lost = self.refused = 0

    def open(self, events: Sequence[Event]) -> bool:
        """Store calls that are about to be sent on; returns whether they may be."""
        return self._keep(self._store.open, events)

    def complete(self, events: Sequence[Event]) -> bool:
        """Store finished calls; returns whether the client may have the responses."""
        kept = self._keep(self._store.complete, events)
        self.stored += len(events) if kept else 0
        return kept

    def _keep(self, keep: Callable[[Sequence[Event]], None], events: Sequence[Event]) -> bool:
        if not events:
            return True
        try:
            keep(events)
        except StoreUnavailable as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - a value the store cannot take; its text may show it
            why = type(error).__name__
        else:
            return True
        failed = self.lost + self.refused
        passes = self._on_failure == OnFailure.PASS
        if passes:
            self.lost += len(events)
        else:
            self.refused += len(events)
        if not failed or failed // _SAID_EVERY != (failed + len(events)) // _SAID_EVERY:
            done = "passed without being recorded" if passes else "refused"
            self._say(f"calls cannot be stored and are {done}: {why}")
        return passes

    def add_tools(self, found: ToolList) -> None:
        """Store a list of tools. If that fails, it is reported, and the list passes anyway."""
        try:
            self._store.add_tools(found)
        except Exception as error:  # noqa: BLE001 - a list must reach the client whatever the store says
            self._say(f"a list of tools is not kept: {type(error).__name__}")

    def close(self) -> None:
        """Close the store, and report what was lost or refused."""
        try:
            self._store.close()
        except StoreUnavailable as error:
            self._say(f"open calls are not stored yet: {error}")
        if self.lost or self.refused:
            self._say(f"not recorded: {self.lost}; refused: {self.refused}")


def refusal(rpc_id: Any, *, answered: bool) -> bytes:
    """The JSON-RPC error for the client in place of a call that cannot be recorded.

    Args:
        rpc_id: of the call.
        answered: whether the tool has run.
    """
    message = (
        "the tool was called, and its answer is withheld, since it cannot be recorded"
        if answered
        else "the call was not sent on, since it cannot be recorded"
    )
    error = {"code": _INTERNAL_ERROR, "message": message}
    return dumps({"jsonrpc": "2.0", "id": rpc_id, "error": error}, ascii_only=True).encode()
