"""The live tail in a notebook: its controls, its table, and what is opened from it.

Imported only by what shows a tail in a notebook: it needs ipywidgets. Everything here runs on the
kernel's loop, since traits are not locked; only :meth:`TailView.wake` may be called from any
thread. Requests to the portal run in threads of their own, so that the kernel is free meanwhile.

Text of a record reaches an ``HTML`` widget only through the escaping of this room; that widget sets
its value as HTML.
"""

from __future__ import annotations

import asyncio
import html
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import ipywidgets as widgets

from mcpaudit_lab.comparison import compare
from mcpaudit_lab.errors import FilterError
from mcpaudit_lab.events import Event
from mcpaudit_lab.filters import EventFilter
from mcpaudit_lab.terminal import visible
from mcpaudit_lab.widgets.comparison_view import comparison_html
from mcpaudit_lab.widgets.event_card import event_html
from mcpaudit_lab.widgets.tail_detail import replay_refusal, whole_event
from mcpaudit_lab.widgets.tail_table import TailTable

if TYPE_CHECKING:
    from mcpaudit_lab.client.answers import ReplayAnswer
    from mcpaudit_lab.widgets.tail import Tail, TailStatus
    from mcpaudit_lab.widgets.tail_state import TailState

__all__ = ["TailView"]

# The table hears at most so often what is new, and the status line more seldom.
_PAUSE_S: Final = 0.1
_STATUS_S: Final = 0.5
_BEAT_S: Final = 1.0
_MARKS: Final = {"live": "●", "connecting": "◌", "reconnecting": "◌", "stopped": "■"}
_ANY: Final = "any outcome"
_OUTCOMES: Final = {_ANY: None, "✓ ok": True, "✗ failed": False}

