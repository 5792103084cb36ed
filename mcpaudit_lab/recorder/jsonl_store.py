"""Stores recorded calls as JSON lines in a file that several recorders may append to.

Each recorder keeps its open calls in a journal file beside it, which it truncates when no call is
open. If a recorder is killed, the next recorder of the same file appends the open calls.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mcpaudit_lab.errors import RecordError, StoreUnavailable
from mcpaudit_lab.record import Event, ToolList, dumps
from mcpaudit_lab.tables import RecorderLock, ended_recorders, forget_recorder

__all__ = ["JsonlCallStore"]

# Compact the journal above this size, if more than half of it is closed calls.
_MAX_JOURNAL_BYTES: Final = 4 << 20
_OPEN_SUFFIX: Final = ".open"
# The prefix of a line that contains its id.
_ID_BYTES: Final = 256


class JsonlCallStore:
    """A :class:`.recorder.stores.CallStore` in a file of JSON lines.

    Each line is an event with its payload, in the format that ``mcpaudit-lab load`` reads.

    Args:
        path: the file; created if missing, readable by this user only.

    Raises:
        StoreUnavailable: the file cannot be opened or created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._mutex = threading.Lock()
        self._open: dict[str, bytes] = {}
        with _translate_errors():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = _open_append(self.path)
            self._recover()
            self._lock = RecorderLock(self.path)
            self._journal_path = self._journal_of(self._lock.name)
            self._journal = _open_append(self._journal_path)

    def open(self, events: Sequence[Event]) -> None:
        """Store calls before they are forwarded.

        Raises:
            StoreUnavailable: nothing was stored.
        """
        lines = {event.wire["id"]: _line(event) for event in events}
        with self._mutex, _translate_errors():
            _append(self._journal, b"".join(lines.values()))
            self._open |= lines

    def complete(self, events: Sequence[Event]) -> None:
        """Store completed calls.

        Raises:
            StoreUnavailable: nothing was stored.
        """
        with self._mutex, _translate_errors():
            _append(self._file, b"".join(map(_line, events)))
            for event in events:
                self._open.pop(event.wire["id"], None)
            self._compact()

    def _compact(self) -> None:
        """Remove closed calls from the journal, if that is worth a write."""
        if not self._open:
            self._journal.truncate(0)
            return
        if os.fstat(self._journal.fileno()).st_size > max(
            _MAX_JOURNAL_BYTES, 2 * sum(map(len, self._open.values()))
        ):
            self._journal.truncate(0)
            _append(self._journal, b"".join(self._open.values()))

    def add_tools(self, found: ToolList) -> None:
        """A file of events has no place for a list of tools."""

    def close(self) -> None:
        """Append the open calls as events without a response, and close the files.

        Raises:
            StoreUnavailable: the open calls were not appended; the next recorder appends them.
        """
        with self._mutex:
            try:
                with _translate_errors():
                    if self._open:
                        _append(self._file, b"".join(self._open.values()))
                    self._journal.close()
                    self._journal_path.unlink()
            finally:
                self._journal.close()
                self._file.close()
                self._lock.release()

    def _journal_of(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}-recorders") / f"{name}{_OPEN_SUFFIX}"

    def _recover(self) -> None:
        """Append the open calls of recorders that no longer run."""
        folder = self._journal_of("x").parent
        names = [path.stem for path in folder.glob(f"*{_OPEN_SUFFIX}")]
        for name, lock in ended_recorders(self.path, names):
            journal = self._journal_of(name)
            lines: dict[str, bytes] = {}
            for line in journal.read_bytes().splitlines(keepends=True):
                # A torn last line is of a call that was not forwarded.
                with suppress(RecordError):
                    lines[Event.from_json(line).id] = line
            if lines:
                with self.path.open("rb") as written:
                    for line in written:
                        for event_id in [i for i in lines if i.encode() in line[:_ID_BYTES]]:
                            del lines[event_id]
                _append(self._file, b"".join(lines.values()))
            journal.unlink()
            forget_recorder(self.path, name, lock)


def _line(event: Event) -> bytes:
    return dumps(event.wire).encode() + b"\n"


def _open_append(path: Path) -> io.FileIO:
    return io.FileIO(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "a+")


def _append(file: io.FileIO, data: bytes) -> None:
    """Append all of ``data`` or nothing. Terminates a torn line of another recorder first."""
    with _exclusive(file):
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                data = b"\n" + data
        try:
            written = file.write(data)
            if written != len(data):
                raise OSError("the disk is full")  # noqa: TRY301 - undone like any other failed write
        except OSError:
            file.truncate(size)
            raise


@contextmanager
def _exclusive(file: io.FileIO) -> Iterator[None]:
    """Hold the file's lock, which excludes writers in other processes too."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    fcntl.flock(file.fileno(), fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(str(error)) from None
