"""Verifies an export that brings its proofs: events, then proofs, then the signed checkpoint."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcpaudit_lab.errors import RecordError, SourceError, TamperError
from mcpaudit_lab.lab.verification import Verification
from mcpaudit_lab.proof import LogKey, leaf_of, open_checkpoint, verify_inclusion
from mcpaudit_lab.record import Event, loads

__all__ = ["verify_export"]


class _Export:
    """What the lines of an export say."""

    def __init__(self) -> None:
        self.leaves: dict[str, bytes] = {}
        self.proofs: dict[str, tuple[int, list[bytes]]] = {}
        self.note = self.key = ""
        self.faults: list[str] = []

    def read(self, number: int, raw: bytes) -> None:
        """Take one line."""
        if raw.startswith(b'{"proof_of":'):
            row: Any = loads(raw)
            path = [bytes.fromhex(item) for item in row["path"]]
            self.proofs[row["proof_of"]] = int(row["index"]), path
        elif raw.startswith(b'{"checkpoint":'):
            row = loads(raw)
            self.note, self.key = str(row["checkpoint"]), str(row["log_key"])
        elif raw.strip():
            event = Event.from_json(raw)
            if event.id in self.leaves:
                self.faults.append(f"twice: {event.id}, line {number}")
            self.leaves[event.id] = leaf_of(event).value


def verify_export(path: Path, pinned: str | None) -> Verification:
    """Check an export that a portal wrote with ``proofs=true``.

    Args:
        path: the file; gzip is unpacked.
        pinned: the key that must have signed the log; None takes the key in the file.

    Raises:
        SourceError: the file cannot be read.
    """
    export = _Export()
    for number, raw in enumerate(_lines_of(path), 1):
        try:
            export.read(number, raw)
        except (RecordError, KeyError, TypeError, ValueError, RecursionError) as error:
            export.faults.append(f"unreadable: line {number}: {error}")
    leaves, faults = export.leaves, export.faults
    if not export.note:
        return Verification(unchecked=len(leaves), faults=tuple(faults))
    try:
        checkpoint = open_checkpoint(export.note, LogKey.parse(pinned or export.key))
    except TamperError as error:
        return Verification(faults=(*faults, f"checkpoint: {error}"), wrong=len(leaves))
    if pinned and pinned != export.key:
        faults.append("checkpoint: the file names another key")
    wrong = 0
    for event_id, (index, audit_path) in export.proofs.items():
        leaf = leaves.get(event_id)
        if leaf is None:
            faults.append(f"dropped: {event_id}")
        elif not verify_inclusion(leaf, index, checkpoint.size, audit_path, checkpoint.root):
            faults.append(f"changed: {event_id}")
            wrong += 1
    unproven = len(set(leaves) - set(export.proofs))
    matched = len(leaves) - unproven - wrong
    return Verification(matched, unproven, faults=tuple(faults), wrong=wrong)


def _lines_of(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as lines:
            yield from lines
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"cannot read {str(path)!r}: {error}") from error