T = TypeVar("T")


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
            self._later(lambda _: self.close(), None)
            return
        self._closed = True
        self._timer.cancel()
        for widget in self._widgets:
            widget.close()

    # The parts

    def _build(self) -> None:
        wide = widgets.Layout(width="auto")
        self.status = widgets.HTML()
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
            (self.text, "Show only calls with this text in tool name, error message or user"),
        ):
            control.tooltip = tooltip
        self.open = widgets.Button(description="Open", disabled=True, layout=wide)
        self.compare = widgets.Button(description="Compare", disabled=True, layout=wide)
        self.replay = widgets.Button(description="Replay…", disabled=True, layout=wide)
        self.note = widgets.HTML()
        self.yes = widgets.Button(description="Replay now", button_style="warning", layout=wide)
        self.no = widgets.Button(description="Cancel", layout=wide)
        self.ask = _row(self.yes, self.no)
        self.shut = widgets.Button(description="Close", layout=wide)
        self.card = widgets.HTML()
        self.panel = widgets.VBox([self.shut, self.card])
        self._hide(self.ask, self.panel, self.note)
        self.box = widgets.VBox(
            [
                self.status,
                _row(self.pause, self.stop, self.tool, self.outcome, self.text),
                self.table,
                _row(self.open, self.compare, self.replay),
                self.note,
                self.ask,
                self.panel,
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
            (self.yes, self._yes_clicked),
            (self.no, self._no_clicked),
            (self.shut, self._shut_clicked),
        ):
            button.on_click(act)

    def _hide(self, *parts: Any) -> None:
        for part in parts:
            part.layout.display = "none"

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
            # A tail that stands still has nothing more to tell.
            if self._said != "stopped":
                self._timer = self._loop.call_later(_BEAT_S, self._beat)

    def _tell(self, status: TailStatus) -> None:
        self._told_s = self._loop.time()
        if status.state != self._said:
            self.table.say(f"The tail is {status.state}. {status.error}")
        self._said = status.state
        self.status.value = _status_html(status)
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
        # In a thread: ending waits for the stream, and the kernel does not.
        threading.Thread(target=self._tail.close, name="mcpaudit-tail-end", daemon=True).start()

    def opened(self, key: int) -> None:
        """A row was opened."""
        line = self._state.find(key)
        if line is None:
            self._note("This row is not kept any more.")
        elif line.event is None:
            self._note(visible(line.glimpse))
        else:
            self._open(line.event)

    def selected(self, keys: tuple[int, ...]) -> None:
        """The selection changed."""
        self._selected = keys
        self._state.pin(keys)
        events = self._chosen()
        self.open.disabled = not events
        self.compare.disabled = len(events) != 2
        self.replay.disabled = len(events) != 1 or self._tail.portal is None
        self._hide(self.ask, self.note)

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
        self._work(self._tail.stop, lambda _: self.wake())

    def _filter_changed(self, _change: object) -> None:
        names = {visible(name)[:80]: name for name in self._state.tools()}
        tool = self.tool.value.strip()
        try:
            wanted = EventFilter(
                tool=names.get(tool, tool) or None,
                success=_OUTCOMES[self.outcome.value],
                q=self.text.value or None,
            )
        except FilterError as error:
            self._note(str(error))
            return
        self._tail.show(None if wanted == EventFilter() else wanted)

    def _open_clicked(self, _button: object) -> None:
        for event in self._chosen()[-1:]:
            self._open(event)

    def _open(self, event: Event) -> None:
        self._note("Fetching the event …")
        self._work(lambda: whole_event(self._tail.portal, event), self._show_event, event)

    def _show_event(self, event: Event) -> None:
        self._hide(self.note)
        self._show(event_html(event), f"{event.tool_name}, opened")

    def _compare_clicked(self, _button: object) -> None:
        left, right = self._chosen()
        portal = self._tail.portal
        self._note("Fetching both events …")
        self._work(
            lambda: compare(whole_event(portal, left), whole_event(portal, right)),
            lambda found: (
                self._hide(self.note),
                self._show(comparison_html(found), f"compared: {found.verdict}"),
            ),
        )

    def _show(self, made: str, said: str) -> None:
        self.card.value = made
        self.panel.layout.display = None
        self.table.say(visible(said))

    def _shut_clicked(self, _button: object) -> None:
        self._hide(self.panel)
        self.card.value = ""

    # Replay

    def _replay_clicked(self, _button: object) -> None:
        (event,) = self._chosen()
        self._note("Looking whether it can be replayed …")
        self._work(lambda: whole_event(self._tail.portal, event), self._ask_replay)

    def _ask_replay(self, event: Event) -> None:
        self._show(event_html(event), "")
        refusal = replay_refusal(event)
        if refusal:
            self._note(f"Not replayed, and nothing was called: {refusal}.")
            return
        self._asked = event
        url = self._tail.portal.url if self._tail.portal else ""
        self._note(
            f"Replay {event.tool_name!r} at {url}? The tool runs again, with these arguments "
            "and as you; what it changes, it changes again. The call is recorded."
        )
        self.ask.layout.display = None

    def _no_clicked(self, _button: object) -> None:
        self._hide(self.ask, self.note)

    def _yes_clicked(self, _button: object) -> None:
        self._hide(self.ask)
        original, portal = self._asked, self._tail.portal
        if portal is None:
            return
        self._note("Replaying …")

        def call() -> tuple[ReplayAnswer, Event | None]:
            answer = portal.replay(original.id)
            found = portal.event(answer.replay_event_id) if answer.replay_event_id else None
            return answer, found

        self._work(call, lambda done: self._show_replay(original, *done))

    def _show_replay(self, original: Event, answer: ReplayAnswer, replay: Event | None) -> None:
        outcome = "It succeeded" if answer.success else "It failed"
        self._note(f"Replayed as {answer.replay_event_id or 'an event without id'}. {outcome}.")
        if replay is not None:
            self._show(comparison_html(compare(original, replay)), outcome)

    # Threads, and notes

    def _work(
        self, work: Callable[[], T], then: Callable[[T], object], event: Event | None = None
    ) -> None:
        """Do what may take long in a thread, and go on here; what fails is said.

        Args:
            work: what to do.
            then: what to do with what came of it.
            event: what to show all the same if it fails.
        """

        def failed(failure: Exception) -> None:
            if event is not None:
                self._show_event(event)
            self._note(str(failure) or type(failure).__name__)

        def run() -> None:
            try:
                done = work()
            except Exception as failure:  # noqa: BLE001 - whatever it is, a person waits for it
                self._later(failed, failure)
            else:
                self._later(then, done)

        threading.Thread(target=run, name="mcpaudit-tail-request", daemon=True).start()

    def _later(self, act: Callable[[T], object], value: T) -> None:
        def run() -> None:
            if not self._closed:
                act(value)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:
            self._closed = True  # the kernel has ended

    def _note(self, text: str) -> None:
        self.note.value = f"<div>{html.escape(visible(text[:2000]))}</div>"
        self.note.layout.display = None
        self.table.say(visible(text[:500]))


def _row(*parts: Any) -> widgets.HBox:
    return widgets.HBox(list(parts), layout={"flex_flow": "row wrap"})


def _all_of(box: Any) -> list[Any]:
    children = getattr(box, "children", ())
    return [box, box.layout, *(widget for child in children for widget in _all_of(child))]


def _status_html(status: TailStatus) -> str:
    mark = _MARKS.get(status.state, "?")
    text = html.escape(visible(status.describe()))
    return f'<div><span aria-hidden="true">{mark}</span> {text}</div>'
