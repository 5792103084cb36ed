"""Verifies a pull against the portal's log, and remembers the log for the next pull."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mcpaudit_lab.errors import TamperError
from mcpaudit_lab.portal.http import ask_ahead
from mcpaudit_lab.proof import Checkpoint, LogKey, leaf_of, open_checkpoint, root_of
from mcpaudit_lab.proof import verify_consistency as is_consistent
from mcpaudit_lab.storage import KnownLog, PortalLogs

if TYPE_CHECKING:
    from mcpaudit_lab.portal.http import PortalReader
    from mcpaudit_lab.record import Event
    from mcpaudit_lab.storage import LabFile

__all__ = ["Verified", "changed_events", "follow_log", "verify_pull"]


class Verified(NamedTuple):
    """How many events of a portal's log were compared with their leaves.

    Attributes:
        matched: events that equal their leaf.
        unchecked: events without their payload here, which the leaf covers.
    """

    matched: int
    unchecked: int


def verify_pull(
    lab: LabFile,
    portal: PortalReader,
    question: str | None,
    pinned: str | None,
    found: tuple[str, str] | None,
    *,
    differing: Sequence[str],
) -> Verified | None:
    """Check the portal's log and the lab's new events against it; None if the portal has no log.

    An event that comes during the pull is verified by the next one: ``found`` is from before, and
    the lab remembers the log up to it.

    Args:
        lab: the lab; it remembers the key (trust on first use) and the newest checkpoint.
        portal: the portal.
        question: the pull's question, if it asked for every event; then dropped rows are found.
        pinned: the key that the portal must have; None trusts the first one.
        found: the portal's checkpoint and key when the pull began; None: it has no log.
        differing: ids of events that the portal lists otherwise than the lab has them.

    Raises:
        TamperError: another key, a tree that does not extend the known one, a changed or dropped
            event.
    """
    log = follow_log(lab, portal, pinned, found)
    if log is None:
        return None
    logs = PortalLogs(lab.connection.cursor())
    changed, matched, unchecked = changed_events(
        logs.events(portal.url, only_new=True), logs.leaves(portal.url)
    )
    if matched:
        with lab.writing() as connection:
            PortalLogs(connection).mark_checked(portal.url, matched)
    known = logs.leaves(portal.url)
    changed += [event_id for event_id in differing if event_id in known]
    faults = [f"changed: {event_id}" for event_id in dict.fromkeys(changed)]
    if question is not None:
        faults += _dropped(logs, portal, question)
    if faults:
        raise TamperError(f"{portal.url} does not match its own log", faults)
    return Verified(len(matched), len(unchecked))


def follow_log(
    lab: LabFile, portal: PortalReader, pinned: str | None, found: tuple[str, str] | None
) -> KnownLog | None:
    """Check that a portal's log extends the one the lab remembers, and remember it.

    Args:
        lab: the lab.
        portal: the portal.
        pinned: the key that the portal must have; None trusts the first one.
        found: the portal's checkpoint and key; None: it has no log.

    Raises:
        TamperError: another key, or a tree that does not extend the known one.
    """
    logs = PortalLogs(lab.connection.cursor())
    known = logs.of(portal.url)
    if found is None:
        if known is not None:
            raise TamperError(f"{portal.url} had a log of {known.size:,} events and has none now")
        return None
    note, told = found
    key = LogKey.parse(pinned or (known.key if known else told))
    checkpoint = open_checkpoint(note, key)
    start = known.size if known else 0
    if known is not None:
        before = open_checkpoint(known.note, LogKey.parse(known.key))
        # Whoever names a new key has heard that it was changed; the tree goes on.
        _check_extends(portal, before, checkpoint, same_log=str(key) == known.key)
    leaves = list(portal.log_leaves(start, checkpoint.size))
    _check_root(logs, portal.url, leaves, checkpoint, first=known is None)
    newest = KnownLog(portal.url, str(key), checkpoint.size, note)
    with lab.writing() as connection:
        # A pull and a tail may follow one log at a time.
        if PortalLogs(connection).of(portal.url) == known:
            PortalLogs(connection).add(newest, start, leaves)
    return newest


def changed_events(
    events: Iterable[Event], leaves: dict[str, tuple[int, str]]
) -> tuple[list[str], list[str], list[str]]:
    """Compare events with leaves: ids that differ, that match, that cannot be compared."""
    changed, matched, unchecked = [], [], []
    for event in events:
        _, value = leaves[event.id]
        if leaf_of(event).value.hex() == value:
            matched.append(event.id)
        elif event.payload is None:
            unchecked.append(event.id)
        else:
            changed.append(event.id)
    return changed, matched, unchecked


def _check_extends(
    portal: PortalReader, known: Checkpoint, found: Checkpoint, *, same_log: bool
) -> None:
    if same_log and found.origin != known.origin:
        raise TamperError(f"{portal.url} has another log: {found.origin}, not {known.origin}")
    if found.size < known.size:
        raise TamperError(
            f"{portal.url} was cut off: its log had {known.size:,} events and has {found.size:,}"
        )
    path = [bytes.fromhex(item) for item in portal.log_consistency(known.size, found.size)]
    if not is_consistent(known.size, found.size, known.root, found.root, path):
        raise TamperError(
            f"{portal.url} has replaced its log: the tree of {found.size:,} events does not extend"
            f" the known one of {known.size:,}"
        )


def _check_root(
    logs: PortalLogs,
    portal: str,
    leaves: list[tuple[str, str]],
    checkpoint: Checkpoint,
    *,
    first: bool,
) -> None:
    hashes = [] if first else logs.hashes(portal)
    hashes += [bytes.fromhex(value) for _, value in leaves]
    if len(hashes) != checkpoint.size or root_of(hashes) != checkpoint.root:
        raise TamperError(f"{portal}: the leaves of its log do not make its signed root")


def _dropped(logs: PortalLogs, portal: PortalReader, question: str) -> list[str]:
    """Events among the known leaves that the portal has no more.

    Retention removes the oldest events, so only an event newer than one that is listed counts. A
    pull that was resumed may have listed a window before an event came into it: the portal is
    asked for each event that was not listed.
    """
    leaves, listed = logs.leaves(portal.url), logs.listed(portal.url, question)
    present = [leaves[event_id][0] for event_id in listed if event_id in leaves]
    oldest = min(present, default=0)
    missing = [
        event_id
        for event_id, (place, _) in leaves.items()
        if event_id not in listed and oldest < place
    ]
    found = ask_ahead(portal.event_line, missing)
    return [f"dropped: {event_id}" for event_id, line in found if line is None]
