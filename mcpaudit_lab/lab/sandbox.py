"""Untrusted SQL: a separate process, over a copy, with limits.

The statement runs in another process, in a DuckDB instance that was given a copy of some events and
then had its doors shut: no access to files, network, extensions or other databases, no Python
variables, configuration locked. The process has no environment, few open files, and is killed when
its time is up. See https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mcpaudit_lab.errors import SandboxError
from mcpaudit_lab.lab import sandbox_process
from mcpaudit_lab.lab.event_set import EventSet
from mcpaudit_lab.record import dumps
from mcpaudit_lab.storage import SqlResult, registered

if TYPE_CHECKING:
    from mcpaudit_lab.storage import LabFile

__all__ = ["Sandbox"]

# Time for starting Python and opening the copy, before the statement's own time starts.
_START_S = 20.0
_TABLES = ("audit_events", "audit_payloads")


class Sandbox:
    """A copy of some events for SQL that is not trusted. Made by :meth:`Lab.sandbox`.

    Use it in a ``with`` statement: the copy, a file readable by its owner, goes when it ends.

    Args:
        lab: the lab.
        events: which events the statements may see, or None for all.
        timeout_s: how long one statement may take, in seconds.
        memory_bytes: how much memory DuckDB may use for it; it spills nothing to disk.
        max_rows: how many rows are brought back; more are announced, not sent.
    """

    def __init__(
        self,
        lab: LabFile,
        events: EventSet | None,
        *,
        timeout_s: float,
        memory_bytes: int,
        max_rows: int,
    ) -> None:
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self.max_rows = max_rows
        self._folder = tempfile.TemporaryDirectory(prefix="mcpaudit-sandbox-")
        self._copy = Path(self._folder.name) / "copy.duckdb"
        try:
            _copy(lab, events, self._copy)
        except BaseException:
            self.close()
            raise

    def sql(self, text: str, params: Mapping[str, Any] | Iterable[Any] | None = None) -> SqlResult:
        """Run one statement that reads.

        Args:
            text: the statement; it sees ``audit_events`` and ``audit_payloads``.
            params: values to bind, as in :meth:`Lab.sql`: texts, numbers, booleans, None.

        Returns:
            Its rows. ``truncated`` says whether there were more than ``max_rows``.

        Raises:
            SandboxError: DuckDB refused it, or it ran into one of the bounds.
        """
        values = dict(params) if isinstance(params, Mapping) else list(params or ())
        order = {
            "path": str(self._copy),
            "memory_bytes": self.memory_bytes,
            "max_rows": self.max_rows,
            "timeout_s": self.timeout_s,
            "sql": text,
            "params": values,
        }
        answer, errors = _run(dumps(order).encode(), self._folder.name, self.timeout_s)
        return _read_answer(answer, errors)

    def close(self) -> None:
        """Remove the copy."""
        with contextlib.suppress(OSError):
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _copy(lab: LabFile, events: EventSet | None, path: Path) -> None:
    """Write the chosen events into a database of their own, away from the lab's ledger."""
    import duckdb

    chosen = EventSet(lab) if events is None else events
    cursor = chosen.cursor()
    rows, params = chosen.rows()
    ids = cursor.sql(f"select e.id from {rows}", params=params).to_arrow_table()
    with registered(cursor, "mcpaudit_chosen", ids), duckdb.connect(str(path)) as copy:
        for table, key in zip(_TABLES, ("id", "event_id"), strict=True):
            relation = cursor.sql(
                f"select t.* from {table} t semi join"
                f" (select id::uuid as id from mcpaudit_chosen) c on t.{key} = c.id"
            )
            with registered(copy, "mcpaudit_rows", relation.to_arrow_table()):
                described = cursor.sql(f"describe {table}").to_arrow_table().to_pylist()
                columns = ", ".join(
                    f'"{c["column_name"]}"::{c["column_type"]} as "{c["column_name"]}"'
                    for c in described
                )
                copy.execute(f"create table {table} as select {columns} from mcpaudit_rows")
    path.chmod(0o600)


def _run(order: bytes, folder: str, timeout_s: float) -> tuple[bytes, bytes]:
    program = Path(sandbox_process.__file__)
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
        # Isolated: no user site, no PYTHON variables, no current folder on the path.
        [sys.executable, "-I", str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={"PATH": os.defpath, "HOME": folder},
    )
    with process:
        try:
            return process.communicate(order, timeout=timeout_s + _START_S)
        except subprocess.TimeoutExpired:
            raise SandboxError(f"the statement took more than {timeout_s:g} s") from None
        finally:
            process.kill()
            process.wait()


def _read_answer(answer: bytes, errors: bytes) -> SqlResult:
    import pyarrow as pa

    kind, _, body = answer.partition(b"\n")
    if kind == b"error":
        raise SandboxError(body.decode("utf-8", "replace"))
    if kind not in (b"rows", b"some rows"):
        last = errors.decode("utf-8", "replace").strip().splitlines()
        raise SandboxError(f"the statement's process ended: {last[-1] if last else 'killed'}")
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        return SqlResult(reader.read_all(), truncated=kind == b"some rows")
