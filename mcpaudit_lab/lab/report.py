"""What a load did: counts that add up, per file and together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from mcpaudit_lab.terminal import counted, visible

__all__ = ["FileReport", "LoadReport"]


@dataclass(slots=True)
class FileReport:
    """The counts of one input.

    ``lines`` is always ``loaded + merged + duplicates + rejected + blank``. A saved page of events
    counts each of its events as a line, a database or Parquet file each of its rows.

    Attributes:
        name: the path, or what stands for one.
        lines: lines read.
        loaded: events that are new.
        merged: payloads added to events that had none.
        duplicates: events that were there already, equal.
        rejected: lines in ``rejects``, conflicts included.
        blank: lines of white space.
        bytes: size of the input as it is stored.
        sha256: of those bytes, in hex.
    """

    name: str
    lines: int = 0
    loaded: int = 0
    merged: int = 0
    duplicates: int = 0
    rejected: int = 0
    blank: int = 0
    bytes: int = 0
    sha256: str = ""


_COUNTS = tuple(f.name for f in fields(FileReport) if f.name not in ("name", "sha256"))


_NAME_MAX = 120


def _end_of(name: str) -> str:
    """A name, so that one long path does not pad every line to its length."""
    return name if len(name) <= _NAME_MAX else f"…{name[-_NAME_MAX:]}"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What :meth:`Lab.load` did. Prints as a table; iterating gives a :class:`FileReport` each.

    Attributes:
        files: one report for each input, in the order they were read.
        seconds: how long the load took.
        reasons: how many lines were rejected for which reason.
    """

    files: tuple[FileReport, ...]
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)

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

    def to_dict(self) -> dict[str, object]:
        """The report as JSON values."""
        return {
            **{name: self.total(name) for name in _COUNTS},
            "seconds": round(self.seconds, 3),
            "reasons": dict(self.reasons),
            "files": [{f.name: getattr(r, f.name) for f in fields(r)} for r in self.files],
        }

    def _rows(self) -> list[list[str]]:
        """A heading, a row for each file, and the sums where there are several."""
        rows = [
            ["file", *_COUNTS],
            *(
                [_end_of(f.name), *(f"{getattr(f, name):,}" for name in _COUNTS)]
                for f in self.files
            ),
        ]
        if len(self.files) != 1:
            rows.append(["together", *(f"{self.total(name):,}" for name in _COUNTS)])
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
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The same as a table for a notebook. A file's name is data, and escaped."""
        from mcpaudit_lab.widgets.event_set_view import load_report_html

        return load_report_html(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.total(name):,} {name}" for name in _COUNTS if name != "bytes")
        return f"LoadReport({counted(len(self.files), 'file')}: {counts})"
