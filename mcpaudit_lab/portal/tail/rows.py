"""What the live tail shows of one event, or of a gap: a row of texts, for the table and for print.

The texts come from audit data, which is hostile: all of them went through
:func:`.record.printable.visible` and are cut. The table still sets them as text, never as
HTML.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.comparison import FILLER
from mcpaudit_lab.record import Event, counted, dumps, format_time, visible

if TYPE_CHECKING:
    from mcpaudit_lab.portal.stream import Gap

__all__ = ["Line", "line_of", "lines_text", "row_of"]

_TEXT_MAX: Final = 160
# Beside its texts and parameters, an event as Python keeps it.
_EVENT_BYTES: Final = 2_000
_TOOL_WIDTH: Final = 20
_USER_WIDTH: Final = 20


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that came: an event, or a gap.

    Attributes:
        key: 1 for the first that came, 2 for the second, and so on.
        event: the event, or None.
        gap: the gap, or None.
        glimpse: the beginning of what the call was given, or of why it failed.
        kept_bytes: about how much memory it takes.
    """

    key: int
    event: Event | None
    gap: Gap | None
    glimpse: str
    kept_bytes: int


def line_of(key: int, item: Event | Gap) -> Line:
    """Make the row of an item once, so that showing it again costs nothing."""
    if not isinstance(item, Event):
        return Line(key, None, item, _gap_text(item), _EVENT_BYTES)
    parameters = "" if item.parameters is None else dumps(item.parameters)
    why = "" if item.error_message == FILLER else item.error_message
    glimpse = _cut(why or parameters)
    others = sum(
        len(value if isinstance(value, str) else dumps(value))
        for name, value in item.wire.items()
        if name != "parameters" and isinstance(value, str | dict | list)
    )
    return Line(key, item, None, glimpse, _EVENT_BYTES + len(parameters) + others)


def _gap_text(gap: Gap) -> str:
    """In words: how much is missing, between which moments."""
    count = "an unknown number of events are"
    if gap.missed is not None:
        count = f"{counted(gap.missed, 'event')} {'is' if gap.missed == 1 else 'are'}"
    bounds = f"from {format_time(gap.from_)} to {format_time(gap.to)}"
    return _cut(f"{count} missing {bounds}: {gap.reason}")


def _cut(text: str) -> str:
    # Cut first: a text of megabytes is not walked for the sake of its beginning.
    short = visible(text[: _TEXT_MAX + 1])
    return short if len(short) <= _TEXT_MAX else f"{short[:_TEXT_MAX]}…"


def row_of(line: Line) -> dict[str, Any]:
    """A row for the table: plain texts and numbers.

    Returns:
        ``key``; ``outcome``: ``ok``, ``failed`` or ``gap``; ``label``: the outcome in words;
        ``time``: of day, UTC; ``when``: the whole time; ``tool``, ``ms``, ``user``, ``text``;
        ``group``: the user, or the session of a call without one: the table colours by it.
    """
    event = line.event
    if event is None:
        moment = line.gap.to if line.gap is not None else None
        row = {"outcome": "gap", "label": "gap", "tool": "", "ms": "", "user": "", "group": ""}
    else:
        moment = event.timestamp
        row = {
            "outcome": "ok" if event.success else "failed",
            "label": "ok" if event.success else _cut(event.error_category or "failed"),
            "tool": _cut(event.tool_name) or "(no tool)",
            "ms": f"{event.duration_ms:,}",
            "user": _cut(event.user_subject),
            "group": _cut(event.user_subject or event.session_id),
        }
    when = format_time(moment) if moment else ""
    time = moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03}" if moment else ""
    return {"key": line.key, **row, "time": time, "when": when, "text": line.glimpse}


def lines_text(lines: Iterable[Line]) -> str:
    """The lines as text for a terminal, one each."""
    return "\n".join(map(_line_text, lines))


def _line_text(line: Line) -> str:
    row = row_of(line)
    if line.event is None:
        return f"{row['time']:12}  -- gap --  {row['text']}"
    mark = "  " if line.event.success else "! "
    tool, user = _fit(row["tool"], _TOOL_WIDTH), _fit(row["user"], _USER_WIDTH)
    return (
        f"{row['time']}  {mark}{row['label']:8} {tool} {row['ms']:>6} ms  {user} {row['text']}"
    ).rstrip()


def _fit(text: str, width: int) -> str:
    return f"{text[: width - 1]}…" if len(text) > width else text.ljust(width)
