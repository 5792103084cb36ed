"""Loading other recorders' files and archives: stages and counts what a reader returns.

Plain exports do not come this way: DuckDB reads them.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, cast

from mcpaudit_lab.errors import SourceError, UnknownFormat
from mcpaudit_lab.formats import (
    Bad,
    Chosen,
    Found,
    Outcome,
    Tally,
    ToolDefinitionsSeen,
    choose,
    looks_like,
    read_lines,
    what_there_is,
)
from mcpaudit_lab.storage.load.blocks import HTTP_HEAD
from mcpaudit_lab.storage.load.inputs import Input, OpenInput
from mcpaudit_lab.storage.load.ledger import LinesOf, add_lines_of
from mcpaudit_lab.storage.load.staging import Reject, stage_events

if TYPE_CHECKING:
    import duckdb

    from mcpaudit_lab.storage.load.report import FileReport

__all__ = ["ZIP_MAGIC", "archive_members", "choose_reader", "load_outcomes", "read_sample"]

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
PORTAL = "portal"
_SAMPLE_BYTES = 64 << 10
_SAMPLE_MAX = 64 << 20
_BATCH = 1000
_MAX_MEMBERS = 100_000
_SPOOL_BYTES = 64 << 20
_OURS = (b'"timestamp"', b'"tool_name"', b'"duration_ms"', b'"events"')


class Merge(Protocol):
    """Moves staged rows into the tables and counts them.

    It is given how to find the raw bytes of a staged line, and the line's real number.
    """

    def __call__(
        self,
        report: FileReport,
        raw_line: Callable[[int], bytes],
        line_of: Callable[[int], int],
    ) -> None: ...


def read_sample(opened: OpenInput) -> tuple[bytes, bool]:
    """The beginning of an input, one line of it at least, and whether that is all of it."""
    sample, size = b"", _SAMPLE_BYTES
    while True:
        fresh = opened.read(size)
        sample += fresh
        if len(fresh) < size:
            return sample, True
        if b"\n" in sample or len(sample) >= _SAMPLE_MAX:
            return sample, False
        size = len(sample)


def choose_reader(sample: bytes, *, whole: bool, name: str, wanted: str | None) -> Chosen | None:
    """Choose how to read a file; None for plain lines of a portal.

    Args:
        sample: its beginning.
        whole: whether that is all of it.
        name: the file's, for the message.
        wanted: the format the user named, or None.

    Raises:
        UnknownFormat: it is of none.
        SourceError: an unknown format name.
    """
    chosen = choose(sample, whole=whole, name=wanted)
    if chosen is not None:
        return None if chosen.reader.name == PORTAL and not chosen.wrappings else chosen
    if not sample.strip(b" \t\r\n\xef\xbb\xbf") or sample.startswith(HTTP_HEAD):
        return None
    # A line may be torn, and a page of events has no timestamp at its top level.
    if any(mark in sample for mark in _OURS) and b"\x00" not in sample[:4096]:
        # Bad lines may precede the first good one.
        starts = (line.lstrip(b" \t\xef\xbb\xbf")[:1] for line in sample.split(b"\n"))
        if any(start in (b"{", b"[") for start in starts):
            return None
    formats = "; ".join(title for _, kind, title in what_there_is() if kind == "format")
    raise UnknownFormat(
        f"{name} is of no format that can be read: {looks_like(sample)}. Formats: {formats}. "
        "Any of them may be inside Docker, Kubernetes or journald logs, event streams, text "
        "sequences and ZIP archives, and be compressed. format= names the format."
    )


def load_outcomes(
    connection: duckdb.DuckDBPyConnection,
    source_id: int,
    report: FileReport,
    opened: OpenInput,
    *,
    chosen: Chosen,
    sample: bytes,
    merge: Merge,
    reject: Callable[[FileReport, list[Reject]], None],
    tools: Callable[[ToolDefinitionsSeen], object],
) -> None:
    """Stage what a reader returns, merge it, and count the rest.

    Args:
        connection: the connection that loads, inside its transaction.
        source_id: the source that the rows come from.
        report: receives the counts.
        opened: the input.
        chosen: how to read it.
        sample: the bytes already read from it.
        merge: moves the staged rows into the tables and counts them.
        reject: enters rejects and counts them.
        tools: hears of tool definitions.

    Raises:
        SourceError: it cannot be read to its end.
    """
    tally = Tally()
    report.format = chosen.name
    try:
        outcomes = chosen.read(read_lines(opened.read, sample, tally), tally)
        for batch in _batches(outcomes):
            bad = [outcome for outcome in batch if isinstance(outcome, Bad)] + tally.bad
            tally.bad = []
            _reject(report, bad, reject)
            for outcome in batch:
                if isinstance(outcome, ToolDefinitionsSeen):
                    tools(outcome)
            found = [outcome for outcome in batch if isinstance(outcome, Found)]
            if found:
                _stage(connection, source_id, report, found, merge)
    except SourceError as error:
        if opened.source.name in str(error):
            raise
        raise SourceError(f"{opened.source.name}: {error}") from None
    _reject(report, tally.bad, reject)
    report.lines, report.blank = tally.lines, tally.blank
    report.other, report.parts = tally.other, tally.parts
    report.notes = tuple(tally.notes)


def _batches(outcomes: Iterable[Outcome]) -> Iterator[list[Outcome]]:
    rest = iter(outcomes)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _reject(
    report: FileReport, bad: list[Bad], reject: Callable[[FileReport, list[Reject]], None]
) -> None:
    rejects = [
        Reject(one.place.line, one.place.offset, one.reason, one.detail, one.raw) for one in bad
    ]
    reject(report, rejects)


def _stage(
    connection: duckdb.DuckDBPyConnection,
    source_id: int,
    report: FileReport,
    found: list[Found],
    merge: Merge,
) -> None:
    # Staged rows are identified by their line: several events of one line get separate numbers.
    lines = [one.places[0].line for one in found]
    unique = len(set(lines)) == len(lines)
    keys = lines if unique else [-number for number in range(1, len(found) + 1)]
    by_key = dict(zip(keys, found, strict=True))
    rows = [
        (key, one.places[0].offset, one.places[0].size, one.event) for key, one in by_key.items()
    ]
    stage_events(connection, rows, replace=True)
    merge(
        report,
        lambda key: by_key[key].event.to_json().encode(),
        lambda key: by_key[key].places[0].line,
    )
    rows_of = [
        LinesOf(one.event.id, key, tuple((p.line, p.offset, p.size) for p in one.places))
        for key, one in by_key.items()
        if len(one.places) > 1 or not unique
    ]
    add_lines_of(connection, source_id, rows_of)


_DAMAGE = (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OSError, zlib.error)


class _Member:
    """A file in an archive, whose name is in the message about its damage."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name

    def read(self, limit: int) -> bytes:
        try:
            return self._file.read(limit)
        except _DAMAGE as error:
            raise SourceError(f"{self._name}: damaged or encrypted: {error}") from None


