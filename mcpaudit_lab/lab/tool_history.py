"""Tool definitions over time: what a server offered, and what it changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.comparison import diff_texts
from mcpaudit_lab.record import ToolDefinition, ToolList, canonical_json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ToolChange", "changes_frame", "definitions_frame", "find_changes"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DEFINITION_COLUMNS: Final = (
    *("server", "name", "title", "description", "sha256", "first_seen", "last_seen", "gone_at"),
    *("input_schema", "output_schema", "annotations", "meta", "hidden", "definition"),
)
_CHANGE_COLUMNS: Final = (
    *("at", "server", "name", "change", "members", "before_sha256", "after_sha256", "hidden"),
    "diff",
)


@dataclass(frozen=True, slots=True)
class ToolChange:
    """One tool that a server added, removed or changed.

    Attributes:
        at_us: when the new list was first seen, in microseconds since 1970-01-01 UTC.
        server: the server's name.
        name: the tool's name.
        before: the definition until then; None for a tool that was added.
        after: the definition from then on; None for a tool that was removed.
    """

    at_us: int
    server: str
    name: str
    before: ToolDefinition | None
    after: ToolDefinition | None

    @property
    def change(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    @property
    def members(self) -> tuple[str, ...]:
        """The members of the definition that differ; empty for a tool that came or went."""
        if self.before is None or self.after is None:
            return ()
        return self.before.differing(self.after)

    def diff(self) -> str:
        """The lines that differ, hidden text written out."""
        left, right = (
            "" if tool is None else f"{tool.pretty()}\n" for tool in (self.before, self.after)
        )
        return str(diff_texts(left, right))


def find_changes(lists: Iterable[ToolList]) -> Iterator[ToolChange]:
    """The changes from list to list of each server. A server's first list is not a change.

    Args:
        lists: by server and time.
    """
    server: str | None = None
    known: dict[str, ToolDefinition] = {}
    for item in lists:
        offered = {tool.name: tool for tool in item.tools}
        if item.server != server:
            server, known = item.server, offered
            continue
        gone = set(known) - set(offered) if item.complete else set()
        for name in sorted({*gone, *offered}):
            before, after = known.get(name), offered.get(name)
            if before is None or after is None or before.sha256 != after.sha256:
                yield ToolChange(item.first_us, server, name, before, after)
        known = {name: tool for name, tool in known.items() if name not in gone} | offered


def changes_frame(lists: Iterable[ToolList]) -> pd.DataFrame:
    """One row for each change, as :meth:`Lab.tool_changes` describes it."""
    rows = [
        {
            "at": _moment(change.at_us),
            "server": change.server,
            "name": change.name,
            "change": change.change,
            "members": list(change.members),
            "before_sha256": change.before.sha256 if change.before else None,
            "after_sha256": change.after.sha256 if change.after else None,
            "hidden": list(change.after.hidden()) if change.after else [],
            "diff": change.diff(),
        }
        for change in find_changes(lists)
    ]
    return _frame(rows, _CHANGE_COLUMNS, ("at",), ("members", "hidden"))


def definitions_frame(lists: Iterable[ToolList]) -> pd.DataFrame:
    """One row for each period of a definition, as :meth:`Lab.tool_definitions` describes it."""
    return _frame(
        list(_periods(lists)),
        _DEFINITION_COLUMNS,
        ("first_seen", "last_seen", "gone_at"),
        ("hidden",),
    )


def _periods(lists: Iterable[ToolList]) -> Iterator[dict[str, Any]]:
    """The periods in which each tool had one definition, by server and first moment."""
    open_rows: dict[tuple[str, str], dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    for item in lists:
        offered = {tool.name: tool for tool in item.tools}
        first, last = _moment(item.first_us), _moment(item.last_us)
        for (server, name), row in list(open_rows.items()):
            tool = offered.get(name)
            changed = tool is not None and tool.sha256 != row["sha256"]
            if server == item.server and (changed or (tool is None and item.complete)):
                row["gone_at"] = first
                del open_rows[server, name]
        for name, tool in offered.items():
            known = open_rows.get((item.server, name))
            if known is None:
                known = open_rows[item.server, name] = _row(item.server, tool, first)
                rows.append(known)
            known["last_seen"] = last
    yield from rows


def _row(server: str, tool: ToolDefinition, first: datetime) -> dict[str, Any]:
    members = tool.members

    def text(name: str) -> str | None:
        value = members.get(name)
        return value if isinstance(value, str) else None

    def json(name: str) -> str | None:
        value = members.get(name)
        return None if value is None else canonical_json(value)

    return {
        "server": server,
        "name": tool.name,
        "title": text("title"),
        "description": text("description"),
        "sha256": tool.sha256,
        "first_seen": first,
        "last_seen": first,
        "gone_at": None,
        "input_schema": json("inputSchema"),
        "output_schema": json("outputSchema"),
        "annotations": json("annotations"),
        "meta": json("_meta"),
        "hidden": list(tool.hidden()),
        "definition": tool.text,
    }


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def _frame(
    rows: list[dict[str, Any]],
    columns: tuple[str, ...],
    times: tuple[str, ...],
    lists: tuple[str, ...],
) -> pd.DataFrame:
    import pandas as pd

    types = {name: "datetime64[us, UTC]" if name in times else "str" for name in columns}
    frame = pd.DataFrame(rows, columns=list(columns))
    return frame.astype({name: kind for name, kind in types.items() if name not in lists})
