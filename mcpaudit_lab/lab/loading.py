"""Loading files: each block of lines is staged, merged and counted, all in one transaction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from mcpaudit_lab.errors import RecordError, RejectReason, SourceError
from mcpaudit_lab.lab.blocks import Block, cut_lines, read_blocks
from mcpaudit_lab.lab.database_rows import UnreadRow
from mcpaudit_lab.lab.documents import (
    HTTP_HEAD,
    cut_document,
    looks_like_document,
    skip_http_head,
)
from mcpaudit_lab.lab.inputs import Input, OpenInput, open_input
from mcpaudit_lab.lab.ledger import RowsHash, add_rejects, add_source, next_source_id
from mcpaudit_lab.lab.merging import insert_plain, merge_staged
from mcpaudit_lab.lab.parquet import PARQUET_MAGIC, read_parquet
from mcpaudit_lab.lab.report import FileReport
from mcpaudit_lab.lab.staging import Reject, stage_block, stage_carefully, stage_events

if TYPE_CHECKING:
    import duckdb

    from mcpaudit_lab.events import Event
    from mcpaudit_lab.lab.database import DatabaseSource

__all__ = ["Loader"]

# A saved answer of a portal is read whole; larger, it is taken for lines.
_DOCUMENT_BYTES = 512 << 20
_HEAD_BYTES = 4096
_BATCH_EVENTS = 1000
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Loader:
    """Loads inputs over one connection, inside its transaction.

    Args:
        connection: the connection.
        strict: raise on the first line that would be rejected.
        max_unpacked_bytes: how far a compressed file may unpack.
        advance: called with the number of bytes read.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        strict: bool,
        max_unpacked_bytes: int,
        advance: Callable[[int], object],
    ) -> None:
        self._connection = connection
        self._strict = strict
        self._max_unpacked_bytes = max_unpacked_bytes
        self._advance = advance
        self._source_id = next_source_id(connection)
        self.reasons: Counter[str] = Counter()

    def load(self, source: Input) -> FileReport:
        """Load one input to its end.

        Raises:
            SourceError: it cannot be read to its end.
            RecordError: a line is bad, and loading is strict.
        """
        report = FileReport(source.name)
        with open_input(
            source, max_unpacked_bytes=self._max_unpacked_bytes, advance=self._advance
        ) as opened:
            if opened.head.startswith(PARQUET_MAGIC):
                for rows in read_parquet(self._connection, opened):
                    report.lines += rows
                    self._merge(report, lambda line: f"row {line}".encode())
            else:
                for block in self._blocks(opened):
                    self._load_block(report, block)
            report.bytes, report.sha256 = opened.finish()
        kind = "file" if source.path else "stream"
        add_source(self._connection, self._source_id, kind, report)
        self._source_id += 1
        return report

    def load_database(self, source: DatabaseSource) -> FileReport:
        """Load what a portal's database gives.

        Raises:
            SourceError: the database fails.
        """
        with closing(source.batches()) as batches:
            return self._load_batches(batches, "database", source.name, source.request)

    def load_events(
        self, events: Iterable[Event], *, kind: str, name: str, request: str | None
    ) -> FileReport:
        """Load events that are there already, in the order they come."""
        return self._load_batches(_batches(events), kind, name, request)

    def load_lines(self, lines: bytes, *, kind: str, name: str, request: str | None) -> FileReport:
        """Load lines that are there already, the last one ending in LF, too."""
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

    def _blocks(self, opened: OpenInput) -> Iterator[Block]:
        head = opened.read(_HEAD_BYTES)
        if head.startswith(_UTF16):
            raise SourceError(f"{opened.source.name} is UTF-16; exports are UTF-8")
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
        self._reject(report, careful.rejects)
        self._merge(report, lambda line: block.line(line - block.first_line))

    def _merge(self, report: FileReport, raw_line: Callable[[int], bytes]) -> None:
        merged = merge_staged(self._connection, self._source_id, raw_line)
        report.loaded += merged.loaded
        report.merged += merged.merged
        report.duplicates += merged.duplicates
        self._reject(report, merged.rejects)

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
