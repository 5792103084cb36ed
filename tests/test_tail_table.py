"""The live tail's table in a real browser, without a kernel: a page plays its part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import chromium, watched_page
from portals import an_event

from mcpaudit_lab.display.tail.view import TailTable
from mcpaudit_lab.portal.tail.state import TailState

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from mcpaudit_lab.portal.tail.state import Batch

__all__ = ["chromium"]

PICTURES = Path(__file__).parents[1] / "build" / "pictures"
# What anywidget does with a script and a model, and a kernel that writes down what it hears.
START = """async ([esm, css]) => {
    const style = document.createElement("style");
    style.textContent = css;
    document.head.append(style);
    const url = URL.createObjectURL(new Blob([esm], {type: "text/javascript"}));
    const widget = (await import(url)).default();
    const hear = [];
    window.sent = [];
    window.deliver = (message) => hear.forEach((listener) => listener(message));
    const model = {send: (m) => window.sent.push(structuredClone(m)), on: (_, f) => hear.push(f)};
    widget.initialize({model});
    const el = document.createElement("div");
    document.body.append(el);
    window.leave = widget.render({model, el});
    const frame = () => new Promise(requestAnimationFrame);
    window.drawn = () => frame().then(frame);
}"""


class Kernel:
    """The kernel's part, played from here."""

    def __init__(self, page: Page, max_rows: int) -> None:
        self.page = page
        self.state = TailState(max_rows=max_rows)
        self.number = 0

    def add(self, *events: Any) -> None:
        for event in events:
            self.state.add(event, 0)
        batch = self.state.take()
        if batch is not None:
            self.show(batch)

    def show(self, batch: Batch) -> None:
        from mcpaudit_lab.portal.tail.rows import row_of

        self.number += 1
        rows = [row_of(line) for line in batch.lines]
        message = {"kind": "rows", "number": self.number, "reset": batch.reset, "rows": rows}
        message["max_rows"] = self.state.max_rows
        self.page.evaluate("async (m) => { deliver(m); await drawn(); }", message)

    def heard(self, kind: str) -> list[Any]:
        sent = self.page.evaluate("sent")
        return [message for message in sent if message["kind"] == kind]

    def shown(self) -> list[int]:
        script = "rows => rows.map(row => Number(row.dataset.key))"
        keys: list[int] = self.page.locator("tbody tr").evaluate_all(script)
        return keys

    def active(self) -> int:
        return int(self.page.evaluate("document.activeElement?.dataset?.key ?? 0"))


def start(page: Page, max_rows: int = 200) -> Kernel:
    page.set_content("<!doctype html><title>tail</title><body style='margin:0'></body>")
    page.evaluate(START, [TailTable._esm, TailTable._css])
    return Kernel(page, max_rows)


@pytest.fixture
def kernel(chromium: Browser) -> Iterator[Kernel]:
    with watched_page(chromium, width=900) as watched:
        yield start(watched.page, max_rows=20)
        assert watched.errors == []
        assert watched.requests == []
        assert watched.dialogs == []


def some(count: int, first: int = 0) -> list[Any]:
    return [an_event(number) for number in range(first, first + count)]


def test_the_newest_row_stands_on_top_and_old_ones_go(kernel: Kernel) -> None:
    assert kernel.heard("ready") == [{"kind": "ready"}]
    assert kernel.page.locator(".empty").is_visible()
    kernel.add(*some(3))
    assert kernel.shown() == [3, 2, 1]
    assert not kernel.page.locator(".empty").is_visible()
    kernel.add(*some(20))
    assert kernel.shown() == list(range(23, 3, -1))
    kernel.add(*some(100))
    assert kernel.shown() == list(range(123, 103, -1))
    assert kernel.heard("shown") == [{"kind": "shown", "number": n} for n in (1, 2, 3)]
    assert kernel.page.locator("table").get_attribute("aria-rowcount") == "21"


def test_it_is_a_grid_that_says_failed_in_words(kernel: Kernel) -> None:
    kernel.add(
        an_event(1, tool_name="flaky", success=False, error_category="tool", error_message="no"),
        an_event(2),
    )
    grid = kernel.page.get_by_role("grid", name="Live tool calls, newest first")
    assert grid.get_by_role("columnheader").count() == 6
    row = grid.get_by_role("row").nth(2)
    cells = row.get_by_role("gridcell").all_text_contents()
    assert cells == ["✗failed: tool", "03:00:01.000", "flaky", "0", "", "no"]
    assert row.get_attribute("aria-selected") == "false"


