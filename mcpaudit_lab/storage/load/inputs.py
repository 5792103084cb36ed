"""From what a caller names to a stream of bytes that is hashed, unpacked and watched for change."""

from __future__ import annotations

import glob
import hashlib
import io
import lzma
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, TypeAlias

from mcpaudit_lab.errors import NothingToLoad, SourceChanged, SourceError
from mcpaudit_lab.storage import progress_bar

__all__ = ["Input", "Inputs", "OpenInput", "bytes_bar", "find_inputs", "open_input"]

Inputs: TypeAlias = "str | os.PathLike[str] | IO[Any] | Iterable[str | os.PathLike[str] | IO[Any]]"

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
}
# An xz file says how much memory its reader needs; the largest preset needs 65 MiB.
_XZ_MEMORY = 256 << 20
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to load: a path, or an open file of the caller's.

    ``optional``: it was found in a folder or archive, and is skipped if its format is unknown.
    """

    name: str
    path: Path | None = None
    file: IO[Any] | None = None
    optional: bool = False


def find_inputs(inputs: Inputs) -> list[Input]:
    """Resolve the caller's inputs: paths, glob patterns, folders, open files, without duplicates.

    A folder yields the files in it and its subfolders, by name; their content decides whether they
    are loaded. Matches of a pattern are sorted.

    Raises:
        NothingToLoad: a pattern or folder without files.
        SourceError: for a path that does not exist.
    """
    if isinstance(inputs, str | os.PathLike) or hasattr(inputs, "read"):
        inputs = [inputs]  # type: ignore[list-item]  # narrowed by hasattr, which mypy does not see
    found: list[Input] = []
    seen: set[Path] = set()
    for item in inputs:
        if not isinstance(item, str | os.PathLike):
            if not hasattr(item, "read"):
                raise TypeError(f"a path or an open file is wanted, not {type(item).__name__}")
            name = getattr(item, "name", None)
            found.append(Input(name if isinstance(name, str) else "<stream>", file=item))
            continue
        for path in _expand(os.fspath(item)):
            resolved = path.resolve()
            if resolved not in seen:
                seen.add(resolved)
                optional = Path(os.fspath(item)).expanduser().is_dir()
                found.append(Input(str(path), path=path, optional=optional))
    return found


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        files = sorted(child for child in path.rglob("*") if child.is_file())
        if not files:
            raise NothingToLoad(f"no exports in the folder {text!r}: it has no files")
        return files
    if path.exists():
        return [path]
    if glob.has_magic(text):
        files = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        if files := [file for file in files if file.is_file()]:
            return files
        raise NothingToLoad(f"no file matches {text!r}")
    raise SourceError(f"no such file: {text!r}")


class _Hashing(io.RawIOBase):
    """A file wrapper that counts and hashes what is read, and reports progress."""

    def __init__(self, raw: Any, advance: Callable[[int], object]) -> None:
        super().__init__()
        self._raw = raw
        self._advance = advance
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        if hasattr(self._raw, "readinto"):
            count = self._raw.readinto(view) or 0
        else:
            data = self._raw.read(len(view))
            if isinstance(data, str):
                raise SourceError("open the file in binary mode: text has lost its exact bytes")
            count = len(data)
            view[:count] = data
        self.sha256.update(view[:count])
        self.bytes += count
        self._advance(count)
        return int(count)


class _Unpacking:
    """Reads bz2 and xz, several streams in a row too, within a bound of memory."""

    def __init__(self, raw: Any, compression: str) -> None:
        self._raw = raw
        self._xz = compression == "xz"
        self._unpacker: Any = self._make()

    def _make(self) -> Any:
        import bz2

        if self._xz:
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        return bz2.BZ2Decompressor()

    def read(self, limit: int) -> bytes:
        """At most ``limit`` bytes; none at the end.

        Raises:
            OSError: the data is damaged, or ends early; or an error of the library.
        """
        while True:
            if self._unpacker.eof:
                rest = self._unpacker.unused_data or self._raw.read(_READ_BYTES)
                # Streams of xz may be padded with zeros to a multiple of four bytes.
                rest = rest.lstrip(b"\x00") if self._xz else rest
                if not rest:
                    return b""
                self._unpacker = self._make()
            else:
                rest = self._raw.read(_READ_BYTES) if self._unpacker.needs_input else b""
                if not rest and self._unpacker.needs_input:
                    raise EOFError("it ends early")
            if data := self._unpacker.decompress(rest, limit):
                return bytes(data)


class OpenInput:
    """One open input: :meth:`readinto` returns unpacked bytes; the SHA-256 is of the stored ones.

    Attributes:
        head: the first bytes as they are stored, to tell the format by.
        compression: ``gzip``, ``zstd``, ``bz2``, ``xz`` or None, detected from the content.
    """

    def __init__(
        self, source: Input, *, max_unpacked_bytes: int, advance: Callable[[int], object]
    ) -> None:
        self.source = source
        self._max_unpacked_bytes = max_unpacked_bytes
        self._unpacked_bytes = 0
        self._own = source.file is None
        raw: Any = source.file if source.path is None else source.path.open("rb", buffering=0)
        if isinstance(raw, io.TextIOBase):
            raise SourceError("open the file in binary mode: text has lost its exact bytes")
        self._raw = raw
        self._before = self._state()
        self._hashing = _Hashing(raw, advance)
        buffered = io.BufferedReader(self._hashing, _READ_BYTES)
        self.head = buffered.peek(16)[:16]
        self.compression = next((c for m, c in _MAGIC.items() if self.head.startswith(m)), None)
        self._stream: Any = buffered
        if self.compression in ("bz2", "xz"):
            self._stream = _Unpacking(buffered, self.compression)
        elif self.compression:
            import pyarrow as pa

            self._stream = pa.CompressedInputStream(pa.PythonFile(buffered), self.compression)

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer`` with unpacked bytes; returns how many, 0 at the end.

        Raises:
            SourceError: the compressed data is damaged or ends early, or unpacks to too much.
        """
        done = 0
        while done < len(buffer):
            try:
                if self.compression:
                    data = self._stream.read(min(len(buffer) - done, _READ_BYTES))
                    count = len(data)
                    buffer[done : done + count] = data
                else:
                    count = self._stream.readinto(buffer[done:])
            except (OSError, EOFError, lzma.LZMAError) as error:
                if not self.compression:
                    raise
                raise SourceError(
                    f"{self.source.name}: damaged {self.compression}: {error}"
                ) from None
            if not count:
                break
            done += count
            self._unpacked_bytes += count
            if self.compression and self._unpacked_bytes > self._max_unpacked_bytes:
                raise SourceError(
                    f"{self.source.name} unpacks to more than {self._max_unpacked_bytes:,} bytes; "
                    "if that is what it should hold, raise max_unpacked_bytes"
                )
        return done

    def read(self, limit: int) -> bytes:
        """The next unpacked bytes, at most ``limit``; fewer only at the end."""
        buffer = bytearray()
        while len(buffer) < limit:
            piece = bytearray(min(_READ_BYTES, limit - len(buffer)))
            count = self.readinto(memoryview(piece))
            if not count:
                break
            buffer += piece[:count]
        return bytes(buffer)

    def bytes_left(self) -> int | None:
        """How many unpacked bytes are still to come, or None if unknown."""
        if self.compression or not self._before:
            return None
        return max(self._before[0] - self._unpacked_bytes, 0)

    def finish(self) -> tuple[int, str]:
        """Read the rest, check that nothing changed; returns size and SHA-256 as stored.

        Raises:
            SourceChanged: the file changed since it was opened.
        """
        rest = bytearray(_READ_BYTES)
        while self._hashing.readinto(rest):
            pass
        if self._state() != self._before or (
            self._before and self._hashing.bytes != self._before[0]
        ):
            raise SourceChanged(f"{self.source.name} changed while it was read; nothing was loaded")
        return self._hashing.bytes, self._hashing.sha256.hexdigest()

    def _state(self) -> tuple[int, ...]:
        if self.source.path is None:
            return ()
        try:
            now = self.source.path.stat()
        except FileNotFoundError:
            return (-1,)
        return now.st_size, now.st_mtime_ns, now.st_ino

    def close(self) -> None:
        """Close what this object opened; a file of the caller's stays open."""
        if self._own:
            self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_input(
    source: Input, *, max_unpacked_bytes: int, advance: Callable[[int], object]
) -> OpenInput:
    """Open one input.

    Args:
        source: what to open.
        max_unpacked_bytes: how far a compressed file may unpack.
        advance: called with the number of stored bytes read, for a progress bar.

    Raises:
        SourceError: it cannot be opened, or is open in text mode.
    """
    try:
        return OpenInput(source, max_unpacked_bytes=max_unpacked_bytes, advance=advance)
    except OSError as error:
        raise SourceError(f"{source.name}: {error.strerror or error}") from error


@contextmanager
def bytes_bar(sources: Iterable[Input], show: bool | None) -> Iterator[Callable[[int], object]]:
    """A bar over the bytes of some inputs, as they are stored."""
    paths = [source.path for source in sources]
    total = None if None in paths else sum(path.stat().st_size for path in paths if path)
    with progress_bar(show, total=total, unit="B", label="load") as advance:
        yield advance
