"""What a recorder costs: time for each call, calls a second, memory.

    python benchmarks/recorder.py [--calls 3000] [--soak 100000]

Each figure is measured without a recorder and with one, the two taking turns. Calls a second are
those of the Python SDK's client and server; the time for each call is measured with a server that
does nothing, so that what the recorder adds is not lost in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import mcp
import psutil
from mcp.client.stdio import StdioServerParameters

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
        """Send a request and read a line."""
        self.send(method, **params)
        return self.out.readline()

    def send(self, method: str, **params: object) -> None:
        """Send a request."""
        message = {"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}
        self.next += 1
        self.into.write(json.dumps(message).encode() + b"\n")
        self.into.flush()

    def call(self) -> None:
        """Call the tool."""
        self.ask("tools/call", name="echo", arguments={"message": "hello"})

    def close(self) -> None:
        """End the server."""
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


def client_rate(command: list[str], calls: int, at_once: int) -> tuple[float, float]:
    """Calls a second of the SDK's client, and CPU milliseconds of the command for each call."""

    async def talk() -> tuple[float, float]:
        environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
        parameters = StdioServerParameters(command=command[0], args=command[1:], env=environment)
        async with mcp.Client(parameters, mode="legacy") as client:
            process = psutil.Process().children()[0]

            async def work(share: int) -> None:
                for _ in range(share):
                    await client.call_tool("echo", {"message": "hello"})

            await work(20)
            cpu_s = sum(process.cpu_times()[:2])
            started = time.perf_counter()
            async with anyio.create_task_group() as group:
                for _ in range(at_once):
                    group.start_soon(work, calls // at_once)
            took_s = time.perf_counter() - started
            return calls / took_s, (sum(process.cpu_times()[:2]) - cpu_s) / calls * 1000

    return anyio.run(talk)


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
        for at_once in (1, 16):
            shares = []
            for _ in range(asked.rounds):
                without_s, _ = client_rate(sdk, asked.calls, at_once)
                within_s, cpu_ms = client_rate([*recorder, *sdk], asked.calls, at_once)
                shares.append(within_s / without_s)
                print(
                    f"{at_once} at once: {without_s:.0f} calls/s without, {within_s:.0f} with; "
                    f"CPU of the recorder {cpu_ms:.2f} ms a call"
                )
            print(f"{at_once} at once: {statistics.median(shares):.2f} of the calls a second")
        for number, mib in memory([*recorder, *bare], asked.soak):
            print(f"after {number} calls: {mib:.1f} MiB")


if __name__ == "__main__":
    main()
