"""Verifies evidence: a lab against portals' logs, a portal's database against its own log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.errors import RecordError, TamperError
from mcpaudit_lab.portal.pull import changed_events
from mcpaudit_lab.proof import Checkpoint, LogKey, open_checkpoint, root_of
from mcpaudit_lab.record import (
    EVENT_FIELDS,
    PAYLOAD_FIELDS,
    Event,
    canonical_json,
    counted,
    loads,
    visible,
)
from mcpaudit_lab.storage import PortalLogs
from mcpaudit_lab.storage.load import DatabaseLog, check_files, compare_with_files, read_chain
from mcpaudit_lab.tables import PortalRow, PortalRows

if TYPE_CHECKING:
    from mcpaudit_lab.storage.load import LabStore

__all__ = ["Verification", "verify_database", "verify_lab"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was verified, and what does not hold. Prints as a few lines.

    Attributes:
        matched: events that equal their leaf in a signed log, or the line of the file that they
            came from.
        unchecked: things that could not be compared: events without payload, leaf or file, and
            files that are no longer there.
        files: files that are byte for byte what was loaded.
        faults: one line for each thing that does not hold.
        loads: sources in the ledger.
        chain: the last link of the ledger's chain, in hex, to compare with one noted earlier.
        wrong: events that differ from what they were compared with.
    """

    matched: int = 0
    unchecked: int = 0
    files: int = 0
    faults: tuple[str, ...] = ()
    loads: int = 0
    chain: str = ""
    wrong: int = 0

    @property
    def holds(self) -> bool:
        """Whether everything was checked and held."""
        return bool(self.matched or self.files) and not self.faults and not self.unchecked

    def __str__(self) -> str:
        if not (self.matched or self.files or self.faults):
            return "nothing to verify with: no signed log and no file is known"
        total = f"{self.matched + self.unchecked + self.wrong:,} events"
        lines = [f"verified {self.matched:,} of {total} and {counted(self.files, 'file')}"]
        if self.chain:
            lines.append(f"  ledger: {counted(self.loads, 'load')}, chain {self.chain}")
        if self.unchecked:
            lines.append(f"  not checked: {self.unchecked:,}")
        lines += [f"  {visible(fault)}" for fault in self.faults]
        return "\n".join(lines)


def verify_lab(lab: LabStore) -> Verification:
    """Check a lab's events, files and ledger.

    An event is compared with its leaf where a portal's log covers it, and with its file where that
    is still what was loaded.
    """
    matched: set[str] = set()
    wrong: set[str] = set()
    faults: list[str] = []
    logs = PortalLogs(lab.connection.cursor())
    for log in logs.known():
        try:
            checkpoint = open_checkpoint(log.note, LogKey.parse(log.key))
        except TamperError as error:
            faults.append(f"{log.portal}: {error}")
            continue
        hashes = logs.hashes(log.portal)
        if len(hashes) != checkpoint.size or root_of(hashes) != checkpoint.root:
            faults.append(f"{log.portal}: the leaves kept here do not make its signed root")
        damaged: list[str] = []
        events = logs.events(log.portal, damaged=damaged.append)
        changed, same, _ = changed_events(events, logs.leaves(log.portal))
        changed += damaged
        faults += [f"changed: {event_id} of {log.portal}" for event_id in changed]
        faults += [f"dropped: {event_id} of {log.portal}" for event_id in logs.lost(log.portal)]
        matched.update(same)
        wrong.update(changed)
    ledger = read_chain(lab.connection.cursor())
    faults += [f"changed: source {source_id} in the ledger" for source_id in ledger.broken]
    if ledger.unknown:
        faults.append(f"{counted(ledger.unknown, 'row')} of sources that are not in the ledger")
    files = check_files(lab.connection.cursor())
    faults += [f"changed: the file {name}" for name in files.changed]
    if files.same:
        found = compare_with_files(lab.connection.cursor(), files)
        faults += [f"changed: {event_id}, unlike its file" for event_id in found.changed]
        faults += [f"dropped: {event_id}, which its file has" for event_id in found.dropped]
        faults += [f"inserted: {event_id}, which its file has not" for event_id in found.inserted]
        matched.update(found.matched)
        wrong.update((*found.changed, *found.inserted))
    matched -= wrong
    (count,) = lab.sql("select count(*) from audit_events").fetchall()[0]
    unchecked = count - len(matched) - len(wrong) + files.gone + ledger.unchained
    return Verification(
        matched=len(matched),
        unchecked=unchecked,
        files=len(files.same),
        faults=tuple(faults),
        loads=ledger.loads,
        chain=ledger.head,
        wrong=len(wrong),
    )


