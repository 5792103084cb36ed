"""Recorders in processes of their own, and servers for them to stand before."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mcpaudit_lab.filters.event_filter import EventFilter
from mcpaudit_lab.record import Event
from mcpaudit_lab.server import SqlLogger

__all__ = [
    "ECHO",
    "RECORD",
    "Running",
    "call_line",
    "record_command",
    "recorded",
    "running_recorder",
    "text_of",
]

RECORD = [sys.executable, "-c", "from mcpaudit_lab.cli import main; main()", "record"]

# A server of forty lines that speaks the protocol without any library, so that a test can say what
# is on the wire byte by byte.
ECHO = r"""
import json, os, signal, sys, time

def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

def answer(id, result):
    say(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}))

def one(message):
    method, id = message.get("method"), message.get("id")
    if method == "initialize":
        info = {"name": "bare", "version": "3"}
        answer(id, {"protocolVersion": "2025-06-18", "serverInfo": info})
    elif method == "tools/call":
        params = message["params"]
        name, arguments = params["name"], params.get("arguments", {})
        if name == "exit":
            os._exit(arguments["status"])
        if name == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "never":
            return
        if name == "fail":
            say(json.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": -1, "message": "no"}}))
            return
        if name == "progress":
            token = params["_meta"]["progressToken"]
            say(json.dumps({"jsonrpc": "2.0", "method": "notifications/progress",
                            "params": {"progressToken": token, "progress": 1}}))
        if name == "big":
            sys.stdout.write('{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"'
                             % json.dumps(id))
            for _ in range(arguments["mib"] * 16):
                sys.stdout.write("x" * 65536)
            say('"}]}}')
            return
        if name == "break":
            import sqlite3
            connection = sqlite3.connect(arguments["database"])
            connection.execute("alter table audit_open_calls rename to gone")
            connection.close()
        text = arguments.get("message", "")
        answer(id, {"content": [{"type": "text", "text": text}], "isError": name == "error"})
    elif method == "stderr":
        sys.stderr.write("on standard error\n")
        sys.stderr.flush()
        answer(id, {})

signal.signal(signal.SIGTERM, lambda *_: (say("told to end"), os._exit(5)))
for line in sys.stdin.buffer:
    try:
        message = json.loads(line)
    except ValueError:
        say("echo " + repr(line))
        continue
    for item in message if isinstance(message, list) else [message]:
        one(item)
say("end of input")
"""


def call_line(rpc_id: Any, name: str, /, **arguments: Any) -> bytes:
    """A ``tools/call`` as a line."""
    params = {"name": name, "arguments": arguments, "_meta": {"progressToken": f"t{rpc_id!r}"}}
    message = {"jsonrpc": "2.0", "id": rpc_id, "method": "tools/call", "params": params}
    return json.dumps(message).encode() + b"\n"


def record_command(*options: str | Path, server: Sequence[str] = ()) -> list[str]:
    """The command of a recorder before a server; by default the bare one."""
    return [*RECORD, *map(str, options), "--", *(server or [sys.executable, "-c", ECHO])]


class Running:
    """A recorder at work, with pipes to all three of its streams."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def send(self, *lines: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(lines))
        self.process.stdin.flush()

    def line(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def answer(self) -> Any:
        return json.loads(self.line())

    def end(self) -> tuple[int, bytes, bytes]:
        """End its input; gives exit status, the rest of its output, and standard error."""
        out, said = self.process.communicate()
        return self.process.returncode, out, said


@contextmanager
def running_recorder(*options: str | Path, server: Sequence[str] = ()) -> Iterator[Running]:
    """A recorder while the block runs."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        record_command(*options, server=server), stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def text_of(event: Event) -> str:
    """The text of an answer's first block."""
    assert event.payload is not None
    result: Any = event.payload.response_result
    return str(result["content"][0]["text"])


def recorded(database: Path) -> list[Event]:
    """What a portal on the database has, oldest first, with payloads."""
    with SqlLogger(f"sqlite:///{database}") as store:
        return store.query(EventFilter(), payloads=True)[::-1]