def test_arrow_keys_move_enter_opens_and_space_selects(kernel: Kernel) -> None:
    kernel.add(*some(15))
    press = kernel.page.keyboard.press
    press("Tab")
    assert kernel.active() == 15
    press("ArrowDown")
    press("ArrowDown")
    assert kernel.active() == 13
    press("Enter")
    assert kernel.heard("open") == [{"kind": "open", "key": 13}]
    press("Space")
    press("ArrowUp")
    press("Space")
    press("Home")
    press("Space")
    assert [message["keys"] for message in kernel.heard("selected")] == [[13], [13, 14], [14, 15]]
    assert kernel.page.locator("[aria-selected=true]").count() == 2
    press("Space")
    assert kernel.heard("selected")[-1]["keys"] == [14]
    press("End")
    assert kernel.active() == 1
    press("PageUp")
    assert kernel.active() == 11
    press("PageDown")
    press("ArrowDown")
    assert kernel.active() == 1
    press("Escape")
    assert kernel.heard("selected")[-1]["keys"] == []
    press("Escape")
    press("x")
    assert len(kernel.heard("selected")) == 5
    press("Shift+Tab")
    assert kernel.active() == 0


def test_the_mouse_opens_and_with_ctrl_selects(kernel: Kernel) -> None:
    kernel.add(*some(3))
    row = kernel.page.locator("tr[data-key='2']")
    row.locator("td.text").click()
    assert kernel.heard("open") == [{"kind": "open", "key": 2}]
    row.locator("td.text").click(modifiers=["Control"])
    kernel.page.locator("tr[data-key='1'] td.label").click()
    assert [message["keys"] for message in kernel.heard("selected")] == [[2], [2, 1]]
    assert len(kernel.heard("open")) == 1


def test_the_row_with_the_focus_and_those_selected_stay_while_calls_arrive(
    kernel: Kernel,
) -> None:
    kernel.add(*some(3))
    kernel.page.locator("tr[data-key='1'] td.label").click()
    kernel.page.locator("tr[data-key='2']").focus()
    kernel.add(*some(15))
    kernel.add(*some(15))
    kernel.add(*some(500))
    assert kernel.shown() == [*range(533, 513, -1), 2, 1]
    assert kernel.active() == 2
    kernel.page.keyboard.press("ArrowUp")
    kernel.add(*some(1))
    assert kernel.shown() == [*range(534, 514, -1), 514, 1]
    kernel.page.keyboard.press("Escape")
    kernel.add(*some(30))
    assert kernel.shown() == [*range(564, 544, -1), 514]


def test_hostile_texts_are_texts(kernel: Kernel) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e"
    kernel.add(an_event(1, tool_name=evil, user_subject=evil, error_message=evil, success=False))
    row = kernel.page.locator("tr[data-key='1']")
    assert row.locator("img, script").count() == 0
    assert "<img src=x" in row.locator("td.tool").inner_text()
    kernel.page.evaluate("deliver({kind: 'say', text: '<img src=x onerror=alert(3)>'})")
    assert kernel.page.get_by_role("status").inner_text() == "<img src=x onerror=alert(3)>"


def test_many_batches_between_two_frames_are_drawn_once(kernel: Kernel) -> None:
    count = kernel.page.evaluate(
        """async () => {
            let drawn = 0;
            const body = document.querySelector("tbody");
            new MutationObserver(() => { drawn += 1; }).observe(body, {childList: true});
            const row = {outcome: "ok", label: "ok", time: "", when: "", tool: "t", ms: "1",
                         user: "", text: ""};
            for (let n = 1; n <= 1000; n += 1) {
                deliver({kind: "rows", number: n, reset: n === 1, max_rows: 20,
                         rows: [{...row, key: n}]});
            }
            await window.drawn();
            return drawn;
        }"""
    )
    assert count == 1
    assert kernel.shown() == list(range(1000, 980, -1))


def test_the_kernel_hears_when_the_output_is_gone(kernel: Kernel) -> None:
    assert kernel.heard("views") == [{"kind": "views", "count": 1}]
    kernel.page.evaluate("leave()")
    kernel.page.wait_for_function("sent.some(m => m.kind === 'views' && m.count === 0)")
    kernel.page.evaluate("deliver({kind: 'rows', number: 1, reset: true, max_rows: 1, rows: []})")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 900])
def test_it_fits_a_narrow_page(chromium: Browser, width: int, dark: bool) -> None:
    with watched_page(chromium, width=width, dark=dark) as watched:
        kernel = start(watched.page)
        events = some(6)
        events += [
            an_event(
                7,
                tool_name="a_tool_with_a_long_name",
                duration_ms=23_456,
                user_subject="apikey:somebody-with-a-long-name",
                success=False,
                error_category="handler",
                error_message="it broke, " * 30,
            ),
            an_event(8, tool_name="echo", user_subject="alice", parameters={"q": "x " * 300}),
        ]
        kernel.add(*events)
        kernel.page.locator("tr[data-key='8'] td.label").click()
        kernel.page.locator("tr[data-key='6']").focus()
        wide = kernel.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        for name in ("label", "time", "tool", "ms"):
            assert kernel.page.locator(f"tr[data-key='2'] td.{name}").evaluate(
                "cell => cell.scrollWidth <= cell.clientWidth"
            ), name
        PICTURES.mkdir(parents=True, exist_ok=True)
        shade = "dark" if dark else "light"
        if dark:
            kernel.page.evaluate("document.body.style.background = '#0d1117'")
        kernel.page.screenshot(path=PICTURES / f"tail_table_{width}_{shade}.png")
        assert watched.errors == []
