"""The live tail's table: an anywidget whose script and style come with the package, inline.

Imported only by what shows a tail in a notebook: it needs anywidget.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import anywidget

from mcpaudit_lab.portal.tail import Batch, row_of

__all__ = ["TableEvents", "TailTable"]

_HERE: Final = Path(__file__).parent
# So many batches may be on their way before the table says that it has the first of them.
_AHEAD_MAX: Final = 3


class TableEvents(Protocol):
    """The receiver of the table's user events. Called on the kernel's loop."""

    def opened(self, key: int) -> None:
        """A row was clicked, or Enter pressed on it."""

    def selected(self, keys: tuple[int, ...]) -> None:
        """The selection is now these rows, at most two, the older choice first."""

    def ready(self) -> None:
        """A front end runs the table and knows nothing yet."""

    def shown(self) -> None:
        """It has taken a batch, and can take another."""

    def left(self) -> None:
        """No output shows the table any more."""


class TailTable(anywidget.AnyWidget):
    """The table.

    It sends no more than the front end confirms: after a few unconfirmed batches it is no longer
    :attr:`open`, so that a closed laptop fills no buffers.

    Args:
        events: the receiver of user events.
        max_rows: the most rows that it shows.
    """

    _esm = (_HERE / "table.js").read_text(encoding="utf-8")
    _css = (_HERE / "table.css").read_text(encoding="utf-8")

    def __init__(self, events: TableEvents, max_rows: int) -> None:
        super().__init__()
        self._events = events
        self._max_rows = max_rows
        self._sent = self._confirmed = 0
        self._started = False
        self.on_msg(self._receive)

    @property
    def started(self) -> bool:
        """Whether a front end ever ran the table."""
        return self._started

    @property
    def is_open(self) -> bool:
        """Whether a batch can be sent now."""
        return self._started and self._sent - self._confirmed < _AHEAD_MAX

    def show(self, batch: Batch) -> None:
        """Send a batch."""
        self._sent += 1
        rows = [row_of(line) for line in batch.lines]
        message = {"kind": "rows", "number": self._sent, "reset": batch.reset, "rows": rows}
        self.send({**message, "max_rows": self._max_rows})

    def say(self, text: str) -> None:
        """Have it read out by screen readers."""
        if self._started:
            self.send({"kind": "say", "text": text})

    def _receive(self, _widget: object, content: Any, _buffers: object) -> None:
        kind = content.get("kind") if isinstance(content, dict) else None
        act: Callable[[dict[str, Any]], None] | None = {
            "ready": self._ready,
            "shown": self._shown,
            "open": self._open,
            "selected": self._selected,
            "views": self._views,
        }.get(str(kind))
        if act is not None:
            act(content)

    def _ready(self, _content: dict[str, Any]) -> None:
        self._started = True
        self._confirmed = self._sent
        self._events.ready()

    def _shown(self, content: dict[str, Any]) -> None:
        number = content.get("number")
        if isinstance(number, int):
            self._confirmed = max(self._confirmed, min(number, self._sent))
            self._events.shown()

    def _open(self, content: dict[str, Any]) -> None:
        key = content.get("key")
        if isinstance(key, int):
            self._events.opened(key)

    def _selected(self, content: dict[str, Any]) -> None:
        keys = content.get("keys")
        if isinstance(keys, list):
            self._events.selected(tuple(key for key in keys if isinstance(key, int))[-2:])

    def _views(self, content: dict[str, Any]) -> None:
        if content.get("count") == 0:
            self._events.left()
