"""Rows that a portal lists again, compared with the rows that the lab has of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from mcpaudit_lab.storage import read_events, same_event
from mcpaudit_lab.storage.load import LabStore, changed_summaries

if TYPE_CHECKING:
    from mcpaudit_lab.portal.http import ListedLine

__all__ = ["ListedRows"]

_BATCH: Final = 20_000


class ListedRows:
    """Loads what a portal lists into a lab of its own, to compare it; a context manager.

    The ledger of the real lab keeps only what was new.

    Args:
        lab: the lab that the rows are compared with.
    """

    def __init__(self, lab: LabStore) -> None:
        self._lab = lab
        self._folder = tempfile.TemporaryDirectory(prefix="mcpaudit-pull-")
        self._path = Path(self._folder.name) / "listed.duckdb"
        self._listed = LabStore(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listed.close()
        self._folder.cleanup()

    def passing(self, rows: Iterable[ListedLine]) -> Iterator[ListedLine]:
        """The same rows, each kept for the comparison."""
        rest = iter(rows)
        while batch := list(islice(rest, _BATCH)):
            lines = b"\n".join([*(row.line for row in batch), b""])
            self._listed.add_lines(lines, kind="portal", name="listed")
            yield from batch

    def changed(self) -> list[str]:
        """Ids of events whose summary differs from the lab's."""
        self._listed.close()
        ids = {"ids": changed_summaries(self._lab.connection.cursor(), self._path)}
        self._listed = LabStore(self._path, read_only=True)
        table = "(select unnest($ids)::uuid id)"
        had, listed = (
            {event.id: event for event in read_events(store.connection.cursor(), table, ids)}
            for store in (self._lab, self._listed)
        )
        # Two spellings of one value are no change.
        return [key for key, event in listed.items() if not same_event(event, had[key])]
