"""Verifies evidence: a lab against portals' logs, a portal's database against its own log."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.errors import TamperError
from mcpaudit_lab.portal.pull import changed_events
from mcpaudit_lab.proof import LogKey, open_checkpoint, root_of
from mcpaudit_lab.record import counted, visible
from mcpaudit_lab.storage import PortalLogs

if TYPE_CHECKING:
    from mcpaudit_lab.storage import LabFile
    from mcpaudit_lab.storage.load import LabStore

__all__ = ["Verification", "verify_database", "verify_lab"]

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Verification:
    """What was verified, and what does not hold. Prints as a few lines.

    Attributes:
        matched: events that equal their leaf in a signed log.
        unchecked: things that could not be compared: events without payload or leaf, files that are
            no longer there.
        files: files that are byte for byte what was loaded.
        faults: one line for each thing that does not hold.
    """

    matched: int = 0
    unchecked: int = 0
    files: int = 0
    faults: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether everything was checked and held."""
        return bool(self.matched or self.files) and not self.faults and not self.unchecked

    def __str__(self) -> str:
        if not (self.matched or self.files or self.faults):
            return "nothing to verify with: no signed log and no file is known"
        total = f"{self.matched + self.unchecked:,} events"
        lines = [f"verified {self.matched:,} of {total} and {counted(self.files, 'file')}"]
        if self.unchecked:
            lines.append(f"  not checked: {self.unchecked:,}")
        lines += [f"  {visible(fault)}" for fault in self.faults]
        return "\n".join(lines)


def verify_lab(lab: LabFile) -> Verification:
    """Check every event of a lab that a portal's log covers, and every file that was loaded."""
    logs = PortalLogs(lab.connection.cursor())
    matched, unchecked, faults = 0, 0, list[str]()
    for log in logs.known():
        try:
            checkpoint = open_checkpoint(log.note, LogKey.parse(log.key))
        except TamperError as error:
            faults.append(f"{log.portal}: {error}")
            continue
        hashes = logs.hashes(log.portal)
        if len(hashes) != checkpoint.size or root_of(hashes) != checkpoint.root:
            faults.append(f"{log.portal}: the leaves kept here do not make its signed root")
        changed, same, open_ones = changed_events(logs.events(log.portal), logs.leaves(log.portal))
        faults += [f"changed: {event_id} of {log.portal}" for event_id in changed]
        matched, unchecked = matched + same, unchecked + open_ones
    files, missing, wrong = _verify_files(lab)
    return Verification(matched, unchecked + missing, files, (*faults, *wrong))


def _verify_files(lab: LabFile) -> tuple[int, int, list[str]]:
    """How many loaded files are unchanged, how many are gone, and which ones differ."""
    rows = lab.sql(
        "select distinct name, sha256 from sources where kind = 'file' order by name"
    ).fetchall()
    same, gone, wrong = 0, 0, []
    for name, sha256 in rows:
        path = Path(name.partition("!/")[0])
        if not path.is_file():
            gone += 1
        elif _sha256(path) == sha256:
            same += 1
        else:
            wrong.append(f"changed: the file {name}")
    return same, gone, wrong


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


def verify_database(lab: LabStore, url: str, key: LogKey) -> Verification:
    """Check the rows of a portal's database against the log beside them.

    Args:
        lab: an empty lab, to load the rows into.
        url: as for :meth:`Lab.load_database`.
        key: the log's key.

    Raises:
        SourceError: the database is missing, refuses the connection, or is not a portal's.
    """
    leaves, notes = lab.load_log(url)
    if not notes:
        return Verification()
    faults: list[str] = []
    size = 0
    for note in notes:
        try:
            checkpoint = open_checkpoint(note, key)
        except TamperError as error:
            faults.append(f"checkpoint: {error}")
            continue
        size = max(size, checkpoint.size)
        whole = checkpoint.size <= len(leaves)
        if (
            not whole
            or root_of(leaf.value for leaf in leaves[: checkpoint.size]) != checkpoint.root
        ):
            faults.append(
                f"checkpoint: the log of {checkpoint.size:,} events was changed or cut off"
            )
    lab.load_database(url, progress=False)
    places = {
        leaf.event_id: (place, leaf.value.hex())
        for place, leaf in enumerate(leaves)
        if leaf.event_id
    }
    ids = {str(row[0]) for row in lab.sql("select id::varchar from audit_events").fetchall()}
    changed, matched, unchecked = changed_events(
        (event for event in lab.all_events() if event.id in places), places
    )
    faults += [f"changed: {event_id}" for event_id in changed]
    faults += _missing(places, ids)
    rejected = lab.sql("select count(*) from rejects").fetchall()[0][0]
    faults += [f"unreadable: {counted(rejected, 'row')}"] if rejected else []
    late = len(ids - set(places))
    return Verification(matched, unchecked + late, 0, tuple(faults))


def _missing(places: dict[str, tuple[int, str]], ids: set[str]) -> Sequence[str]:
    """Logged events without a row, newer than one with a row: retention takes the oldest."""
    oldest = min((place for event_id, (place, _) in places.items() if event_id in ids), default=0)
    return [
        f"dropped: {event_id}"
        for event_id, (place, _) in places.items()
        if event_id not in ids and place > oldest
    ]
