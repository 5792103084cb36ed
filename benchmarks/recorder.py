"""What a recorder costs: time for each call, calls a second, memory.

    python benchmarks/recorder.py [--calls 3000] [--soak 100000]

Each figure is measured without a recorder and with one, the two taking turns. The server is a
small one of the Python SDK; the time for each call is measured with a server that does nothing, so
that what the recorder adds is not lost in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

RECORD = [sys.executable, "-c", "from mcpaudit_lab.cli import main; main()", "record"]
BARE = r"""
import json, sys
for line in sys.stdin.buffer:
    message = json.loads(line)
    if message["method"] == "big":
        sys.stdout.write('{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"'
                         % message["id"])
        for _ in range(800):
            sys.stdout.write("x" * 65536)
        sys.stdout.write('"}]}}\n')
    else:
        result = {"content": [{"type": "text", "text": "hello"}], "isError": False}
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}))
        sys.stdout.write("\n")
    sys.stdout.flush()
"""
SDK = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("bench")

@server.tool()
def echo(message: str) -> str:
    return message

server.run("stdio")
"""


class Talk:
    """A client that writes lines to a command and reads its lines."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=sys.stderr)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.out, self.into = self.process.stdout, self.process.stdin
        self.next = 1

    def ask(self, method: str, **params: object) -> bytes:
        self.send(method, **params)
        return self.out.readline()

    def send(self, method: str, **params: object) -> None:
        message = {"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}
        self.next += 1
        self.into.write(json.dumps(message).encode() + b"\n")
        self.into.flush()

    def call(self) -> None:
        self.ask("tools/call", name="echo", arguments={"message": "hello"})

    def hello(self) -> None:
        info = {"name": "bench", "version": "1"}
        version = "2025-06-18"
        self.ask("initialize", protocolVersion=version, capabilities={}, clientInfo=info)
        self.into.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        self.into.flush()

    def close(self) -> None:
        self.into.close()
        self.process.wait()
        self.out.close()


def one_after_the_other(command: list[str], calls: int) -> list[float]:
    """Milliseconds of each call."""
    talk = Talk(command)
    for _ in range(100):
        talk.call()
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        talk.call()
        times.append((time.perf_counter() - started) * 1000)
    talk.close()
    return sorted(times)


def many_at_once(command: list[str], calls: int, window: int = 16) -> float:
    """Calls a second, so many of them on their way."""
    talk = Talk(command)
    talk.hello()
    talk.call()
    places = threading.Semaphore(window)

    def read() -> None:
        for _ in range(calls):
            talk.out.readline()
            places.release()

    reader = threading.Thread(target=read)
    started = time.perf_counter()
    reader.start()
    for _ in range(calls):
        places.acquire()
        talk.send("tools/call", name="echo", arguments={"message": "hello"})
    reader.join()
    took_s = time.perf_counter() - started
    talk.close()
    return calls / took_s


def one_client(command: list[str], calls: int) -> float:
    """Calls a second of one client that waits for each answer, with the SDK's server."""
    talk = Talk(command)
    talk.hello()
    talk.call()
    started = time.perf_counter()
    for _ in range(calls):
        talk.call()
    took_s = time.perf_counter() - started
    talk.close()
    return calls / took_s


def memory(command: list[str], calls: int) -> list[tuple[int, float]]:
    """Resident MiB after so many calls."""
    talk = Talk(command)
    seen = []
    process = psutil.Process(talk.process.pid)
    for number in range(1, calls + 1):
        talk.call()
        if number % max(1, calls // 10) == 0:
            seen.append((number, process.memory_info().rss / (1 << 20)))
    before = process.memory_info().rss / (1 << 20)
    started = time.perf_counter()
    size = len(talk.ask("big"))
    took_s = time.perf_counter() - started
    peak = process.memory_info().rss / (1 << 20)
    print(f"an answer of {size / (1 << 20):.0f} MiB: {took_s:.2f} s, {peak - before:+.1f} MiB held")
    talk.close()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=int, default=20_000)
    asked = parser.parse_args()
    bare, sdk = [sys.executable, "-c", BARE], [sys.executable, "-c", SDK]
    with tempfile.TemporaryDirectory() as folder:
        recorder = [*RECORD, "--database", str(Path(folder) / "calls.db"), "--"]
        added = []
        for _ in range(asked.rounds):
            without = one_after_the_other(bare, asked.calls)
            within = one_after_the_other([*recorder, *bare], asked.calls)
            half, most = len(within) // 2, int(len(within) * 0.99)
            added.append(within[half] - without[half])
            print(
                f"a call: {without[half]:.3f} ms without, {within[half]:.3f} ms with; "
                f"p99 {without[most]:.3f} and {within[most]:.3f} ms"
            )
        print(f"added time for each call, p50: {statistics.median(added):.3f} ms")
        for name, rate in (("16 calls on their way", many_at_once), ("one by one", one_client)):
            shares = []
            for _ in range(asked.rounds):
                without_s = rate(sdk, asked.calls)
                within_s = rate([*recorder, *sdk], asked.calls)
                shares.append(within_s / without_s)
                print(f"{name}: {without_s:.0f} calls/s without, {within_s:.0f} with")
            print(f"{name}: {statistics.median(shares):.2f} of the calls a second")
        for number, mib in memory([*recorder, *bare], asked.soak):
            print(f"after {number} calls: {mib:.1f} MiB")


if __name__ == "__main__":
    main()
