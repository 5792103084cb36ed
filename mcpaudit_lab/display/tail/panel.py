"""What is opened from a live tail: an event's card, a comparison, a replay that is asked first.

Imported only by what shows a tail in a notebook: it needs ipywidgets. All of it runs on the
kernel's loop; requests to the portal run in threads of their own, so that the kernel is free.

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

from mcpaudit_lab.calls import RefusalReason
from mcpaudit_lab.comparison import Comparison, compare
from mcpaudit_lab.display import comparison_html, event_html
from mcpaudit_lab.record import visible

if TYPE_CHECKING:
    from mcpaudit_lab.calls import Refusal
    from mcpaudit_lab.portal import PortalClient, ReplayAnswer
    from mcpaudit_lab.record import Event

__all__ = ["TailPanel", "hide", "replay_refusal", "row", "show", "whole_event"]


def whole_event(portal: PortalClient | None, event: Event) -> Event:
    """The event with its payload from the portal; unchanged without a portal.

    Frames of the reference server's stream have no id: the event is then looked for by its time,
    tool and request, and is as it was if none is found.

    Raises:
        PortalError: the portal cannot say.
    """
    if portal is None:
        return event
    if event.id:
        return portal.event(event.id)
    moment = event.timestamp
    for found in portal.events(tool=event.tool_name or None, from_=moment, to=moment):
        if found.request_id == event.request_id:
            return portal.event(found.id)
    return event


def replay_refusal(portal: PortalClient, event: Event) -> Refusal | None:
    """Why the portal must not call an event again, as in a plan; None if it may.

    A tool that its server says destroys is such a reason, ``destructive``: a person may overrule
    it, and no other.

    Args:
        portal: the portal; asked for its tools and its copy of the event. No tool is called.
        event: the event with its payload.

    Raises:
        PortalError: the portal does not answer.
        ReplayError: the event has no id.
    """
    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.replay import make_plan

    with Lab() as scratch:
        items = make_plan(scratch, [event], portal, allow="all").items
    return items[0].refusal


_NOTE_MAX: Final = 2000

T = TypeVar("T")


class TailPanel:
    """The part below the table.

    Args:
        portal: the portal to ask; None for none.
        loop: the kernel's loop.
        say: has a text read out by screen readers.
    """

    def __init__(
        self,
        portal: PortalClient | None,
        loop: asyncio.AbstractEventLoop,
        say: Callable[[str], None],
    ) -> None:
        self._portal = portal
        self._loop = loop
        self._say = say
        self._closed = False
        self._asked: Event | None = None
        # What was asked for last; an answer to something older comes too late.
        self._turn = 0
        wide = widgets.Layout(width="auto")
        self.note = widgets.HTML()
        self.yes = widgets.Button(description="Replay now", button_style="warning", layout=wide)
        self.no = widgets.Button(description="Cancel", layout=wide)
        self.ask = row(self.yes, self.no)
        self.shut = widgets.Button(description="Close card", layout=wide)
        self.card = widgets.HTML()
        self.opened = widgets.VBox([row(self.shut), self.card])
        self.box = widgets.VBox([self.note, self.ask, self.opened])
        hide(self.note, self.ask, self.opened)
        self.yes.on_click(self._yes_clicked)
        self.no.on_click(self._no_clicked)
        self.shut.on_click(self._shut_clicked)

    def close(self) -> None:
        """What is still on its way comes too late."""
        self._closed = True

    def tell(self, text: str) -> None:
        """Show a note."""
        shown = visible(text[:_NOTE_MAX])
        self.note.value = f"<div>{html.escape(shown)}</div>"
        show(self.note)
        self._say(shown)

    def clear(self) -> None:
        """Take note and question away; the card stays."""
        self._asked = None
        hide(self.note, self.ask)

    # Opening and comparing

    def open(self, event: Event) -> None:
        """Fetch an event and show its card; if that fails, show the summary."""
        self.clear()
        self.tell("Fetching the event …")

        def failed(failure: Exception) -> None:
            self._show_event(event)
            self.tell(f"The payload could not be fetched: {failure}")

        self._work(lambda: whole_event(self._portal, event), self._show_event, failed)

    def _show_event(self, event: Event) -> None:
        self.clear()
        outcome = "succeeded" if event.success else "failed"
        self._show(event_html(event), f"Opened {event.tool_name}, {outcome}")

    def compare(self, left: Event, right: Event) -> None:
        """Fetch two events and show how they differ."""
        self.clear()
        self.tell("Fetching both events …")
        portal = self._portal
        self._work(
            lambda: compare(whole_event(portal, left), whole_event(portal, right)),
            self._show_comparison,
            self._failed,
        )

    def _show_comparison(self, comparison: Comparison) -> None:
        self.clear()
        self._show(comparison_html(comparison), f"Compared: {comparison.verdict}")

    def _show(self, made: str, said: str) -> None:
        self.card.value = made
        show(self.opened)
        self._say(visible(said[:_NOTE_MAX]))

    def _shut_clicked(self, _button: object) -> None:
        hide(self.opened)
        self.card.value = ""

    # Replay

    def ask_replay(self, event: Event) -> None:
        """Fetch an event and ask whether it is to be replayed, or say why it will not be."""
        portal = self._portal
        if portal is None:
            return
        self.clear()
        self.tell("Looking whether it can be replayed …")

        def look() -> tuple[Event, Refusal | None]:
            whole = whole_event(portal, event)
            return whole, replay_refusal(portal, whole)

        self._work(look, lambda found: self._ask(portal, *found), self._failed)

    def _ask(self, portal: PortalClient, event: Event, refusal: Refusal | None) -> None:
        self._show_event(event)
        warning = ""
        if refusal is not None and refusal.reason is RefusalReason.DESTRUCTIVE:
            warning = "Its server says that this tool destroys. "
        elif refusal is not None:
            self.tell(f"Not replayed, and nothing was called ({refusal.reason}): {refusal}.")
            return
        self._asked = event
        self.tell(
            f"Replay {event.tool_name} at {portal.url}? {warning}The tool runs again, with these "
            "arguments and as you; what it changes, it changes again. The call is recorded."
        )
        show(self.ask)

    def _no_clicked(self, _button: object) -> None:
        self.clear()

    def _yes_clicked(self, _button: object) -> None:
        original, portal = self._asked, self._portal
        if original is None or portal is None:
            return
        # A second click finds nothing that was asked.
        self.clear()
        self.tell("Replaying …")

        def call() -> tuple[ReplayAnswer, Event | None]:
            answer = portal.replay(original.id)
            found = portal.event(answer.replay_event_id) if answer.replay_event_id else None
            return answer, found

        self._work(call, lambda done: self._show_replay(original, *done), self._failed)

    def _show_replay(self, original: Event, answer: ReplayAnswer, replay: Event | None) -> None:
        if replay is not None:
            self._show_comparison(compare(original, replay))
        outcome = "it succeeded" if answer.success else "it failed"
        self.tell(f"Replayed as {answer.replay_event_id or 'an event without id'}: {outcome}.")

    # Threads

    def _failed(self, failure: Exception) -> None:
        self.tell(f"{failure}" or type(failure).__name__)

    def _work(
        self,
        work: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Do what may take long in a thread, and go on here."""
        self._turn += 1
        turn = self._turn

        def run() -> None:
            try:
                done = work()
            except Exception as failure:  # noqa: BLE001 - whatever it is, a person waits for it
                self._later(turn, failed, failure)
            else:
                self._later(turn, then, done)

        threading.Thread(target=run, name="mcpaudit-tail-request", daemon=True).start()

    def _later(self, turn: int, act: Callable[[T], None], value: T) -> None:
        def run() -> None:
            if not self._closed and turn == self._turn:
                act(value)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:
            self._closed = True  # the kernel has ended


def row(*parts: Any) -> widgets.HBox:
    """Widgets side by side, in as many lines as it takes."""
    return widgets.HBox(list(parts), layout={"flex_flow": "row wrap"})


def hide(*parts: Any) -> None:
    """Take widgets out of the layout."""
    for part in parts:
        part.layout.display = "none"


def show(*parts: Any) -> None:
    """Put them back."""
    for part in parts:
        part.layout.display = None
