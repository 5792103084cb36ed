"""Puts a case into a bundle: events, their lines, the ledger, proofs, findings, a report."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.bundle import BundleParts, Redactor, write_zip
from mcpaudit_lab.comparison import Comparison, compare
from mcpaudit_lab.errors import LabError, SourceError, TamperError
from mcpaudit_lab.proof import LogKey, LogSigner, leaf_of, open_checkpoint, tree_of
from mcpaudit_lab.record import counted, loads, render_html, visible
from mcpaudit_lab.storage import (
    DEFINITIONS_IN_FORCE,
    KnownLog,
    PortalLogs,
    event_ids_of_note,
    has_tool_lists,
    progress_bar,
    read_events,
    read_notes,
)
from mcpaudit_lab.storage.load import chained_rows, places_of, read_raws, write_events

if TYPE_CHECKING:
    from mcpaudit_lab.lab.event_set import EventSet
    from mcpaudit_lab.record import Event

__all__ = ["BundleReport", "CaseReport", "write_bundle"]

_TAKEN_OUT: Final = "values were taken out of an event in it"


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What a bundle contains. Prints as a few lines.

    Attributes:
        path: the zip file.
        events: number of events.
        proven: events whose place in a portal's log is proven.
        redacted: events that values were taken out of.
        raw_lines: lines that they came from.
        no_raw: why other lines are missing, with their number.
        findings: number of notes.
        comparisons: number of comparisons.
        key: the key that verifies the signature; None for a bundle that is not signed.
        manifest_sha256: what the signature covers, in hex.
    """

    path: Path
    events: int
    proven: int
    redacted: int
    raw_lines: int
    no_raw: Mapping[str, int]
    findings: int
    comparisons: int
    key: str | None
    manifest_sha256: str

    def __str__(self) -> str:
        told = ", ".join(
            (
                counted(self.raw_lines, "raw line"),
                counted(self.findings, "finding"),
                counted(self.comparisons, "comparison"),
            )
        )
        lines = [
            f"{self.path}: {counted(self.events, 'event')}, {self.proven:,} in a signed log",
            f"  {told}",
        ]
        if self.redacted:
            lines.append(f"  values were taken out of {counted(self.redacted, 'event')}")
        for why, count in self.no_raw.items():
            lines.append(f"  {counted(count, 'line')} missing: {visible(why)}")
        signed = f"signed by {self.key}" if self.key else "not signed"
        return "\n".join([*lines, f"  {signed}; manifest {self.manifest_sha256}"])


@dataclass(frozen=True, slots=True)
class CaseReport:
    """What the report of a bundle shows.

    Attributes:
        title: the case's name.
        chosen: which events, in words.
        count: number of events.
        proven: events whose place in a portal's log is proven.
        redacted: events that values were taken out of.
        events: the events, oldest first; can be iterated once.
        findings: notes, as ``findings.jsonl`` has them.
        comparisons: pairs of events.
        sources: the ledger's rows.
    """

    title: str
    chosen: str
    count: int
    proven: int
    redacted: int
    events: Iterator[Event]
    findings: Sequence[Mapping[str, Any]]
    comparisons: Sequence[Comparison]
    sources: Sequence[Mapping[str, Any]]


def write_bundle(
    events: EventSet,
    path: Path,
    *,
    title: str,
    texts: Sequence[str],
    comparisons: Sequence[Comparison],
    sign: Path | None,
    redact: Sequence[str],
    overwrite: bool,
    progress: bool | None,
) -> BundleReport:
    """Write the bundle of a set of events, as :meth:`Lab.bundle` describes it."""
    if path.suffix != ".zip":
        raise LabError(f"{path.name!r}: a bundle is a .zip file")
    if path.exists() and not overwrite:
        raise LabError(f"{str(path)!r} exists; pass overwrite=True to replace it")
    if redact and sign is None:
        raise LabError("redact needs sign: the salts of the commitments come from that key")
    signer = None if sign is None else LogSigner.from_file(sign)
    redactor = Redactor(redact, signer) if redact and signer is not None else None
    rows, params = events.rows()
    chosen = f"(select e.id from {rows})"
    cursor = events.cursor
    with (
        tempfile.TemporaryDirectory(prefix="mcpaudit-bundle-") as folder,
        progress_bar(progress, total=events.count(), unit="events", label="bundle") as advance,
    ):
        parts = BundleParts(Path(folder))
        findings = [*_findings(events, chosen, params), *({"text": text} for text in texts)]
        if redactor is None:
            target = parts.path("events.jsonl")
            count = int(
                write_events(cursor(), target, chosen, params, overwrite=False, advance=advance)
            )
        else:
            newest_first = read_events(cursor(), chosen, params)
            count = parts.write_lines("events.jsonl", _redacted(newest_first, redactor, advance))
            comparisons = [_compared(item, redactor) for item in comparisons]
            parts.write_rows("redactions.jsonl", redactor.rows)
        cut = redactor.redacted if redactor else set[str]()
        no_raw: dict[str, int] = {}
        raw_lines = parts.write_rows("raw.jsonl", _raw_lines(cursor(), chosen, params, cut, no_raw))
        sources = chained_rows(cursor())
        parts.write_rows("ledger.jsonl", sources)
        logs = PortalLogs(cursor()).known()
        covered: Counter[bool] = Counter()
        proofs = _counted(_proofs(events, logs, chosen, params), cut, covered)
        parts.write_rows("proofs.jsonl", proofs)
        proven = covered[True]
        parts.write_rows(
            "checkpoints.jsonl",
            ({"portal": log.portal, "key": log.key, "note": log.note} for log in logs),
        )
        parts.write_rows("tools.jsonl", _tools(events, chosen, params))
        parts.write_rows("comparisons.jsonl", (item.to_dict() for item in comparisons))
        parts.write_rows("findings.jsonl", findings)
        oldest_first = read_events(cursor(), chosen, params, order="order by ts, id")
        report = CaseReport(
            title=title,
            chosen=events.describe(),
            count=count,
            proven=proven,
            redacted=len(cut),
            events=map(redactor.apply, oldest_first) if redactor else oldest_first,
            findings=findings,
            comparisons=comparisons,
            sources=sources,
        )
        parts.write_text("report.html", render_html("case_report", report))
        digest = write_zip(
            path,
            parts,
            events=count,
            title=title,
            redacted=cut,
            redacted_paths=redact,
            signer=signer,
        )
    return BundleReport(
        path=path,
        events=count,
        proven=proven,
        redacted=len(cut),
        raw_lines=raw_lines,
        no_raw=no_raw,
        findings=len(findings),
        comparisons=len(comparisons),
        key=None if signer is None else str(signer.key),
        manifest_sha256=digest,
    )


