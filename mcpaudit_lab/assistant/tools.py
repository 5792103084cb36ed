"""The tools of an assistant. All of them read."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final, ParamSpec

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from mcpaudit_lab.assistant.guides import FILTERS, INSTRUCTIONS, schema_text
from mcpaudit_lab.assistant.quoting import PAGE_CHARS, quoted, size_of
from mcpaudit_lab.errors import McpAuditError
from mcpaudit_lab.record import json_value
from mcpaudit_lab.record.version import VERSION
from mcpaudit_lab.storage import records

if TYPE_CHECKING:
    import pandas as pd

    from mcpaudit_lab.lab import EventSet, Lab, Sandbox

__all__ = ["assistant_server"]

_P = ParamSpec("_P")

_READS: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_SQL_ROWS: Final = 200
_ROWS: Final = 100

Where = Annotated[str, Field(description="A condition, see lab://filters; empty for all events.")]
Text = Annotated[str, Field(description="A text to find in arguments, results and errors.")]
EventId = Annotated[str, Field(description="The id of an event, a UUID.")]
Limit = Annotated[int, Field(ge=1, le=100, description="How many at most.")]
Cursor = Annotated[int, Field(ge=0, description="next_cursor of the answer before; 0 to begin.")]
By = Annotated[str, Field(description="Count by this: tool, user, session, source, …; or empty.")]
Bucket = Annotated[str, Field(description="Width of a bucket: 1m, 1h, 1d.")]
Query = Annotated[str, Field(description="One SELECT in DuckDB's SQL over lab://schema.")]


def assistant_server(lab: Lab) -> MCPServer[Any]:
    """Make the server.

    Args:
        lab: the lab; open it read-only. It must stay open while the server runs.
    """
    server: MCPServer[Any] = MCPServer(
        "mcpaudit-lab", version=VERSION, instructions=INSTRUCTIONS, log_level="WARNING"
    )
    questions = Questions(lab)
    for ask in (
        questions.search_events,
        questions.get_event,
        questions.count,
        questions.compare,
        questions.sessions,
        questions.timeseries,
        questions.sql,
        questions.tool_changes,
        questions.provenance,
    ):
        server.add_tool(_answering(ask), annotations=_READS, structured_output=False)
    server.resource("lab://schema", description="The tables and their columns.")(schema_text)

    @server.resource("lab://filters", description="The language of conditions.")
    def filters() -> str:
        return FILTERS

    return server


def _answering(ask: Callable[_P, object]) -> Callable[_P, str]:
    """The question as a tool: its answer is quoted, and so is an error."""

    @wraps(ask)
    def answer(*args: _P.args, **kwargs: _P.kwargs) -> str:
        try:
            return quoted(ask(*args, **kwargs))
        except McpAuditError as error:
            # A message of the database may quote a value.
            raise ToolError(quoted({"error": str(error)})) from None

    answer.__annotations__["return"] = str
    return answer


class Questions:
    """The questions; each method is a tool, and its docstring the tool's description."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._sandbox: Sandbox | None = None
        # Tools run in threads.
        self._making = threading.Lock()

    def _events(self, where: str) -> EventSet:
        return self._lab.events(where) if where.strip() else self._lab.events()

    def search_events(
        self, where: Where = "", text: Text = "", limit: Limit = 20, cursor: Cursor = 0
    ) -> dict[str, Any]:
        """Find calls, newest first, by a condition, by a text, or by both. Without payloads."""
        events = self._events(where)
        if text.strip():
            found = events.search(text, limit=cursor + limit + 1)
            return _page(found, limit, cursor)
        part = events.where(limit=limit + 1, offset=cursor)
        rows = [event.summary.wire for event in part]
        return {**_first(rows, limit, cursor), "total": events.count()}

    def get_event(self, event_id: EventId) -> dict[str, Any]:
        """One call with its arguments, its answer, and what was found out about it."""
        event = self._lab.event(event_id)
        notes = [note.to_dict() for note in event.notes]
        return {"event": event.wire, "notes": notes}

    def count(self, where: Where = "", by: By = "", cursor: Cursor = 0) -> dict[str, Any]:
        """How many calls there are and how many failed, in all or by tool, user and so on."""
        events = self._events(where)
        if by:
            return _page(events.breakdown(by), _ROWS, cursor)
        (stats,) = _page(events.stats(), 1, 0)["rows"]
        return {"stats": stats}

    def compare(self, left: EventId, right: EventId) -> dict[str, Any]:
        """What differs between two calls, path by path."""
        return dict(self._lab.compare(left, right).to_dict())

    def sessions(self, where: Where = "", limit: Limit = 20, cursor: Cursor = 0) -> dict[str, Any]:
        """The sessions of clients, newest first, with their tools in order."""
        return _page(self._events(where).sessions(), limit, cursor)

    def timeseries(
        self, where: Where = "", bucket: Bucket = "1h", cursor: Cursor = 0
    ) -> dict[str, Any]:
        """Calls, failures and mean duration over time; empty buckets are left out."""
        return _page(self._events(where).timeseries(bucket), _ROWS, cursor)

    def sql(self, query: Query) -> dict[str, Any]:
        """Run one statement that reads, over a copy: no files, no network, ten seconds."""
        with self._making:
            if self._sandbox is None:
                self._sandbox = self._lab.sandbox(max_rows=_SQL_ROWS)
                weakref.finalize(self, self._sandbox.close)
        result = self._sandbox.sql(query)
        page = _page(result.df(), _SQL_ROWS, 0)
        return {"rows": page["rows"], "cut_off": page["cut_off"] or result.truncated}

    def tool_changes(self, cursor: Cursor = 0) -> dict[str, Any]:
        """How the definitions of tools changed, and hidden text in them."""
        return _page(self._lab.tool_changes(), _ROWS, cursor)

    def provenance(self, event_id: EventId) -> dict[str, Any]:
        """Which file, line and SHA-256 an event came from."""
        found = self._lab.provenance(event_id)
        told = ("part", "kind", "source", "line", "byte_offset", "sha256", "format", "note")
        return {"places": [{name: getattr(item, name) for name in told} for item in found]}


def _page(frame: pd.DataFrame, limit: int, cursor: int) -> dict[str, Any]:
    """Rows of a frame from the cursor on, as :func:`_first` takes them."""
    return _first(map(json_value, records(frame.iloc[cursor:])), limit, cursor)


def _first(rows: Iterable[Any], limit: int, cursor: int) -> dict[str, Any]:
    """As many rows as the limit and the size of an answer let through, and where to go on."""
    kept: list[Any] = []
    size = 0
    more = False
    for row in rows:
        size += size_of(row)
        if len(kept) == limit or (kept and size > PAGE_CHARS):
            more = True
            break
        kept.append(row)
    return {"rows": kept, "cut_off": more, "next_cursor": cursor + len(kept) if more else None}
