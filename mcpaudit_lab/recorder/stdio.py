"""Records the calls to a server over stdio.

The client starts the recorder in place of the server, and the recorder starts the server. Two
threads copy bytes between the file descriptors, one for each direction; the server inherits
standard error. The recorder ends with the server's exit status or signal.
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

from mcpaudit_lab.formats import Call
from mcpaudit_lab.record import dumps
from mcpaudit_lab.recorder.call_tracker import CallTracker
from mcpaudit_lab.recorder.call_writer import CallWriter, refusal
from mcpaudit_lab.recorder.decoders import LineDecoder, Piece

__all__ = ["StdioRecorder"]

_CHUNK: Final = 65_536
# A child of the server may outlive it and hold its output open: stop after this long in silence.
_QUIET_S: Final = 1.0
_SCOPE: Final = "stdio"
_FORWARDED_SIGNALS: Final = (
    *("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"),
    *("SIGUSR1", "SIGUSR2", "SIGBREAK"),
)


class StdioRecorder:
    """Runs one server and records its calls.

    Args:
        command: the server's program and arguments.
        tracker: turns messages into events.
        writer: stores the events.
        client_in: file descriptor that the client writes to.
        client_out: file descriptor that the client reads from.
        environment: the server's environment; None to inherit this process's.
    """

    def __init__(
        self,
        command: Sequence[str],
        tracker: CallTracker,
        writer: CallWriter,
        *,
        client_in: int = 0,
        client_out: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = list(command)
        self._tracker = tracker
        self._writer = writer
        self._client_in = client_in
        self._out = _ClientOutput(client_out)
        self._environment = environment
        # Guards the tracker and the writer, which both threads use.
        self._mutex = threading.Lock()

    def run(self) -> int:
        """Run the server until it exits. Runs in the main thread.

        Returns:
            The server's exit status; the negative signal number if a signal ended it.

        Raises:
            OSError: the server cannot be started.
        """
        server = subprocess.Popen(  # noqa: S603 - the user's own command
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
                daemon=True,  # it may block on a silent client
            ).start()
            responses = threading.Thread(
                target=self._forward_responses,
                args=(from_server, server.stdout.close),
                daemon=True,
            )
            responses.start()
            status = server.wait()
            moved = -1
            while responses.is_alive() and moved != self._out.written:
                moved = self._out.written
                responses.join(_QUIET_S)
        with self._mutex:
            self._writer.complete(self._tracker.finish())
        return status

    # --- from the client to the server ------------------------------------------------------------

    def _forward_requests(self, to_server: int, close: Callable[[], None]) -> None:
        decoder = LineDecoder()
        try:
            while chunk := os.read(self._client_in, _CHUNK):
                self._forward_to_server(to_server, decoder.feed(chunk))
            self._forward_to_server(to_server, decoder.end())
        except OSError:
            # The server closed its input: the rest of the client's input is dropped.
            pass
        finally:
            with contextlib.suppress(OSError):
                close()

    def _forward_to_server(self, to_server: int, pieces: list[Piece]) -> None:
        with self._mutex:
            opened: list[list[Call]] = [self._open(piece) for piece in pieces]
            calls = [call for found in opened for call in found]
            if not self._writer.open(list(map(self._tracker.pending_event, calls))):
                pieces = [
                    self._without_calls(piece, found) if found else piece
                    for piece, found in zip(pieces, opened, strict=True)
                ]
        _write_all(to_server, b"".join([piece.data for piece in pieces]))

    def _open(self, piece: Piece) -> list[Call]:
        calls = []
        for decoded in piece.messages:
            call, done = self._tracker.on_client_message(
                _SCOPE, decoded.message, sizes=decoded.sizes
            )
            # Cancelled calls: the notification is forwarded even if their events cannot be stored.
            self._writer.complete(done)
            if call is not None:
                calls.append(call)
        return calls

    def _without_calls(self, piece: Piece, calls: list[Call]) -> Piece:
        """The piece without its calls; the client gets an error for each."""
        for call in calls:
            self._tracker.discard(call)
            if call.jsonrpc_id is not None:
                self._out.insert(refusal(call.jsonrpc_id, answered=False) + b"\n")
        if not piece.whole:
            # A part was forwarded already: the newline keeps the server from reading a call.
            return Piece(b"\n")
        ids = [call.jsonrpc_id for call in calls]
        rest = [
            decoded.message
            for decoded in piece.messages
            if not (
                isinstance(decoded.message, dict)
                and decoded.message.get("method") == "tools/call"
                and decoded.message.get("id") in ids
            )
        ]
        return Piece(dumps(rest).encode() + b"\n" if rest else b"")

    # --- from the server to the client ------------------------------------------------------------

    def _forward_responses(self, from_server: int, close: Callable[[], None]) -> None:
        decoder = LineDecoder()
        try:
            while chunk := os.read(from_server, _CHUNK):
                self._forward_pieces(decoder.feed(chunk))
            self._forward_pieces(decoder.end())
        except OSError:
            # The client closed its end. Closing ours makes the server's next write fail.
            with contextlib.suppress(OSError):
                close()

    def _forward_pieces(self, pieces: list[Piece]) -> None:
        with self._mutex:
            done = [
                [
                    (decoded.message.get("id"), event)
                    for decoded in piece.messages
                    for event in self._tracker.on_server_message(
                        _SCOPE, decoded.message, sizes=decoded.sizes
                    )
                ]
                for piece in pieces
            ]
            events = [event for found in done for _, event in found]
            if not self._writer.complete(events):
                pieces = [
                    _with_errors(piece, [rpc_id for rpc_id, _ in found]) if found else piece
                    for piece, found in zip(pieces, done, strict=True)
                ]
        self._out.write(b"".join([piece.data for piece in pieces]))


def _with_errors(piece: Piece, ids: list[Any]) -> Piece:
    """The piece with errors in place of the responses that cannot be stored."""
    errors = [refusal(rpc_id, answered=True) for rpc_id in ids]
    if not piece.whole:
        # A part was forwarded already: the newline turns it into an invalid line.
        return Piece(b"\n" + b"".join(error + b"\n" for error in errors))
    if not piece.batch:
        return Piece(errors[0] + b"\n")
    rest = [
        dumps(decoded.message).encode()
        for decoded in piece.messages
        if not (isinstance(decoded.message, dict) and decoded.message.get("id") in ids)
    ]
    return Piece(b"[" + b",".join([*rest, *errors]) + b"]\n")


class _ClientOutput:
    """The client's input: the server's bytes, with the recorder's own lines between its lines."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mutex = threading.Lock()
        self._in_line = False
        self._waiting = b""
        self.written = 0

    def write(self, data: bytes) -> None:
        """Forward the server's output."""
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
        """Write a line of the recorder, after any line that the server has begun."""
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
    """Forward signals to the server while the block runs, except those a terminal sends to both."""

    def forward(number: int, _: object) -> None:
        if terminal and number in (signal.SIGINT, getattr(signal, "SIGQUIT", None)):
            return
        with contextlib.suppress(OSError, ValueError):
            server.send_signal(number)

    earlier: dict[int, Any] = {}
    for name in _FORWARDED_SIGNALS:
        number = getattr(signal, name, None)
        # Signals that the client ignores stay ignored; the server inherits that.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            earlier[number] = signal.signal(number, forward)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def end_as(status: int) -> int:
    """Return the server's exit status, or end this process by the signal that ended the server.

    Args:
        status: from :meth:`StdioRecorder.run`.
    """
    if status >= 0 or sys.platform == "win32":
        return status
    with contextlib.suppress(OSError, ValueError):
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    # The signal's default action is to do nothing.
    return 128 - status
