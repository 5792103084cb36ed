"""What makes a lab evidence: where each event came from, what holds, the bundle to hand over."""

from __future__ import annotations

import os
import tempfile
import weakref
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

from mcpaudit_lab.comparison import Comparison
from mcpaudit_lab.errors import RecordError, SourceError, UnknownFormat
from mcpaudit_lab.formats import text_within
from mcpaudit_lab.lab.bundling import BundleReport, write_bundle
from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.lab.noting import NoteTarget, notes_frame, write_note
from mcpaudit_lab.lab.verification import Verification, verify_lab
from mcpaudit_lab.record import Note, loads, parse_id
from mcpaudit_lab.storage import read_notes, restore_notes
from mcpaudit_lab.storage.load import LabStore, Provenance, read_raws, sources_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evidence"]

_FINDINGS_BYTES: Final = 64 << 20


class Evidence(LabStore):
    """A lab's part that can be shown to somebody who trusts nobody here. See :class:`Lab`."""

    def provenance(self, event_id: str) -> list[Provenance]:
        """Where an event came from, and its payload, if that came separately.

        The raw line is read again from the file, after the whole file was checked against the
        SHA-256 it had when it was loaded.

        Args:
            event_id: the event's id.

        Returns:
            The event's own provenance, then its payload's if that came separately, then one for
            each further line.

        Raises:
            EventNotFound: no such event.
            SourceChanged: the file is no longer the one that was loaded.
            SourceError: the file cannot be read any more.
        """
        wanted = parse_id(event_id)
        rows, found = sources_of(self.connection.cursor(), wanted), []
        for row, (raw, note) in zip(rows, read_raws(rows), strict=True):
            del row["byte_size"], row["bytes"]
            within = None if raw is None or not row["format"] else text_within(row["format"], raw)
            found.append(Provenance(event_id=wanted, **row, raw=raw, note=note, within=within))
        return found

    def verify(self) -> Verification:
        """Check the lab against what is signed and hashed.

        Every event that a portal's log covers is compared with its leaf, the leaves with the
        signed checkpoint. Every file that was loaded is compared with its SHA-256 and loaded again
        into a lab of its own, to compare each row with its line. The ledger's chain is computed
        again. A lab without a log and a file says ``nothing to verify with``.
        """
        return verify_lab(self)

    def note(
        self,
        target: NoteTarget,
        text: str = "",
        *,
        tags: str | Sequence[str] = (),
        by: str | None = None,
        supersedes: Note | int | None = None,
    ) -> Note:
        """Write down what was found out. A note is never changed; a newer one can supersede it.

        A note about a set is about the events that are in it now.

        Args:
            target: an event or its id, a set, a comparison of two events of the lab, or None for
                the lab as a whole.
            text: any text. Empty, with ``supersedes`` and without tags: takes that note back.
            tags: a tag, or several; ``lab.events(tag=…)`` finds the events by them.
            by: who says so; None for this user's name.
            supersedes: the note that this one replaces.

        Raises:
            LabReadOnly: the lab is open read-only.
            EventNotFound: an event that the lab does not have.
            LabError: neither text nor tag, a tag with spaces around it, or a note that is unknown
                or was superseded already.
        """
        self.check_writable("a note is written into it")
        return write_note(self, target, text, tags=tags, by=by, supersedes=supersedes)

    def notes(self, *, history: bool = False) -> pd.DataFrame:
        """The notes, oldest first.

        Args:
            history: also those that were superseded or taken back.

        Returns:
            Columns ``id``, ``at`` (UTC), ``by``, ``text``, ``tags`` (a list), ``target`` (``lab``,
            ``event``, ``events``, ``comparison``), ``about`` (in words), ``count`` (of events),
            ``supersedes`` and ``superseded_by`` (ids).
        """
        found = read_notes(self.connection.cursor())
        kept = [n for n in found if history or not (n.superseded_by or n.is_retraction)]
        return notes_frame(kept)

    def bundle(
        self,
        path: str | os.PathLike[str],
        events: EventSet | None = None,
        *,
        notes: str | Iterable[str] = (),
        comparisons: Iterable[Comparison] = (),
        title: str = "",
        sign: str | os.PathLike[str] | None = None,
        redact: str | Iterable[str] = (),
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> BundleReport:
        """Write a case as one zip file that anybody can check with the ``verify.py`` in it.

        It has the events with their payloads, the lines that they came from, the ledger, proofs
        that portals' logs have them, the tool definitions in force, findings, and a report that
        opens in a browser. The same input gives the same bytes.

        Args:
            path: a ``.zip`` file. It appears whole or not at all, readable by its owner only.
            events: which events; None for all.
            notes: findings as texts, after the lab's own notes about these events or about the
                lab, superseded ones included.
            comparisons: pairs of events to include, as :meth:`compare` returns them.
            title: the case's name.
            sign: file of a private key that signs the bundle, made with mode 0600 if it does not
                exist; None for no signature. The report has the public key.
            redact: paths of values to take out, in the event's JSON, such as
                ``payload.request_params.arguments.token`` or ``**.token``; with everything below
                them. Each leaves a commitment whose salt comes from the key of ``sign``. Raw lines
                of these events are left out, and a log's proof no longer covers their content. A
                text is not searched, nor is a finding.
            overwrite: replace an existing file.
            progress: show a progress bar; None shows it in a terminal or notebook.

        Raises:
            LabError: another suffix, the file exists, or ``redact`` without ``sign``.
            FilterError: a path that is malformed, or names what an event cannot be without.
            TamperError: an event is not what a portal has logged.
            ValueError: ``sign`` is not a private key.
        """
        return write_bundle(
            EventSet(self) if events is None else events,
            Path(path),
            title=title,
            texts=[notes] if isinstance(notes, str) else list(notes),
            comparisons=list(comparisons),
            sign=None if sign is None else Path(sign),
            redact=[redact] if isinstance(redact, str) else list(redact),
            overwrite=overwrite,
            progress=progress,
        )

    @classmethod
    def open_bundle(cls, path: str | os.PathLike[str]) -> Self:
        """A read-only lab of a bundle's events and notes, in a temporary file that goes with it.

        The bundle is not verified: ``verify.py`` and ``mcpaudit-lab verify`` do that.

        Raises:
            SourceError: the file is missing or damaged.
            UnknownFormat: it is no bundle.
        """
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcpaudit-")))
            with cls(folder / "bundle.duckdb") as made:
                report = made.load(Path(path), progress=False)
            if [file.name.rpartition("!/")[2] for file in report] != ["events.jsonl"]:
                raise UnknownFormat(f"{os.fspath(path)!r} is no bundle")
            import duckdb

            with cls(folder / "bundle.duckdb") as made, made.writing() as connection:
                try:
                    restore_notes(connection, _findings_in(Path(path)))
                except (KeyError, TypeError, duckdb.Error, RecordError) as error:
                    told = f"{os.fspath(path)!r}: its findings cannot be read: {error}"
                    raise SourceError(told) from None
            lab = cls(folder / "bundle.duckdb", read_only=True)
            weakref.finalize(lab, stack.pop_all().close)
        return lab


def _findings_in(path: Path) -> list[dict[str, Any]]:
    """The findings of a bundle, which has no such file without one."""
    with zipfile.ZipFile(path) as bundle:
        if "findings.jsonl" not in bundle.namelist():
            return []
        if bundle.getinfo("findings.jsonl").file_size > _FINDINGS_BYTES:
            raise SourceError(f"{os.fspath(path)!r}: its findings are longer than 64 MiB")
        return [cast("dict[str, Any]", loads(line)) for line in bundle.open("findings.jsonl")]
