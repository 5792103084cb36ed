"""Detects the format of a file by its first lines, or takes the user's word; never guesses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from itertools import islice

from mcpaudit_lab.errors import RecordError, SourceError
from mcpaudit_lab.formats.lines import Line, Outcome, Place, Tally, read_lines
from mcpaudit_lab.formats.mcpproxy import MCPPROXY
from mcpaudit_lab.formats.mcpsnoop import MCPSNOOP
from mcpaudit_lab.formats.otlp import OTEL
from mcpaudit_lab.formats.portal import PORTAL
from mcpaudit_lab.formats.reader import Reader
from mcpaudit_lab.formats.vcr import VCR
from mcpaudit_lab.formats.wrappings import WRAPPINGS, Wrapping
from mcpaudit_lab.record import loads, visible

__all__ = ["Chosen", "choose", "looks_like", "readers", "text_within", "what_there_is"]

GROUP = "mcpaudit_lab.formats"
_BUILT_IN = (PORTAL, MCPSNOOP, MCPPROXY, VCR, OTEL)
_MAX_WRAPPINGS = 3
# How many lines of a log may come before the first record of a document, or hide a record.
_TRIED = 200
_SHOWN = 60


@cache
def readers() -> dict[str, Reader]:
    """All readers by name, built-in and from other packages.

    Raises:
        SourceError: another package's entry point is not a reader, or reuses a name.
    """
    found = {reader.name: reader for reader in _BUILT_IN}
    for entry in entry_points(group=GROUP):
        reader = entry.load()
        if not isinstance(reader, Reader):
            raise SourceError(f"the entry point {entry.name!r} of {GROUP} is no Reader")
        if reader.name in found:
            raise SourceError(f"two readers are named {reader.name!r}")
        found[reader.name] = reader
    return found


def what_there_is() -> list[tuple[str, str, str]]:
    """Name, kind and title of each format, and of each way to put it into a log or archive."""
    return [
        *((reader.name, "format", reader.title) for reader in readers().values()),
        *((wrapping.name, "around", wrapping.title) for wrapping in WRAPPINGS),
        *((name, "packed", title) for name, title in _PACKED.items()),
    ]


_PACKED = {
    "gzip": "files ending in .gz, detected by content",
    "zstd": "files ending in .zst",
    "bz2": "files ending in .bz2",
    "xz": "files ending in .xz",
    "zip": "ZIP archives, each file in them",
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """How to read a file.

    Attributes:
        wrappings: the log formats around its records, outermost first.
        reader: what reads them.
        document: whether the lines are one document together.
        skip: how many lines of a log come before that document.
    """

    wrappings: tuple[Wrapping, ...]
    reader: Reader
    document: bool
    skip: int = 0

    @property
    def name(self) -> str:
        """As in the ledger: ``docker>mcpsnoop``."""
        return ">".join([*(wrapping.name for wrapping in self.wrappings), self.reader.name])

    def read(self, lines: Iterable[Line], tally: Tally) -> Iterator[Outcome]:
        """Give the outcomes of the lines, and count the others."""
        tally.wrapped, tally.document = bool(self.wrappings), self.document
        for wrapping in self.wrappings:
            lines = wrapping.unwrap(lines, tally)
        inner = iter(lines)
        for line in islice(inner, self.skip):
            if line.text.strip():
                tally.other += 1
            else:
                tally.blank += 1
        return self.reader.read(inner, tally)


def text_within(name: str, raw: bytes) -> bytes | None:
    """The text within a line of a file that was read so; None where nothing is around it.

    Args:
        name: as :attr:`Chosen.name` has it.
        raw: the line.
    """
    around = {wrapping.name: wrapping for wrapping in WRAPPINGS}
    wrappings = [around[part] for part in name.split(">")[:-1] if part in around]
    if not wrappings:
        return None
    lines: Iterable[Line] = [Line(raw.removesuffix(b"\r"), (Place(1, 0, len(raw)),))]
    for wrapping in wrappings:
        lines = wrapping.unwrap(lines, Tally())
    return b"\n".join(line.text for line in lines)


def choose(sample: bytes, *, whole: bool, name: str | None = None) -> Chosen | None:
    """Tell a file's format by its beginning.

    Args:
        sample: its first bytes, some lines of it at least.
        whole: whether that is all of it.
        name: the format that the user named.

    Returns:
        How to read it; None for an unknown format.

    Raises:
        SourceError: the user named an unknown format.
    """
    if name is not None and name not in readers():
        raise SourceError(f"there is no format {name!r}; choose from {', '.join(readers())}")
    tally = Tally()
    lines = list(read_lines(lambda _: b"", sample, tally))
    if not whole and len(lines) > 1:
        # The last one may be cut off.
        del lines[-1]
    wrappings: list[Wrapping] = []
    while len(wrappings) < _MAX_WRAPPINGS:
        texts = [line.text for line in lines if line.text.strip()]
        around = next((one for one in WRAPPINGS if texts and one.matches(texts)), None)
        if around is None:
            break
        wrappings.append(around)
        lines = list(around.unwrap(lines, Tally()))
    texts = [line.text for line in lines]
    candidates = _BUILT_IN if name is None else (readers()[name],)
    found = _reader_of(texts, candidates, wrapped=bool(wrappings))
    if found is None and name is None:
        # Looking for other packages' readers costs more than all of the above.
        others = [reader for reader in readers().values() if reader not in _BUILT_IN]
        found = _reader_of(texts, others, wrapped=bool(wrappings))
    if found is not None:
        return Chosen(tuple(wrappings), *found)
    if name is None:
        # A log without a record in its first lines may still contain some: the user can name the
        # format.
        return None
    reader = readers()[name]
    return Chosen(tuple(wrappings), reader, reader.is_record is None)


def _reader_of(
    texts: list[bytes], candidates: Sequence[Reader], *, wrapped: bool
) -> tuple[Reader, bool, int] | None:
    """Reader, whether it is a document, and how many lines come before it."""
    shown = [number for number, text in enumerate(texts) if text.strip()]
    # In a file the first record decides; in a log, records are between other lines.
    for number in shown[: _TRIED if wrapped else 1]:
        try:
            value = loads(texts[number].strip())
        except RecordError:
            value = None
        if isinstance(value, dict):
            for reader in candidates:
                if reader.is_record is not None and reader.is_record(value):
                    return reader, False, 0
        text = b"\n".join(texts[number:]).decode("utf-8", "replace")
        for reader in candidates:
            if reader.is_start is not None and reader.is_start(text):
                return reader, True, number
    return None


def looks_like(sample: bytes) -> str:
    """A description of a file of unknown format, for a message."""
    for magic, what in _MAGIC.items():
        if sample.startswith(magic):
            return what
    text = sample[:4096]
    if b"\x00" in text:
        return "it looks like a binary file"
    first = next((line for line in text.split(b"\n") if line.strip()), b"").strip()
    shown = visible(first[:_SHOWN].decode("utf-8", "replace"))
    more = "…" if len(first) > _SHOWN else ""
    kind = "JSON" if first[:2] in (b"{", b'{"', b"[", b"[{") else "text"
    return f"it looks like {kind} that begins with {shown!r}{more}"


_MAGIC = {
    b"PK\x03\x04": "it is a ZIP archive",
    b"SQLite format 3\x00": "it is a SQLite database (load_database reads a portal's)",
    b"7z\xbc\xaf\x27\x1c": "it is a 7z archive",
    b"Rar!": "it is a RAR archive",
    b"%PDF": "it is a PDF",
    b"\x89PNG": "it is a picture",
    b"\x7fELF": "it is a program",
}
