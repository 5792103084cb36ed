"""What one leaf of the log covers: an event with its payload, in canonical JSON."""

from __future__ import annotations

from dataclasses import dataclass

from mcpaudit_lab.proof.merkle import leaf_hash
from mcpaudit_lab.record import Event, canonical_json, respell_time

__all__ = ["Leaf", "absent_leaf", "leaf_of"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of the log.

    Attributes:
        event_id: the event; empty for a number without a readable row.
        value: the hash.
    """

    event_id: str
    value: bytes


def leaf_of(event: Event) -> Leaf:
    """The leaf of an event with its payload, as a portal's detail response and export have it.

    ``captured_at`` is left out: it is the time of storing, and no portal sends it. The hash covers
    canonical JSON (:mod:`mcpaudit_lab.record.canonical`), so the order of members
    and the spelling of numbers and of the timestamp do not matter, and every digit does.

    Raises:
        RecursionError: the event is nested about a thousand levels deep.
    """
    # One moment has one spelling: UTC, no zeros at the end.
    wire = {**event.wire, "timestamp": respell_time(str(event.wire["timestamp"]))}
    payload = wire.get("payload")
    if isinstance(payload, dict) and "captured_at" in payload:
        sent = {name: value for name, value in payload.items() if name != "captured_at"}
        wire = {**wire, "payload": sent}
    return Leaf(event.id, leaf_hash(canonical_json(wire).encode()))


def absent_leaf(number: int) -> Leaf:
    """The leaf of a number in order of commit whose row was gone or unreadable when logged."""
    return Leaf("", leaf_hash(f"absent {number}".encode()))
