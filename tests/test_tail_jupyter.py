"""The live tail in a real JupyterLab, in a real browser, at a real portal."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import chromium
from jupyter_pages import JupyterServer, NotebookPage, jupyter_server, open_notebook

from mcpaudit_lab import PortalClient
from mcpaudit_lab.server.serving import PortalServer
from mcpaudit_lab.server.setup import database_portal_app

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

__all__ = ["chromium"]

PICTURES = Path(__file__).parents[1] / "build" / "pictures"
KEY = "a-key-for-the-tail"


class Portals:
    """A portal that can be stopped and started again, on one port and one database."""

    def __init__(self, database: Path) -> None:
        self._database = f"sqlite:///{database}"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @contextmanager
    def run(self, port: int | None = None) -> Iterator[PortalClient]:
        """Serve while the block runs; on another port, 0, it is the same portal elsewhere."""
        app = database_portal_app(self._database, None, {"tester": KEY}, burst=50)
        started = threading.Event()
        server = PortalServer(app, started.set, log_level="warning")
        with socket.create_server(("127.0.0.1", self.port if port is None else port)) as listener:
            thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
            thread.start()
            assert started.wait(20)
            try:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                with PortalClient(url, KEY) as client:
                    yield client
            finally:
                server.should_exit = True
                thread.join()


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


class TailPage:
    """A notebook with a tail in it."""

    def __init__(self, shown: NotebookPage) -> None:
        self.shown = shown
        self.page = shown.page
        self.output = shown.cell(1)
        self.rows = self.output.locator(".mcpaudit-tail tbody tr")

    def row(self, text: str) -> Locator:
        return self.rows.filter(has_text=text).first

    def button(self, name: str) -> Locator:
        return self.output.get_by_role("button", name=name, exact=True)

    def see(self, text: str, *, within_ms: float = 10_000) -> None:
        """Wait until a text is in the output."""
        self.output.get_by_text(text).first.wait_for(timeout=within_ms)

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        for shade in ("Light", "Dark"):
            self.shown.theme(f"JupyterLab {shade}")
            path = PICTURES / f"tail_{name}_{shade.lower()}.png"
            self.output.locator(".jp-OutputArea-output").first.screenshot(path=path)
        self.shown.theme("JupyterLab Light")


@contextmanager
def open_tail(
    browser: Browser, jupyter: JupyterServer, url: str, *, width: int = 1100
) -> Iterator[TailPage]:
    start = f"from mcpaudit_lab import Lab, PortalClient\nportal = PortalClient({url!r}, {KEY!r})"
    cells = (f"{start}\nlab = Lab()", "tail = portal.tail(into=lab)\ntail")
    name = f"tail-{width}-{len(list(jupyter.folder.iterdir()))}.ipynb"
    with open_notebook(browser, jupyter, name, *cells, width=width, height=1600) as shown:
        shown.run(0)
        shown.run(1)
        tail = TailPage(shown)
        tail.see("live ·")
        yield tail
        assert shown.errors == []
        assert shown.foreign == []


@pytest.mark.soak
def test_a_person_watches_a_portal(
    chromium: Browser, jupyter: JupyterServer, tmp_path: Path
) -> None:
    portals = Portals(tmp_path / "audit.db")
    with ExitStack() as until_restart:
        portal = until_restart.enter_context(portals.run())
        with open_tail(chromium, jupyter, portals.url) as tail:
            # A call is there within a second.
            portal.tryit("echo", {"message": "first"})
            tail.row("first").wait_for(timeout=1000)
            portal.tryit("echo", {"message": "hush", "extras": {"password": "secret"}})
            portal.tryit("error", {"message": "broken", "as_tool": True})
            tail.row("broken").wait_for(timeout=1000)
            assert tail.rows.count() == 3
            assert "✗" in tail.row("broken").inner_text()

            # A pause loses nothing.
            tail.button("Pause").click()
            tail.see("live, paused")
            for number in range(3):
                portal.tryit("echo", {"message": f"during-{number}"})
            tail.see("3 waiting")
            assert tail.rows.count() == 3
            tail.button("Go on").click()
            tail.row("during-2").wait_for(timeout=1000)
            assert tail.rows.count() == 6

            # Filters look through what came, too.
            assert_filters(tail, portal)

            # A card, by mouse and by keyboard.
            tail.row("first").locator("td.text").click()
            card = tail.output.get_by_role("group", name="audit event, echo, ok")
            card.wait_for()
            assert "portal-tryit" in card.inner_text()
            tail.button("Close card").click()
            card.wait_for(state="hidden")
            tail.row("during-2").focus()
            for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Enter"):
                tail.page.keyboard.press(key)
            tail.output.get_by_role("group", name="audit event, error, tool").wait_for()
            assert_keeps_its_keys(tail)

            # Two are compared.
            tail.row("during-0").focus()
            tail.page.keyboard.press("Space")
            tail.row("during-1").locator("td.label").click()
            tail.button("Compare").click()
            tail.output.get_by_role("group", name="comparison of two audit events").wait_for()
            tail.picture("comparison")
            tail.row("during-1").locator("td.label").click()

            # One is replayed, after a question.
            tail.button("Replay…").click()
            tail.see("The tool runs again")
            tail.button("Cancel").click()
            tail.button("Replay…").click()
            tail.button("Replay now").click()
            tail.see("it succeeded")
            assert portal.event(tail.shown.ask(NEWEST)).source == "portal-replay"

            # A redacted call is not, and nothing is called.
            before = portal.dashboard()["stats"]["total"]
            tail.row("hush").focus()
            tail.page.keyboard.press("Escape")
            # Not before it was seen: a click on what is just being disabled is lost.
            tail.output.get_by_role("button", name="Replay…", disabled=True).wait_for()
            tail.page.keyboard.press("Space")
            tail.button("Replay…").click()
            tail.see("nothing was called (redacted)")
            assert portal.dashboard()["stats"]["total"] == before
            assert tail.button("Replay now").count() == 0

            until_restart.close()
            assert_survives_a_restart(tail, portals)


@pytest.mark.soak
def test_the_tail_ends_with_its_output(
    chromium: Browser, jupyter: JupyterServer, tmp_path: Path
) -> None:
    portals = Portals(tmp_path / "audit.db")
    with portals.run() as portal, open_tail(chromium, jupyter, portals.url, width=510) as tail:
        portal.tryit("echo", {"message": "narrow"})
        portal.tryit("error", {"message": "broken", "as_tool": True})
        tail.row("narrow").locator("td.label").click()
        tail.row("broken").wait_for()
        assert tail.output.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
        assert tail.shown.ask(THREADS) == ["stream-reader", "stream-writer"]

        # Run again: the old one ends, the new one lives.
        tail.shown.ask("import json; old = tail; print(json.dumps(1))")
        tail.shown.run(1)
        tail.see("live ·")
        tail.shown.wait_for("old.status.state == 'stopped'")
        assert tail.shown.ask(THREADS) == ["stream-reader", "stream-writer"]
        portal.tryit("echo", {"message": "again"})
        tail.row("again").wait_for(timeout=1000)
        assert tail.rows.count() == 1

        # The output is cleared: it ends too, widgets and all.
        tail.page.evaluate("jupyterapp.commands.execute('notebook:clear-cell-output')")
        tail.shown.wait_for("tail.status.state == 'stopped'")
        assert tail.shown.ask(THREADS) == []
        tail.shown.wait_for(NO_WIDGETS)
        assert tail.shown.ask(STORED) == [3, 1]


@pytest.mark.soak
def test_the_kernel_is_free_while_a_thousand_events_a_second_arrive(
    chromium: Browser, jupyter: JupyterServer
) -> None:
    name = "busy.ipynb"
    with open_notebook(chromium, jupyter, name, BUSY, "tail", "40 + 2", height=1600) as shown:
        shown.run(0)
        shown.run(1)
        tail = TailPage(shown)
        tail.rows.nth(199).wait_for()
        shown.run(2)
        assert shown.cell(2).locator(".jp-OutputArea-output").inner_text() == "42"
        tail.button("Pause").click()
        tail.see("live, paused", within_ms=15_000)
        first = tail.rows.first.get_attribute("data-key")
        tail.rows.first.locator("td.text").click()
        tail.output.get_by_role("group", name="audit event, echo, ok").wait_for(timeout=15_000)
        assert tail.rows.first.get_attribute("data-key") == first
        tail.button("Go on").click()
        tail.page.wait_for_function(
            "key => Number(document.querySelector('.mcpaudit-tail tbody tr').dataset.key) > key",
            arg=int(first or 0),
        )
        assert tail.rows.count() <= 201
        tail.button("Stop").click()
        tail.see("stopped ·", within_ms=15_000)
        received, newest = shown.ask(
            "import json; print(json.dumps([tail.status.counts.received, len(tail.events())]))"
        )
        assert received > 1000
        assert newest == min(received, 10_000)
        assert shown.errors == []


@pytest.mark.soak
def test_notebook_7_opens_a_card_by_mouse_and_by_keyboard(
    chromium: Browser, tmp_path: Path
) -> None:
    portals = Portals(tmp_path / "audit.db")
    (tmp_path / "jupyter").mkdir()
    with (
        portals.run() as portal,
        jupyter_server(tmp_path / "jupyter", "notebook") as server,
        open_tail(chromium, server, portals.url) as tail,
    ):
        portal.tryit("echo", {"message": "first"})
        portal.tryit("error", {"message": "broken"})
        tail.row("broken").wait_for(timeout=15_000)
        tail.row("first").locator("td.text").click()
        tail.output.get_by_role("group", name="audit event, echo, ok").wait_for()
        tail.page.keyboard.press("ArrowUp")
        tail.page.keyboard.press("Enter")
        tail.output.get_by_role("group", name="audit event, error, tool").wait_for()
        assert_keeps_its_keys(tail)
        tail.button("Stop").click()
        tail.see("stopped ·")


@pytest.mark.soak
def test_a_notebook_run_without_a_front_end_has_the_text(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="pip install 'mcpaudit-lab[test]'")
    nbclient = pytest.importorskip("nbclient", reason="pip install 'mcpaudit-lab[test]'")
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from portals import an_event
from tail_sources import QueueSource
from mcpaudit_lab.portal.tail.tail import Tail
tail = Tail(QueueSource(an_event(1)), title="a test")
tail.wait(1)
"""
    cells = [nbformat.v4.new_code_cell(source) for source in (code, "tail", "print(tail)")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute(
        cwd=str(tmp_path), env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    )
    shown = notebook.cells[1].outputs[0].data
    assert "application/vnd.jupyter.widget-view+json" in shown
    printed = notebook.cells[2].outputs[0].text
    for text in (shown["text/plain"], printed):
        first, row = text.splitlines()[:2]
        assert first.startswith("Tail of a test: live · 1 received")
        assert row.startswith("03:00:01.000    ok       echo")
    # What somebody reads who has no widgets, and only they.
    assert "pip install jupyterlab-widgets" in shown["text/plain"]
    assert "pip install" not in printed


# A thousand events a second from the kernel's own process, without a portal.
BUSY = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from tail_sources import SteadySource
from mcpaudit_lab.portal.tail.tail import Tail
tail = Tail(SteadySource(per_second=1000), title="a thousand a second")
"""
NO_WIDGETS = "not __import__('ipywidgets').widgets.widget._instances"
NEWEST = "import json; print(json.dumps(tail.events()[0].id))"
THREADS = """
import json, threading
names = [thread.name for thread in threading.enumerate()]
print(json.dumps([name for name in names if name.startswith(("stream-", "mcpaudit-"))]))
"""
NO_THREADS = """not [
    thread for thread in __import__("threading").enumerate()
    if thread.name.startswith(("stream-", "mcpaudit-"))
]"""
STORED = "import json; print(json.dumps([lab.events().count(), len(tail.df())]))"


def assert_survives_a_restart(tail: TailPage, portals: Portals) -> None:
    """Called with the portal gone: what is stored meanwhile is filled in."""
    tail.see("reconnecting ·")
    with portals.run(0) as elsewhere:
        for number in range(3):
            elsewhere.tryit("echo", {"message": f"meanwhile-{number}"})
    with portals.run() as portal:
        tail.row("meanwhile-2").wait_for(timeout=15_000)
        assert tail.row("meanwhile-0").count() == 1
        tail.see("3 filled in · 1 reconnection")
        portal.tryit("echo", {"message": "back"})
        tail.row("back").wait_for(timeout=1000)
        assert_stops(tail)


def assert_keeps_its_keys(tail: TailPage) -> None:
    """With the focus on a row, keys of the notebook (x cuts a cell, b makes one) do nothing."""
    cells = tail.page.locator(".jp-Notebook .jp-CodeCell")
    before = cells.count()
    for key in ("x", "b"):
        tail.page.keyboard.press(key)
    # The notebook acts in a task of its own: after a turn of the kernel it would have.
    tail.shown.ask("import json; print(json.dumps(1))")
    assert cells.count() == before
    assert tail.page.locator(".jp-Notebook.jp-mod-editMode").count() == 0
    assert tail.page.evaluate("document.activeElement.localName") == "tr"


def assert_stops(tail: TailPage) -> None:
    tail.button("Stop").click()
    tail.see("stopped ·")
    assert tail.button("Stop").is_disabled()
    # The stream has stopped; the lab still takes what came last.
    tail.shown.wait_for(NO_THREADS)
    rows = tail.rows.count()
    assert tail.shown.ask(STORED) == [rows, rows]
    # What is there can still be looked at.
    tail.row("back").locator("td.text").click()
    tail.output.get_by_role("group", name="audit event, echo, ok").wait_for()


def assert_filters(tail: TailPage, portal: PortalClient) -> None:
    outcome = tail.output.locator("select")
    outcome.select_option("✗ failed")
    tail.row("first").wait_for(state="detached")
    assert tail.rows.count() == 1
    portal.tryit("echo", {"message": "filtered"})
    outcome.select_option("any outcome")
    tail.row("filtered").wait_for()
    tool = tail.output.get_by_placeholder("any tool")
    tool.fill("error")
    tool.press("Enter")
    tail.row("first").wait_for(state="detached")
    assert tail.rows.count() == 1
    tool.fill("")
    tool.press("Enter")
    text = tail.output.get_by_placeholder("text in tool, error or user")
    text.fill("ERR")
    tail.row("first").wait_for(state="detached")
    text.fill("")
    tail.row("first").wait_for()
