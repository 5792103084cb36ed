"""The widget of the live tail: its controls, its table, and the panel below.

Imported only by what shows a tail in a notebook: it needs ipywidgets. Everything here runs on the
kernel's loop, since traits are not locked; only :meth:`TailView.wake` and :meth:`TailView.close`
may be called from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import anywidget
import ipywidgets as widgets

from mcpaudit_lab.display import widget_style
from mcpaudit_lab.display.tail.panel import TailPanel, row
from mcpaudit_lab.display.tail.pulse import TOOLS_MAX, pulse_html, status_html
from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.portal import PortalClient
from mcpaudit_lab.portal.tail import Batch, row_of
from mcpaudit_lab.record import visible

if TYPE_CHECKING:
    from mcpaudit_lab.portal.tail import Tail, TailState, TailStatus
    from mcpaudit_lab.record import Event

__all__ = ["TableEvents", "TailTable", "TailView"]

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
    _css = widget_style(_HERE / "table.css")

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


# Minimum intervals between updates of the table, and of the status line.
_PAUSE_S: Final = 0.1
_STATUS_S: Final = 0.5
_BEAT_S: Final = 1.0
_ANY: Final = "any outcome"
_OUTCOMES: Final = {_ANY: None, "✓ ok": True, "✗ failed": False}


class TailView:
    """The widget of a tail.

    Args:
        tail: the tail.
        state: its lines.
        loop: the kernel's loop, on which this is made.
    """

    def __init__(self, tail: Tail, state: TailState, loop: asyncio.AbstractEventLoop) -> None:
        self._tail = tail
        self._state = state
        self._loop = loop
        self._thread_id = threading.get_ident()
        self._closed = False
        self._selected: tuple[int, ...] = ()
        self._woken = False
        self._flushed_s = self._told_s = float("-inf")
        self._said = ""
        self.table = TailTable(self, state.max_rows)
        portal = tail.portal if isinstance(tail.portal, PortalClient) else None
        self.panel = TailPanel(portal, loop, self.table.say)
        self._build()
        self._tell(tail.status)
        self._timer = loop.call_later(_BEAT_S, self._beat)

    def mimebundle(self) -> dict[str, Any]:
        """The widget, for a front end."""
        bundle: dict[str, Any] = self.box._repr_mimebundle_()
        return bundle

    def close(self) -> None:
        """Take the widget away. Any thread may call it."""
        if threading.get_ident() != self._thread_id:
            with suppress(RuntimeError):  # the kernel has ended
                self._loop.call_soon_threadsafe(self.close)
            return
        self._closed = True
        self.panel.close()
        self._timer.cancel()
        for widget in self._widgets:
            widget.close()

    # The parts

    def _build(self) -> None:
        wide = widgets.Layout(width="auto")
        self.status, self.pulse = widgets.HTML(), widgets.HTML()
        self.pause = widgets.ToggleButton(description="Pause", layout=wide)
        self.stop = widgets.Button(description="Stop", tooltip="Close the stream", layout=wide)
        self.tool = widgets.Combobox(
            placeholder="any tool", continuous_update=False, layout={"width": "9em"}
        )
        self.outcome = widgets.Dropdown(options=list(_OUTCOMES), layout={"width": "8.5em"})
        self.text = widgets.Text(
            placeholder="text in tool, error or user", layout={"width": "14em"}
        )
        for control, tooltip in (
            (self.tool, "Show only this tool"),
            (self.outcome, "Show only this outcome"),
            (
                self.text,
                "A text in tool, error message or user; or a condition: tool != echo",
            ),
        ):
            control.tooltip = tooltip
        self.open = widgets.Button(description="Open", disabled=True, layout=wide)
        self.compare = widgets.Button(description="Compare", disabled=True, layout=wide)
        self.replay = widgets.Button(description="Replay…", disabled=True, layout=wide)
        self.box = widgets.VBox(
            [
                self.status,
                self.pulse,
                row(self.pause, self.stop, self.tool, self.outcome, self.text),
                self.table,
                row(self.open, self.compare, self.replay),
                self.panel.box,
            ]
        )
        self._widgets = _all_of(self.box)
        self.pause.observe(self._pause_toggled, "value")
        for control in (self.tool, self.outcome, self.text):
            control.observe(self._filter_changed, "value")
        for button, act in (
            (self.stop, self._stop_clicked),
            (self.open, self._open_clicked),
            (self.compare, self._compare_clicked),
            (self.replay, self._replay_clicked),
        ):
            button.on_click(act)

    # What is sent, and when

    def wake(self) -> None:
        """Have a look at the state soon. Any thread may call it, however often."""
        if not self._woken and not self._closed:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._look)
            except RuntimeError:
                # The kernel has ended.
                self._closed = True

    def _look(self) -> None:
        left_s = self._flushed_s + _PAUSE_S - self._loop.time()
        if left_s > 0:
            self._loop.call_later(left_s, self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        self._woken = False
        if self._closed:
            return
        self._flushed_s = self._loop.time()
        if self.table.is_open and (batch := self._state.take()):
            self.table.show(batch)
        self._refresh_status()

    def _refresh_status(self) -> None:
        # A front end that takes no rows gets no status either: nothing piles up on the way.
        status = self._tail.status
        due = self._loop.time() >= self._told_s + _STATUS_S
        if (due and self.table.is_open) or status.state != self._said:
            self._tell(status)

    def _beat(self) -> None:
        if not self._closed:
            self._refresh_status()
            # A stopped tail has no news.
            if self._said != "stopped":
                self._timer = self._loop.call_later(_BEAT_S, self._beat)

    def _tell(self, status: TailStatus) -> None:
        self._told_s = self._loop.time()
        if status.state != self._said:
            self.table.say(f"The tail is {status.state}. {visible(status.problem)}")
        self._said = status.state
        self.status.value = status_html(status, self._tail.title)
        self.pulse.value = pulse_html(self._tail.pulse(TOOLS_MAX))
        if status.paused != self.pause.value:
            self.pause.value = status.paused
        self.stop.disabled = self.pause.disabled = status.state == "stopped"
        tools = tuple(visible(name)[:80] for name in self._state.tools())
        if tools != self.tool.options:
            self.tool.options = tools

    # What a person does at the table

    def ready(self) -> None:
        """A front end runs the table and knows nothing yet."""
        self._state.refresh()
        self.wake()

    def shown(self) -> None:
        """The table can take another batch."""
        self.wake()

    def left(self) -> None:
        """No output shows the table any more: the tail ends with its output."""
        self._end(self._tail.close)

    def _end(self, act: Callable[[], None]) -> None:
        # In a thread: ending waits for the stream, and the kernel does not.
        threading.Thread(target=act, name="mcpaudit-tail-end", daemon=True).start()

    def opened(self, key: int) -> None:
        """A row was opened."""
        line = self._state.find(key)
        if line is None:
            self.panel.tell("This row is not kept any more.")
        elif line.event is None:
            self.panel.tell(visible(line.glimpse))
        else:
            self.panel.open(line.event)

    def selected(self, keys: tuple[int, ...]) -> None:
        """The selection changed."""
        self._selected = keys
        self._state.pin(keys)
        events = self._chosen()
        self.open.disabled = not events
        self.compare.disabled = len(events) != 2
        self.replay.disabled = len(events) != 1 or self._tail.portal is None
        self.panel.clear()

    def _chosen(self) -> list[Event]:
        lines = map(self._state.find, self._selected)
        return [line.event for line in lines if line is not None and line.event is not None]

    # Controls

    def _pause_toggled(self, change: dict[str, Any]) -> None:
        self.pause.description = "Go on" if change["new"] else "Pause"
        if change["new"]:
            self._tail.pause()
        else:
            self._tail.resume()

    def _stop_clicked(self, _button: object) -> None:
        self.stop.disabled = True
        self._end(self._tail.stop)

    def _filter_changed(self, _change: object) -> None:
        names = {visible(name)[:80]: name for name in self._state.tools()}
        tool = self.tool.value.strip()
        try:
            wanted = EventFilter(
                tool=names.get(tool, tool) or None,
                success=_OUTCOMES[self.outcome.value],
                **_asked(self.text.value),
            )
        except FilterError as error:
            # Below it are the condition and a mark under the place, for a terminal.
            self.panel.tell(str(error).split("\n")[0])
            return
        if wanted.needs_payload:
            self.panel.tell("calls here have no payload: ask for columns, as tool or duration_ms")
            return
        self._tail.show(None if wanted == EventFilter() else wanted)

    def _open_clicked(self, _button: object) -> None:
        for event in self._chosen()[-1:]:
            self.panel.open(event)

    def _compare_clicked(self, _button: object) -> None:
        self.panel.compare(*self._chosen())

    def _replay_clicked(self, _button: object) -> None:
        for event in self._chosen():
            self.panel.ask_replay(event)


def _asked(text: str) -> dict[str, Any]:
    """What the box asks: a condition if it has an operator, else a text to be found."""
    text = text.strip()
    if not text:
        return {}
    return {"where": text} if set("=<>~") & set(text) else {"q": text}


def _all_of(box: Any) -> list[Any]:
    """A widget, its children, and the widgets of their styles and layouts."""
    looks = [getattr(box, name) for name in ("layout", "style") if hasattr(box, name)]
    children = getattr(box, "children", ())
    return [box, *looks, *(widget for child in children for widget in _all_of(child))]