def verify_database(lab: LabStore, url: str, *keys: LogKey) -> Verification:
    """Check the rows of a portal's database against the log beside them.

    Args:
        lab: an empty lab, to load the rows into.
        url: as for :meth:`Lab.load_database`.
        *keys: the log's keys: the one of now, and those that it had before.

    Raises:
        SourceError: the database is missing, refuses the connection, or is not a portal's.
    """
    log = lab.load_log(url)
    if log is None or not (log.leaves or log.checkpoints):
        return Verification()
    faults = _log_faults(log, keys)
    lab.load_database(url, progress=False)
    places = {
        leaf.event_id: (place, leaf.value.hex())
        for place, leaf in enumerate(log.leaves)
        if leaf.event_id
    }
    ids = {str(row[0]) for row in lab.sql("select id::varchar from audit_events").fetchall()}
    rows = PortalRows("postgresql" if url.startswith("postgresql") else "sqlite")
    spoiled: list[str] = []
    changed, matched, unchecked = changed_events(
        _stored(lab.all_events(), log, rows, places, spoiled), places
    )
    changed += spoiled
    moved = [name for name, (place, _) in places.items() if log.numbers.get(name) != place + 1]
    faults += [f"changed: {event_id}" for event_id in changed]
    faults += [f"changed: the commit number of {name}" for name in moved if name in ids]
    faults += _missing(places, ids)
    rejected = lab.sql("select count(*) from rejects").fetchall()[0][0]
    faults += [f"unreadable: {counted(rejected, 'row')}"] if rejected else []
    late = len(ids - set(places))
    return Verification(
        len(matched), len(unchecked) + late, faults=tuple(faults), wrong=len(changed)
    )


def _log_faults(log: DatabaseLog, keys: Sequence[LogKey]) -> list[str]:
    """What is wrong with a log by itself."""
    faults = [f"log: {damage} was changed" for damage in log.damage]
    if not log.checkpoints:
        faults.append("checkpoint: the log has leaves, but no signed checkpoint")
    for note in log.checkpoints:
        checkpoint = _opened(note, keys)
        if checkpoint is None:
            faults.append("checkpoint: it is not signed by a known key")
            continue
        size = checkpoint.size
        if size > len(log.leaves) or (
            root_of(leaf.value for leaf in log.leaves[:size]) != checkpoint.root
        ):
            faults.append(f"checkpoint: the log of {size:,} events was changed or cut off")
    return faults


def _opened(note: str, keys: Sequence[LogKey]) -> Checkpoint | None:
    for key in keys:
        with suppress(TamperError):
            return open_checkpoint(note, key)
    return None


def _stored(
    events: Iterable[Event],
    log: DatabaseLog,
    rows: PortalRows,
    places: Mapping[str, object],
    spoiled: list[str],
) -> Iterator[Event]:
    """The logged events as their portal reads them.

    Where columns cannot hold an event, the portal reads it from ``exact``. The columns are for
    people's own SQL then: an event whose columns are not those of ``exact`` is spoiled.
    """
    for event in events:
        if event.id not in places:
            continue
        if (exact := log.exact.get(event.id)) is None:
            yield event
            continue
        try:
            wire: Any = event.wire
            if "audit_events" in exact:
                wire = loads(exact["audit_events"])
            payload: Any = event.wire.get("payload")
            if "audit_payloads" in exact:
                payload = loads(exact["audit_payloads"])
            whole = Event({**wire, "payload": payload} if payload is not None else wire)
            told, found = (_columns(rows.write(item)) for item in (whole, event))
        except (RecordError, TypeError, ValueError):
            spoiled.append(event.id)
            continue
        if told == found:
            yield whole
        else:
            spoiled.append(event.id)


def _columns(row: PortalRow) -> list[Any]:
    """The values of a row's columns, as far as reading them again tells them apart.

    JSON that is empty is absent, as on the wire; ``jsonb`` keeps no order of members; one moment
    has one spelling.
    """
    values: list[Any] = []
    pairs = zip(EVENT_FIELDS, row.summary, strict=False)
    for field, value in chain(pairs, zip(PAYLOAD_FIELDS, row.payload or (), strict=False)):
        if field.name == "timestamp":
            values.append(row.event.timestamp)
        elif field.kind == "json" and isinstance(value, str):
            values.append(canonical_json(loads(value) or None))
        else:
            values.append("null" if field.kind == "json" else value)
    return values


def _missing(places: dict[str, tuple[int, str]], ids: set[str]) -> Sequence[str]:
    """Logged events without a row, newer than one with a row: retention takes the oldest."""
    oldest = min((place for event_id, (place, _) in places.items() if event_id in ids), default=0)
    return [
        f"dropped: {event_id}"
        for event_id, (place, _) in places.items()
        if event_id not in ids and place > oldest
    ]
