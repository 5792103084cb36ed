"""What a load did: counts that add up, per file and together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from mcpaudit_lab.record import counted, render_html, visible

__all__ = ["FileReport", "LoadReport"]


@dataclass(slots=True)
class FileReport:
    """The counts of one input.

    ``lines`` is always ``loaded + merged + duplicates + rejected + blank + other + parts``. A
    document counts each of its records as a line, a database or Parquet file each of its rows.

    Attributes:
        name: the path, or a placeholder for one.
        lines: lines read.
        loaded: events that are new.
        merged: payloads added to events that had none.
        duplicates: events that were there already, equal.
        rejected: lines in ``rejects``, conflicts included.
        blank: lines of white space.
        other: lines that are well formed and no tool call, such as a log's own.
        parts: lines that belong to a call already counted: its answer, its notifications.
        bytes: size of the input as it is stored.
        sha256: of those bytes, in hex.
        format: the format it was read as, such as ``mcpsnoop`` or ``docker>portal``.
        notes: further remarks, such as missing frames.
    """

    name: str
    lines: int = 0
    loaded: int = 0
    merged: int = 0
    duplicates: int = 0
    rejected: int = 0
    blank: int = 0
    other: int = 0
    parts: int = 0
    bytes: int = 0
    sha256: str = ""
    format: str = "portal"
    notes: tuple[str, ...] = ()


_TEXTS = ("name", "sha256", "format", "notes")
_COUNTS = tuple(f.name for f in fields(FileReport) if f.name not in _TEXTS)
# Shown only if not zero.
_RARE = ("other", "parts")


_NAME_MAX = 120
_SKIPPED_SHOWN = 20


def _end_of(name: str) -> str:
    """A name, so that one long path does not pad every line to its length."""
    return name if len(name) <= _NAME_MAX else f"…{name[-_NAME_MAX:]}"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of :meth:`Lab.load`. Prints as a table; iterating yields each :class:`FileReport`.

    Attributes:
        files: one report for each input, in the order they were read.
        seconds: how long the load took.
        reasons: how many lines were rejected for which reason.
        skipped: files of a folder or archive that are of no format, and were left out.
    """

    files: tuple[FileReport, ...]
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[FileReport]:
        return iter(self.files)

    def total(self, count: str) -> int:
        """The sum of one count over all files, such as ``total("loaded")``."""
        return sum(getattr(report, count) for report in self.files)

    @property
    def lines(self) -> int:
        """Lines read, all files together."""
        return self.total("lines")

    @property
    def loaded(self) -> int:
        """Events that are new."""
        return self.total("loaded")

    @property
    def merged(self) -> int:
        """Payloads added to events that had none."""
        return self.total("merged")

    @property
    def duplicates(self) -> int:
        """Events that were there already, equal."""
        return self.total("duplicates")

    @property
    def rejected(self) -> int:
        """Lines that are in ``rejects`` now."""
        return self.total("rejected")

    @property
    def blank(self) -> int:
        """Lines of white space."""
        return self.total("blank")

    @property
    def other(self) -> int:
        """Lines that are well formed and no tool call."""
        return self.total("other")

    @property
    def parts(self) -> int:
        """Lines that belong to a call that is counted already."""
        return self.total("parts")

    @property
    def shown_counts(self) -> tuple[str, ...]:
        """The names of the counts in a table; rare ones only if they are not zero."""
        return tuple(name for name in _COUNTS if name not in _RARE or self.total(name))

    def to_dict(self) -> dict[str, object]:
        """The report as JSON values."""
        return {
            **{name: self.total(name) for name in _COUNTS},
            "seconds": round(self.seconds, 3),
            "reasons": dict(self.reasons),
            "skipped": list(self.skipped),
            "files": [{f.name: getattr(r, f.name) for f in fields(r)} for r in self.files],
        }

    def _rows(self) -> list[list[str]]:
        """A heading, a row for each file, and the sums if there are several files."""
        counts = self.shown_counts
        rows = [
            ["file", *counts],
            *([_end_of(f.name), *(f"{getattr(f, name):,}" for name in counts)] for f in self.files),
        ]
        if len(self.files) != 1:
            rows.append(["together", *(f"{self.total(name):,}" for name in counts)])
        return rows

    def __str__(self) -> str:
        rows = [[visible(cell) for cell in row] for row in self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        if self.reasons:
            counts = (f"{count:,} {visible(reason)}" for reason, count in self.reasons.items())
            lines.append(f"rejected: {', '.join(counts)}")
        lines += self.remarks()
        return "\n".join(lines)

    def remarks(self) -> list[str]:
        """Remarks besides the counts, safe for a terminal."""
        said = [
            f"{visible(_end_of(f.name))}: {visible(note)}" for f in self.files for note in f.notes
        ]
        if self.skipped:
            names = ", ".join(visible(_end_of(name)) for name in self.skipped[:_SKIPPED_SHOWN])
            more = len(self.skipped) - _SKIPPED_SHOWN
            said.append(f"skipped, of no known format: {names}" + (f", {more:,} more" * (more > 0)))
        return said

    def _repr_html_(self) -> str:
        """The same as a table for a notebook. A file's name is data, and escaped."""
        return render_html("load_report", self)

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{self.total(name):,} {name}" for name in self.shown_counts if name != "bytes"
        )
        return f"LoadReport({counted(len(self.files), 'file')}: {counts})"
