"""Writes calls to a store and applies the policy for store failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

from mcpaudit_lab.errors import StoreUnavailable
from mcpaudit_lab.record import Event, ToolList, dumps
from mcpaudit_lab.recorder.stores import CallStore

__all__ = ["CallWriter", "OnFailure", "refusal"]

_INTERNAL_ERROR: Final = -32603
# Report the first failure, then one in this many.
_REPORT_EVERY: Final = 1000


class OnFailure(StrEnum):
    """What to do with a call that cannot be stored."""

    REFUSE = "refuse"
    PASS = "pass"  # noqa: S105 - a policy, not a password


class CallWriter:
    """Writes calls to a store and reports failures.

    Args:
        store: the store.
        on_failure: refuse or pass calls that cannot be stored.
        report: called with a message for people when writing fails.

    Attributes:
        stored: number of completed calls stored.
        lost: number of calls or responses that passed without being stored.
        refused: number of calls or responses refused.
    """

    def __init__(
        self,
        store: CallStore,
        on_failure: OnFailure = OnFailure.REFUSE,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._on_failure = on_failure
        self._report = report
        self.stored = self.lost = self.refused = 0

    def open(self, events: Sequence[Event]) -> bool:
        """Store calls before they are forwarded; returns whether they may be."""
        return self._write(self._store.open, events)

    def complete(self, events: Sequence[Event]) -> bool:
        """Store completed calls; returns whether the client may get the responses."""
        stored = self._write(self._store.complete, events)
        self.stored += len(events) if stored else 0
        return stored

    def _write(self, write: Callable[[Sequence[Event]], None], events: Sequence[Event]) -> bool:
        if not events:
            return True
        try:
            write(events)
        except StoreUnavailable as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - the store rejects a value; str(error) may show it
            why = type(error).__name__
        else:
            return True
        failed = self.lost + self.refused
        passes = self._on_failure == OnFailure.PASS
        if passes:
            self.lost += len(events)
        else:
            self.refused += len(events)
        if not failed or failed // _REPORT_EVERY != (failed + len(events)) // _REPORT_EVERY:
            done = "passed without being recorded" if passes else "refused"
            self._report(f"calls cannot be stored and are {done}: {why}")
        return passes

    def add_tools(self, found: ToolList) -> None:
        """Store a list of tools. If that fails, it is reported, and the list passes anyway."""
        try:
            self._store.add_tools(found)
        except Exception as error:  # noqa: BLE001 - a list must reach the client whatever the store says
            self._report(f"a list of tools is not stored: {type(error).__name__}")

    def close(self) -> None:
        """Close the store and report what was lost or refused."""
        try:
            self._store.close()
        except StoreUnavailable as error:
            self._report(f"open calls are not stored yet: {error}")
        if self.lost or self.refused:
            self._report(f"not recorded: {self.lost}; refused: {self.refused}")


def refusal(rpc_id: Any, *, answered: bool) -> bytes:
    """The JSON-RPC error for a call or response that cannot be recorded.

    Args:
        rpc_id: the call's JSON-RPC id.
        answered: whether the tool has run already.
    """
    message = (
        "the tool ran, but its response is withheld because it cannot be recorded"
        if answered
        else "the call was not forwarded because it cannot be recorded"
    )
    error = {"code": _INTERNAL_ERROR, "message": message}
    return dumps({"jsonrpc": "2.0", "id": rpc_id, "error": error}, ascii_only=True).encode()
