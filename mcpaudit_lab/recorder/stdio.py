"""A recorder between a client and a server on stdio.

The client starts the recorder in the server's place; the recorder starts the server. Two threads
hand bytes on, one for each direction, straight from and to the file descriptors; standard error is
the server's own. Whatever ends the server ends the recorder with the same status or signal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from mcpaudit_lab.record import dumps
from mcpaudit_lab.recorder.calls import CallTracker, OpenCall
from mcpaudit_lab.recorder.keeping import Keeper, refusal
from mcpaudit_lab.recorder.reading import LineReader, Piece

__all__ = ["StdioRecorder"]

_CHUNK: Final = 65_536
# A child process that outlives the server may keep its output open: read while bytes arrive.
_QUIET_S: Final = 1.0
_SCOPE: Final = "stdio"
_HANDED_ON: Final = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGBREAK")


class StdioRecorder:
    """Runs one server and records its calls.

    Args:
        command: the server's program and arguments.
        tracker: makes events of messages.
        keeper: stores them.
        client_in: the descriptor that the client writes to.
        client_out: the descriptor that the client reads from.
        environment: of the server; None for this process's own.
    """

    def __init__(
        self,
        command: Sequence[str],
        tracker: CallTracker,
        keeper: Keeper,
        *,
        client_in: int = 0,
        client_out: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = list(command)
        self._tracker = tracker
        self._keeper = keeper
        self._client_in = client_in
        self._out = _ClientOutput(client_out)
        self._environment = environment
        # Both threads change the open calls and write to the store.
        self._mutex = threading.Lock()

    def run(self) -> int:
        """Run the server to its end, in the main thread.

        Returns:
            Its exit status; the number of the signal that ended it, negative.

        Raises:
            OSError: it cannot be started.
        """
        server = subprocess.Popen(  # noqa: S603 - the command is what the user asked for
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=self._environment,
        )
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("the server has no pipes")
        self._tracker.about["process_id"] = server.pid
        to_server, from_server = server.stdin.fileno(), server.stdout.fileno()
        with _signals_to(server, terminal=os.isatty(self._client_in)):
            threading.Thread(
                target=self._forward_requests,
                args=(to_server, server.stdin.close),
                daemon=True,  # it may wait for a client that says nothing more
            ).start()
            answers = threading.Thread(
                target=self._forward_answers, args=(from_server, server.stdout.close), daemon=True
            )
            answers.start()
            status = server.wait()
            moved = -1
            while answers.is_alive() and moved != self._out.written:
                moved = self._out.written
                answers.join(_QUIET_S)
        with self._mutex:
            self._keeper.complete(self._tracker.finish())
        return status

    # --- from the client to the server ------------------------------------------------------------

    def _forward_requests(self, to_server: int, close: Callable[[], None]) -> None:
        reader = LineReader()
        try:
            while chunk := os.read(self._client_in, _CHUNK):
                self._send_on(to_server, reader.feed(chunk))
            self._send_on(to_server, reader.end())
        except OSError:
            # The server no longer reads; nobody receives what the client still sends.
            pass
        finally:
            with contextlib.suppress(OSError):
                close()

    def _send_on(self, to_server: int, pieces: list[Piece]) -> None:
        with self._mutex:
            opened: list[list[OpenCall]] = [self._open(piece) for piece in pieces]
            calls = [call for found in opened for call in found]
            if not self._keeper.open(list(map(self._tracker.unanswered, calls))):
                pieces = [
                    self._refused(piece, found) if found else piece
                    for piece, found in zip(pieces, opened, strict=True)
                ]
        _write_all(to_server, b"".join([piece.data for piece in pieces]))

    def _open(self, piece: Piece) -> list[OpenCall]:
        calls = []
        for read in piece.messages:
            call, done = self._tracker.from_client(_SCOPE, read.message, sizes=read.sizes)
            # A call that was cancelled: its event may come later than the notice of it.
            self._keeper.complete(done)
            if call is not None:
                calls.append(call)
        return calls

    def _refused(self, piece: Piece, calls: list[OpenCall]) -> Piece:
        """The piece without its calls, for which the client gets errors."""
        for call in calls:
            self._tracker.forget(call)
            if call.jsonrpc_id is not None:
                self._out.insert(refusal(call.jsonrpc_id, answered=False) + b"\n")
        if not piece.whole:
            # Its beginning has passed: what the server has of it must not become a call.
            return Piece(b"\n")
        ids = [call.jsonrpc_id for call in calls]
        rest = [
            read.message
            for read in piece.messages
            if not (
                isinstance(read.message, dict)
                and read.message.get("method") == "tools/call"
                and read.message.get("id") in ids
            )
        ]
        return Piece(dumps(rest).encode() + b"\n" if rest else b"")

    # --- from the server to the client ------------------------------------------------------------

    def _forward_answers(self, from_server: int, close: Callable[[], None]) -> None:
        reader = LineReader()
        try:
            while chunk := os.read(from_server, _CHUNK):
                self._hand_over(reader.feed(chunk))
            self._hand_over(reader.end())
        except OSError:
            # The client reads no more. Without a reader the server learns it when it writes.
            with contextlib.suppress(OSError):
                close()

    def _hand_over(self, pieces: list[Piece]) -> None:
        with self._mutex:
            done = [
                [
                    (read.message.get("id"), event)
                    for read in piece.messages
                    for event in self._tracker.from_server(_SCOPE, read.message, sizes=read.sizes)
                ]
                for piece in pieces
            ]
            events = [event for found in done for _, event in found]
            if not self._keeper.complete(events):
                pieces = [
                    _withheld(piece, [rpc_id for rpc_id, _ in found]) if found else piece
                    for piece, found in zip(pieces, done, strict=True)
                ]
        self._out.write(b"".join([piece.data for piece in pieces]))


def _withheld(piece: Piece, ids: list[Any]) -> Piece:
    """Replace responses that cannot be stored by errors; the rest of the piece is unchanged."""
    errors = [refusal(rpc_id, answered=True) for rpc_id in ids]
    if not piece.whole:
        # Its beginning has already passed; the newline makes it a line that is not a response.
        return Piece(b"\n" + b"".join(error + b"\n" for error in errors))
    if not piece.batch:
        return Piece(errors[0] + b"\n")
    rest = [
        dumps(read.message).encode()
        for read in piece.messages
        if not (isinstance(read.message, dict) and read.message.get("id") in ids)
    ]
    return Piece(b"[" + b",".join([*rest, *errors]) + b"]\n")


class _ClientOutput:
    """The client's input: the server's bytes, and our lines between two of its lines."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mutex = threading.Lock()
        self._in_line = False
        self._waiting = b""
        self.written = 0

    def write(self, data: bytes) -> None:
        """Hand on what the server wrote."""
        if not data:
            return
        with self._mutex:
            _write_all(self._descriptor, data)
            self.written += len(data)
            self._in_line = not data.endswith(b"\n")
            if self._waiting and not self._in_line:
                waiting, self._waiting = self._waiting, b""
                _write_all(self._descriptor, waiting)

    def insert(self, line: bytes) -> None:
        """Write a line of the recorder, now or after the line that the server is writing."""
        with self._mutex:
            if self._in_line:
                self._waiting += line
            else:
                _write_all(self._descriptor, line)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _signals_to(server: subprocess.Popen[bytes], *, terminal: bool) -> Iterator[None]:
    """Hand signals on while the block runs. A terminal sends its own to the server as well."""

    def hand_on(number: int, _: object) -> None:
        if terminal and number in (signal.SIGINT, getattr(signal, "SIGQUIT", None)):
            return
        with contextlib.suppress(OSError, ValueError):
            server.send_signal(number)

    earlier: dict[int, Any] = {}
    for name in _HANDED_ON:
        number = getattr(signal, name, None)
        # What the client had ignored stays ignored, by the server too.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            earlier[number] = signal.signal(number, hand_on)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def end_as(status: int) -> int:
    """End this process as the server ended: return its exit status, or die of the same signal."""
    if status >= 0 or sys.platform == "win32":
        return status
    with contextlib.suppress(OSError, ValueError):
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    # A signal whose default is to do nothing.
    return 128 - status
