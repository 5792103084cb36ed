"""Compares a lab with the files that it was loaded from: their SHA-256, then row by row."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mcpaudit_lab.formats import readers
from mcpaudit_lab.record import EVENT_FIELDS, PAYLOAD_FIELDS
from mcpaudit_lab.storage import PLACE_COLUMNS
from mcpaudit_lab.storage.load.lab_store import LabStore

if TYPE_CHECKING:
    import duckdb

__all__ = ["FilesCheck", "RowsCheck", "changed_summaries", "check_files", "compare_with_files"]

_ALIAS: Final = "mcpaudit_again"


@dataclass(frozen=True, slots=True)
class FilesCheck:
    """The files that a lab was loaded from, as they are now.

    Attributes:
        same: path to format of files that are byte for byte what was loaded, in order of loading;
            empty for a portal's, and for archives, whose files may be of several.
        changed: paths of files that differ.
        gone: number of files that are no longer there, or of which the lab also holds an earlier
            version.
        sources: ids of the ledger's sources that are the same files as they are now.
        versions: ids of these and of the sources that are earlier versions of the same files.
    """

    same: Mapping[str, str]
    changed: tuple[str, ...]
    gone: int
    sources: tuple[int, ...]
    versions: tuple[int, ...]


class RowsCheck(NamedTuple):
    """Event ids: equal to their file, different, missing from the lab, missing from the file."""

    matched: list[str]
    changed: list[str]
    dropped: list[str]
    inserted: list[str]


def check_files(cursor: duckdb.DuckDBPyConnection) -> FilesCheck:
    """Hash every file that was loaded and compare it with the ledger."""
    rows = cursor.execute(
        "select name, request, kind, sha256, coalesce(format, ''), id from sources"
        " where kind in ('file', 'archive') order by id"
    ).fetchall()
    known: dict[str, list[tuple[str, str, int]]] = {}
    for name, request, kind, sha256, format_name, source_id in rows:
        path = name if kind == "file" else _archive_of(request)
        told = format_name if kind == "file" else ""
        known.setdefault(path, []).append((sha256, told, source_id))
    same: dict[str, str] = {}
    changed, gone, sources, all_versions = [], 0, list[int](), list[int]()
    for path, versions in known.items():
        if not Path(path).is_file():
            gone += 1
            continue
        now = _sha256(Path(path))
        current = [source_id for sha256, _, source_id in versions if sha256 == now]
        if now == versions[-1][0]:
            same[path] = versions[-1][1]
            gone += len(current) < len(versions)
            sources += current
            all_versions += [source_id for *_, source_id in versions]
        else:
            changed.append(path)
    return FilesCheck(same, tuple(changed), gone, tuple(sources), tuple(all_versions))


def _archive_of(request: str) -> str:
    """The path of the archive that a request names; of a damaged request, the text itself."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(request)["archive"])
    return str(request)


def compare_with_files(cursor: duckdb.DuckDBPyConnection, files: FilesCheck) -> RowsCheck:
    """Load files once more, into a lab of their own, and compare the rows that came from them.

    Args:
        cursor: of the lab.
        files: what :func:`check_files` returned.
    """
    with tempfile.TemporaryDirectory(prefix="mcpaudit-verify-") as folder:
        path = Path(folder) / "again.duckdb"
        with LabStore(path) as again:
            for name, format_name in files.same.items():
                # The format that it had, which somebody may have named. A ledger that was changed
                # may tell one that does not exist. There is no limit: it was unpacked before.
                told = format_name.rpartition(">")[2]
                again.load(
                    name,
                    format=told if told in readers() else None,
                    progress=False,
                    max_unpacked_bytes=2**63,
                )
        with _attached(cursor, path):
            return _compare_rows(cursor, files)


def changed_summaries(cursor: duckdb.DuckDBPyConnection, other: Path) -> list[str]:
    """Ids of events whose columns differ between a lab and the file of another, which is closed."""
    columns = [*(field.column for field in EVENT_FIELDS), "extra"]
    with _attached(cursor, other):
        rows = cursor.execute(
            f"select e.id::varchar from audit_events e join {_ALIAS}.audit_events a using (id)"
            f" where not ({_same('e', 'a', columns)})"
        ).fetchall()
    return [event_id for (event_id,) in rows]


@contextlib.contextmanager
def _attached(cursor: duckdb.DuckDBPyConnection, path: Path) -> Iterator[None]:
    """The file of another lab, under the alias of the comparisons here."""
    quoted = str(path).replace("'", "''")
    cursor.execute(f"attach '{quoted}' as {_ALIAS} (read_only)")
    try:
        yield
    finally:
        cursor.execute(f"detach {_ALIAS}")


def _compare_rows(cursor: duckdb.DuckDBPyConnection, files: FilesCheck) -> RowsCheck:
    from_files = "(select unnest($versions))"
    equal = _same("e", "a", [*(field.column for field in EVENT_FIELDS), "extra"])
    payload_equal = _same("p", "q", [*(field.column for field in PAYLOAD_FIELDS), "extra"])
    # A row of an earlier version of its file may have stood elsewhere.
    places = [name for name in PLACE_COLUMNS if name != "source_id"]
    current = "source_id in (select unnest($sources))"
    equal += f" and (e.{current} is not true or {_same('e', 'a', places)})"
    payload_equal += f" and (p.{current} is not true or {_same('p', 'q', places)})"
    rows = cursor.execute(
        f"""
        select a.id::varchar, e.id is null,
            coalesce(e.source_id in {from_files} and not ({equal}), false)
            or coalesce(p.source_id in {from_files} and not ({payload_equal}), false)
            or (q.event_id is not null and p.event_id is null and e.source_id in {from_files}),
            e.source_id in {from_files} and (p.event_id is null or p.source_id in {from_files})
        from {_ALIAS}.audit_events a
        left join audit_events e on e.id = a.id
        left join audit_payloads p on p.event_id = e.id
        left join {_ALIAS}.audit_payloads q on q.event_id = a.id
        """,
        {"versions": list(files.versions), "sources": list(files.sources)},
    ).fetchall()
    inserted = cursor.execute(
        f"select id::varchar from audit_events anti join {_ALIAS}.audit_events a using (id)"
        " where source_id in (select unnest($sources))",
        {"sources": list(files.sources)},
    ).fetchall()
    return RowsCheck(
        [event_id for event_id, gone, differs, whole in rows if not gone and whole and not differs],
        [event_id for event_id, _, differs, _ in rows if differs],
        [event_id for event_id, gone, _, _ in rows if gone],
        [event_id for (event_id,) in inserted],
    )


def _same(left: str, right: str, columns: list[str]) -> str:
    return " and ".join(
        f'{left}."{name}" is not distinct from {right}."{name}"' for name in columns
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
