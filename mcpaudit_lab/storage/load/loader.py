"""Loading files: each block of lines is staged, merged and counted, all in one transaction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from mcpaudit_lab.errors import RecordError, RejectReason, SourceError, UnknownFormat
from mcpaudit_lab.formats import time_text
from mcpaudit_lab.record import ToolListPages, parse_time_ns
from mcpaudit_lab.storage import add_tool_list
from mcpaudit_lab.storage.load.blocks import (
    HTTP_HEAD,
    Block,
    cut_document,
    cut_lines,
    looks_like_document,
    read_blocks,
    skip_http_head,
)
from mcpaudit_lab.storage.load.database_rows import UnreadRow
from mcpaudit_lab.storage.load.foreign import (
    ZIP_MAGIC,
    archive_members,
    choose_reader,
    load_outcomes,
    read_sample,
)
from mcpaudit_lab.storage.load.inputs import Input, OpenInput, open_input
from mcpaudit_lab.storage.load.ledger import (
    RowsHash,
    add_rejects,
    add_source,
    ensure_ledger,
    next_source_id,
    request_text,
)
from mcpaudit_lab.storage.load.merge import insert_plain, merge_staged
from mcpaudit_lab.storage.load.parquet import PARQUET_MAGIC, read_parquet
from mcpaudit_lab.storage.load.report import FileReport
from mcpaudit_lab.storage.load.staging import Reject, stage_block, stage_carefully, stage_events

if TYPE_CHECKING:
    import duckdb

    from mcpaudit_lab.formats import ToolDefinitionsSeen
    from mcpaudit_lab.record import Event
    from mcpaudit_lab.storage.load.database import DatabaseSource

__all__ = ["Loader"]

# A saved answer of a portal is read whole; larger, it is taken for lines.
_DOCUMENT_BYTES = 512 << 20
_BATCH_EVENTS = 1000
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Loader:
    """Loads inputs over one connection, inside its transaction.

    Args:
        connection: the connection.
        strict: raise on the first line that would be rejected.
        max_unpacked_bytes: how far a compressed file may unpack.
        advance: called with the number of bytes read.
        format_name: the format that the user named, or None.

    Attributes:
        reasons: how many lines were rejected for which reason.
        skipped: files of folders and archives that are of no format.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        strict: bool,
        max_unpacked_bytes: int,
        advance: Callable[[int], object],
        format_name: str | None = None,
    ) -> None:
        ensure_ledger(connection)
        self._connection = connection
        self._format_name = format_name
        self.skipped: list[str] = []
        self._pages = ToolListPages()
        self._strict = strict
        self._max_unpacked_bytes = max_unpacked_bytes
        self._advance = advance
        self._source_id = next_source_id(connection)
        self.reasons: Counter[str] = Counter()

    def load_all(self, sources: Sequence[Input]) -> list[FileReport]:
        """Load inputs one after the other; a ZIP archive yields a report for each file in it.

        Raises:
            UnknownFormat: an input is of no format; one found in a folder is left out instead,
                unless nothing else was found.
            SourceError: an input cannot be read to its end.
            RecordError: a line is bad, and loading is strict.
        """
        reports = [report for source in sources for report in self._load(source)]
        if sources and not reports and self.skipped:
            names = ", ".join(self.skipped[:5])
            raise UnknownFormat(f"no exports: none of these is of a format that is known: {names}")
        return reports

    def _load(self, source: Input) -> Iterator[FileReport]:
        with open_input(
            source, max_unpacked_bytes=self._max_unpacked_bytes, advance=self._advance
        ) as opened:
            if opened.head.startswith(ZIP_MAGIC):
                yield from self._load_archive(opened)
                return
            report = FileReport(source.name)
            try:
                self._load_opened(report, opened)
            except UnknownFormat:
                if not source.optional:
                    raise
                self.skipped.append(source.name)
                return
            report.bytes, report.sha256 = opened.finish()
        self._enter("file" if source.path else "stream", report)
        yield report

    def _enter(self, kind: str, report: FileReport, request: str | None = None) -> None:
        add_source(self._connection, self._source_id, kind, report, request)
        self._source_id += 1

    def _load_archive(self, opened: OpenInput) -> Iterator[FileReport]:
        """Load the files of an archive; each is a source, with the archive's SHA-256."""
        before = len(self.skipped)
        reports: list[tuple[FileReport, str]] = []
        members = archive_members(opened, max_unpacked_bytes=self._max_unpacked_bytes)
        for member, info in members:
            report = FileReport(member.name, bytes=info.compress_size)
            with open_input(
                member, max_unpacked_bytes=self._max_unpacked_bytes, advance=lambda _: None
            ) as inner:
                try:
                    self._load_opened(report, inner)
                except UnknownFormat:
                    self.skipped.append(member.name)
                    continue
            request = request_text(archive=opened.source.name, member=info.filename)
            reports.append((report, request))
            self._source_id += 1
        _, sha256 = opened.finish()
        if not reports and not opened.source.optional:
            skipped = ", ".join(self.skipped[before:][:5]) or "it is empty"
            raise UnknownFormat(f"{opened.source.name} holds no file of a known format: {skipped}")
        # Their numbers were given as they were read; the archive's hash is known only now.
        self._source_id -= len(reports)
        for report, request in reports:
            report.sha256 = sha256
            self._enter("archive" if opened.source.path else "stream", report, request)
            yield report

    def _load_opened(self, report: FileReport, opened: OpenInput) -> None:
        if opened.head.startswith(ZIP_MAGIC):
            raise UnknownFormat(f"{report.name} is an archive within an archive")
        if opened.head.startswith(PARQUET_MAGIC):
            for rows in read_parquet(self._connection, opened):
                report.lines += rows
                self._merge(report, lambda line: f"row {line}".encode())
            return
        sample, whole = read_sample(opened)
        if sample.startswith(_UTF16):
            raise SourceError(f"{opened.source.name} is UTF-16; exports are UTF-8")
        wanted = self._format_name
        chosen = choose_reader(sample, whole=whole, name=opened.source.name, wanted=wanted)
        if chosen is None:
            for block in self._blocks(opened, sample):
                self._load_block(report, block)
            return
        load_outcomes(
            self._connection,
            self._source_id,
            report,
            opened,
            chosen=chosen,
            sample=sample,
            merge=self._merge,
            reject=self._reject,
            tools=self._add_tools,
        )

    def _add_tools(self, seen: ToolDefinitionsSeen) -> None:
        info = seen.info.extra() if seen.info is not None else {}
        found = self._pages.add(
            (self._source_id, seen.session, seen.connection),
            str(info.get("server_name", "")),
            parse_time_ns(time_text(seen.at)) // 1000,
            seen.tools,
            first=seen.first,
            last=seen.last,
        )
        if found is not None:
            add_tool_list(self._connection, found)

    def load_database(self, source: DatabaseSource) -> FileReport:
        """Load the rows of a portal's database.

        Raises:
            SourceError: the database fails.
        """
        with closing(source.batches()) as batches:
            report = self._load_batches(batches, "database", source.name, source.request)
        for found in source.tool_lists():
            add_tool_list(self._connection, found)
        return report

    def load_events(
        self, events: Iterable[Event], *, kind: str, name: str, request: str | None
    ) -> FileReport:
        """Load given events, in their order."""
        return self._load_batches(_batches(events), kind, name, request)

    def load_lines(self, lines: bytes, *, kind: str, name: str, request: str | None) -> FileReport:
        """Load given lines; the last one ends in LF too."""
        report = FileReport(name, bytes=len(lines), sha256=hashlib.sha256(lines).hexdigest())
        self._load_block(report, cut_lines(lines))
        add_source(self._connection, self._source_id, kind, report, request)
        self._source_id += 1
        return report

    def _load_batches(
        self,
        batches: Iterable[Sequence[Event | UnreadRow]],
        kind: str,
        name: str,
        request: str | None,
    ) -> FileReport:
        report, rows = FileReport(name), RowsHash()
        for batch in batches:
            first = report.lines + 1
            rejects: list[Reject] = []
            named: list[tuple[int, None, None, Event]] = []
            for line, item in enumerate(batch, first):
                raw = item.raw if isinstance(item, UnreadRow) else item.to_json().encode()
                rows.update(raw)
                if isinstance(item, UnreadRow):
                    rejects.append(Reject(line, None, item.reason, item.detail, raw))
                elif item.wire.get("id"):
                    named.append((line, None, None, item))
                else:
                    # Frames of a stream may have no id.
                    rejects.append(Reject(line, None, RejectReason.NO_ID, "there is no id", raw))
            stage_events(self._connection, named, replace=True)
            report.lines += len(batch)
            self._reject(report, rejects)
            events = {line: event for line, _, _, event in named}
            self._merge(report, partial(_event_line, events))
            self._advance(len(batch))
        report.bytes, report.sha256 = rows.bytes, rows.hexdigest()
        add_source(self._connection, self._source_id, kind, report, request)
        self._source_id += 1
        return report

    def _blocks(self, opened: OpenInput, head: bytes) -> Iterator[Block]:
        if not (looks_like_document(head) or head.startswith(HTTP_HEAD)):
            yield from read_blocks(opened, head)
            return
        data = head + opened.read(_DOCUMENT_BYTES)
        start = skip_http_head(data)
        document = cut_document(data, start) if len(data) < _DOCUMENT_BYTES else None
        if document is not None:
            yield document
        else:
            yield from read_blocks(opened, data[start:], base=start)

    def _load_block(self, report: FileReport, block: Block) -> None:
        if b'"payload"' in block.data:
            others = stage_block(self._connection, block)
        else:
            loaded, others = insert_plain(self._connection, block, self._source_id)
            report.loaded += loaded
        careful = stage_carefully(self._connection, block, others)
        report.lines += block.count
        report.blank += careful.blank
        report.other += careful.other
        self._reject(report, careful.rejects)
        self._merge(report, lambda line: block.line(line - block.first_line))

    def _merge(
        self,
        report: FileReport,
        raw_line: Callable[[int], bytes],
        line_of: Callable[[int], int] = int,
    ) -> None:
        merged = merge_staged(self._connection, self._source_id, raw_line)
        report.loaded += merged.loaded
        report.merged += merged.merged
        report.duplicates += merged.duplicates
        self._reject(report, [replace(one, line=line_of(one.line)) for one in merged.rejects])

    def _reject(self, report: FileReport, rejects: list[Reject]) -> None:
        for reject in rejects if self._strict else ():
            place = f"{report.name}, line {reject.line}"
            raise RecordError(reject.reason, f"{place}: {reject.detail}")
        report.rejected += len(rejects)
        self.reasons.update(str(reject.reason) for reject in rejects)
        add_rejects(self._connection, self._source_id, report.name, rejects)


def _batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    rest = iter(events)
    while batch := list(islice(rest, _BATCH_EVENTS)):
        yield batch


def _event_line(events: Mapping[int, Event], line: int) -> bytes:
    """The JSON line of the event whose number is ``line``."""
    return events[line].to_json().encode()
