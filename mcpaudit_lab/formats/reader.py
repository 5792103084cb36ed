"""What a reader is. Other packages bring one by the entry point group ``mcpaudit_lab.formats``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mcpaudit_lab.formats.lines import Line, Outcome, Tally

__all__ = ["Reader"]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one format.

    Attributes:
        name: as ``format=`` takes it, and as the events have it as ``source``.
        title: for people: the tool, and the kinds of files.
        read: yields an outcome for each record, and counts the rest.
        is_record: whether a parsed line is unmistakably a record; None if the format has no such
            lines.
        is_start: whether a cut-off text is unmistakably the start of a document; None if the format
            has no documents.
    """

    name: str
    title: str
    read: Callable[[Iterator[Line], Tally], Iterator[Outcome]]
    is_record: Callable[[Any], bool] | None = None
    is_start: Callable[[str], bool] | None = None
