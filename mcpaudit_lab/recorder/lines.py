"""Recorded calls as JSON lines, appended to a file that several recorders may share.

Open calls are kept in a journal file of the recorder, which is emptied whenever no call is open.
After a recorder was killed, the next one that writes the same file appends the calls that were
open.
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

__all__ = ["LineCalls"]

# Rewrite the journal when it is larger than this; most of it is closed by then.
_MOST_BYTES: Final = 4 << 20
_OPEN_SUFFIX: Final = ".open"
# Enough of a line to find its id in.
_ID_BYTES: Final = 256


class LineCalls:
    """A file of JSON lines, each an event with its payload, as ``mcpaudit-lab load`` takes them.

    Args:
        path: of the file; made if it is not there, for this user alone.

    Raises:
        StoreUnavailable: it cannot be opened or made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._mutex = threading.Lock()
        self._open: dict[str, bytes] = {}
        with _translated():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = _open_append(self.path)
            self._recover()
            self._lock = RecorderLock(self.path)
            self._journal_path = self._journal_of(self._lock.name)
            self._journal = _open_append(self._journal_path)

    def open(self, events: Sequence[Event]) -> None:
        """Store calls that are about to be sent on.

        Raises:
            StoreUnavailable: they are not stored.
        """
        lines = {event.wire["id"]: _line(event) for event in events}
        with self._mutex, _translated():
            _append(self._journal, b"".join(lines.values()))
            self._open |= lines

    def complete(self, events: Sequence[Event]) -> None:
        """Store calls whole.

        Raises:
            StoreUnavailable: they are not stored.
        """
        with self._mutex, _translated():
            _append(self._file, b"".join(map(_line, events)))
            for event in events:
                self._open.pop(event.wire["id"], None)
            self._shrink()

    def _shrink(self) -> None:
        """Take closed calls out of the file of open ones, now and then."""
        if not self._open:
            self._journal.truncate(0)
            return
        if os.fstat(self._journal.fileno()).st_size > max(
            _MOST_BYTES, 2 * sum(map(len, self._open.values()))
        ):
            self._journal.truncate(0)
            _append(self._journal, b"".join(self._open.values()))

    def add_tools(self, found: ToolList) -> None:
        """A file of events has no place for a list of tools."""

    def close(self) -> None:
        """Turn the calls that are still open into events, and close the files.

        Raises:
            StoreUnavailable: it cannot be; the next recorder will.
        """
        with self._mutex:
            try:
                with _translated():
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
        """Append the open calls of recorders that live no more."""
        folder = self._journal_of("x").parent
        names = [path.stem for path in folder.glob(f"*{_OPEN_SUFFIX}")]
        for name, lock in ended_recorders(self.path, names):
            journal = self._journal_of(name)
            lines: dict[str, bytes] = {}
            for line in journal.read_bytes().splitlines(keepends=True):
                # The last one may be torn: then its call was not sent on.
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
    """Append whole lines, or nothing. A line that another recorder left torn is ended first."""
    with _exclusive(file):
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                data = b"\n" + data
        try:
            written = file.write(data)
            if written != len(data):
                raise OSError("the disk is full")  # noqa: TRY301 - cut off like any other failure
        except OSError:
            file.truncate(size)
            raise


@contextmanager
def _exclusive(file: io.FileIO) -> Iterator[None]:
    """One writer at a time, of all processes."""
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
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(str(error)) from None