def _findings(events: EventSet, chosen: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The notes about these events or about the lab, with the ids of their events."""
    for note in read_notes(events.cursor(), chosen, params):
        yield {**note.to_dict(), "events": event_ids_of_note(events.cursor(), note.id)}


def _redacted(
    events: Iterable[Event], redactor: Redactor, advance: Callable[[int], object]
) -> Iterator[str]:
    """The events as lines, without the values that are to be taken out."""
    for event in events:
        yield redactor.apply(event).to_json()
        advance(1)


def _compared(comparison: Comparison, redactor: Redactor) -> Comparison:
    """The comparison without the values that are taken out; as it is where none is."""
    left, right = redactor.apply(comparison.left), redactor.apply(comparison.right)
    if left is comparison.left and right is comparison.right:
        return comparison
    return compare(left, right)


def _counted(
    proofs: Iterable[dict[str, Any]], cut: set[str], covered: Counter[bool]
) -> Iterator[dict[str, Any]]:
    """The proofs, counted by whether they cover what is left of their event."""
    for row in proofs:
        covered[row["id"] not in cut] += 1
        yield row


def _raw_lines(
    cursor: Any, chosen: str, params: Mapping[str, Any], cut: set[str], no_raw: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """The lines of events, by source and place; counts those that cannot be read again."""
    rows = places_of(cursor, chosen, params)
    rows.sort(key=lambda row: (row["source_id"], row["line"], row["event_id"], row["part"]))
    # One line may hold several events: it goes with any of them.
    hidden = {_place(row) for row in rows if row["event_id"] in cut}
    for _, group in groupby(rows, key=lambda row: row["source_id"]):
        places = list(group)
        try:
            found = read_raws(places)
        except (SourceError, OSError) as error:
            found = [(None, str(error))] * len(places)
        for row, (raw, why) in zip(places, found, strict=True):
            if raw is None or _place(row) in hidden:
                reason = _TAKEN_OUT if _place(row) in hidden else why
                no_raw[reason] = no_raw.get(reason, 0) + 1
                continue
            told = {name: row[name] for name in ("event_id", "part", "source_id", "line")}
            told |= {"byte_offset": row["byte_offset"], "sha256": hashlib.sha256(raw).hexdigest()}
            try:
                yield {**told, "text": raw.decode()}
            except UnicodeDecodeError:
                yield {**told, "base64": base64.b64encode(raw).decode()}


def _place(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["source_id"], row["line"]


def _proofs(
    events: EventSet, logs: Iterable[KnownLog], chosen: str, params: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """For each event of a portal's log its place, and the path from its leaf to the signed root.

    Raises:
        TamperError: a log or an event is not what was signed: there is nothing to hand over.
    """
    proven: set[str] = set()
    for log in logs:
        known = PortalLogs(events.cursor())
        checkpoint = open_checkpoint(log.note, LogKey.parse(log.key))
        tree = tree_of(known.hashes(log.portal))
        if tree.root(checkpoint.size) != checkpoint.root:
            raise TamperError(f"{log.portal}: the leaves kept here do not make its signed root")
        leaves = known.leaves(log.portal)
        wrong: list[str] = []
        for event in read_events(events.cursor(), chosen, params, order="order by ts, id"):
            if event.id not in leaves or event.id in proven:
                continue
            place, value = leaves[event.id]
            if leaf_of(event).value.hex() != value:
                if event.payload is not None:
                    wrong.append(f"changed: {event.id}")
                continue
            proven.add(event.id)
            path = [item.hex() for item in tree.inclusion(place, checkpoint.size)]
            yield {"id": event.id, "portal": log.portal, "index": place, "path": path}
        if wrong:
            raise TamperError(f"the lab has other events than {log.portal} has logged", wrong)


def _tools(events: EventSet, chosen: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each definition that was in force at one of the calls, with the ids of these calls."""
    if not has_tool_lists(events.cursor()):
        return
    found = events.cursor().execute(
        "select d.name, d.sha256, any_value(d.definition),"
        " list(f.event_id::varchar order by f.event_id)"
        f" from ({DEFINITIONS_IN_FORCE}) f join audit_tool_definitions d using (sha256)"
        f" where f.event_id in {chosen} group by d.name, d.sha256 order by d.name, d.sha256",
        dict(params),
    )
    for name, sha256, definition, ids in found.fetchall():
        yield {
            "name": name,
            "sha256": sha256,
            "definition": loads(definition),
            "events": ids,
        }