_BUNDLE: Final = {"events.jsonl", "manifest.json", "verify.py"}


def archive_members(
    opened: OpenInput, *, max_unpacked_bytes: int
) -> Iterator[tuple[Input, zipfile.ZipInfo]]:
    """The files in a ZIP archive, each open while the caller has it.

    Nothing is unpacked to disk, so that a name in the archive is a name and no path.

    Raises:
        SourceError: it is damaged or encrypted, or unpacks to too much.
    """
    name, path = opened.source.name, opened.source.path
    with _seekable(path, opened) as file, _archive(file, name) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        total = sum(info.file_size for info in infos)
        if len(infos) > _MAX_MEMBERS or total > max_unpacked_bytes:
            raise SourceError(
                f"{name} holds {len(infos):,} files of {total:,} bytes; if that is what it "
                "should hold, raise max_unpacked_bytes"
            )
        if {info.filename for info in infos} >= _BUNDLE:
            # The other parts of a bundle are about these events, and are no events themselves.
            infos = [info for info in infos if info.filename == "events.jsonl"]
        for info in infos:
            whole = f"{name}!/{info.filename}"
            try:
                member = archive.open(info)
            except _DAMAGE as error:
                raise SourceError(f"{whole}: damaged or encrypted: {error}") from None
            with member:
                # What a file says of its size is not exceeded: reading stops there.
                held = cast("IO[Any]", _Member(member, whole))
                yield Input(whole, file=held, optional=True), info


def _archive(file: IO[Any], name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except _DAMAGE as error:
        raise SourceError(f"{name}: damaged archive: {error}") from None


def _seekable(path: Path | None, opened: OpenInput) -> IO[Any]:
    if path is not None:
        return path.open("rb")
    # A ZIP has its list of files at the end.
    spool = SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - the caller closes it
    while data := opened.read(1 << 20):
        spool.write(data)
    spool.seek(0)
    return spool
