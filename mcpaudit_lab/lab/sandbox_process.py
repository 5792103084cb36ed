"""The process in which untrusted SQL runs. Reads an order from stdin, writes an answer to stdout.

:mod:`mcpaudit_lab.lab.sandbox` starts it as a separate program, so it imports nothing of this
package.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any, cast

# Every door DuckDB has. The configuration is locked behind them.
_SHUT = {
    "enable_external_access": "false",
    "allow_community_extensions": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "max_temp_directory_size": "0B",
    "threads": "1",
}


# After a statement was told to end.
_GRACE_S = 0.5
# Whoever takes it writes the answer.
_answering = threading.Lock()


def _took_more(timeout_s: float) -> bytes:
    return f"error\nthe statement took more than {timeout_s:g} s".encode()


def _give_up(timeout_s: float) -> None:
    """Answer for a statement that does not end, and end the process."""
    if _answering.acquire(blocking=False):
        os.write(sys.stdout.fileno(), _took_more(timeout_s))
        os._exit(0)


def run(order: dict[str, Any]) -> bytes:
    """Run one statement; returns the answer's bytes: a word, a line feed, and rows or a message."""
    import duckdb
    import pyarrow as pa

    try:
        connection = duckdb.connect(order["path"], read_only=True)
        for name, value in _SHUT.items():
            connection.execute(f"set {name} = '{value}'")
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"set memory_limit = '{int(order['memory_bytes'])}B'")
        connection.execute("set lock_configuration = true")
        statements = connection.extract_statements(order["sql"])
        if len(statements) != 1:
            return b"error\none statement at a time"
        threading.Timer(order["timeout_s"], connection.interrupt).start()
        # DuckDB looks for an interrupt between its steps, and one of them may fill memory.
        threading.Timer(order["timeout_s"] + _GRACE_S, _give_up, (order["timeout_s"],)).start()
        given = connection.sql(order["sql"], params=order["params"] or None)
        # A statement without rows returns None, which DuckDB's type hints omit.
        relation = cast("duckdb.DuckDBPyRelation | None", given)
        if relation is None:
            return b"error\nthe statement gives no rows"
        limit = order["max_rows"]
        batches, count = [], 0
        reader = relation.to_arrow_reader(10_000)
        for batch in reader:
            batches.append(batch)
            count += batch.num_rows
            if count > limit:
                break
        table = pa.Table.from_batches(batches, reader.schema)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table.slice(0, limit))
        word = b"some rows\n" if count > limit else b"rows\n"
        rows: bytes = sink.getvalue().to_pybytes()
        return word + rows
    except duckdb.InterruptException:
        return _took_more(order["timeout_s"])
    except (duckdb.Error, pa.ArrowException) as error:
        return b"error\n" + str(error).encode("utf-8", "replace")


def _bound(order: dict[str, Any]) -> None:
    """Apply the limits that the operating system offers."""
    try:
        import resource
    except ImportError:
        return
    # Not one byte into any file; and processor time as a second clock.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    seconds = int(order["timeout_s"]) + 10
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


if __name__ == "__main__":
    given = json.loads(sys.stdin.buffer.read())
    _bound(given)
    answer = run(given)
    # Not released: if the watchdog has it, the process ends here.
    _answering.acquire()
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    # The timer of a statement that ended in time is still waiting.
    os._exit(0)
