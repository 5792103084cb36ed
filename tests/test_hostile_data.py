"""Hostile text in every field of the record, through everything that shows it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import mcp_types as types
import pytest
from browser import Watched, watched_page
from hostile import PAYLOADS, hostile_event
from mcp.server import Server
from mcp.shared.exceptions import MCPError
from rich.console import Console
from short_run import each_third

from mcpaudit_lab import Event, Lab, LoadReport, Payload, compare
from mcpaudit_lab.display.html import style_html
from mcpaudit_lab.display.tables_html import table_html
from mcpaudit_lab.display.terminal_cards import print_comparison, print_event
from mcpaudit_lab.display.terminal_tables import Column
from mcpaudit_lab.record.printable import visible
from mcpaudit_lab.storage.load.report import FileReport

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Each has every view rendered.
NAMES = each_third(PAYLOADS)


class Shown:
    """Everything that shows one payload: HTML for a notebook, text for a terminal."""

    def __init__(self, text: str) -> None:
        event, summary = hostile_event(text), hostile_event(text, 2, payload=False)
        other = hostile_event(f"x {text}", 3)
        comparisons = [compare(event, other), compare(event, summary)]
        file = FileReport(text, lines=2, loaded=1, rejected=1)
        reports = [LoadReport((file,), reasons={text: 1}), LoadReport((file,) * 3)]
        with Lab() as lab:
            # DuckDB takes no lone surrogate, neither as a value nor to look for.
            name = text if _is_unicode(text) else "a name"
            lab.add_events([event, summary, other], kind="tail", name=name, request=name)
            lab.add_events([hostile_event(f"{text} conflict", 2)], kind="tail", name=name)
            events = lab.events(tool=text) if _is_unicode(text) else lab.events()
            objects: list[Any] = [event, summary, *comparisons, *reports, events, lab.overview()]
            rows = [{text: text, "id": text, "outcome": text, "list": [text], "success": False}]
            columns = [
                Column(text),
                Column("id", is_id=True),
                Column("outcome", styles={"ok": "green"}),
                Column("list", text, right=True),
            ]
            table = table_html(text, columns, rows, words=text, foot=text, badge=text, sums=True)
            self.html = [*(item._repr_html_() for item in objects), table]
            frames: list[Any] = [events.df(payloads=True), events.breakdown("user")]
            self.frames = [frame._repr_html_() for frame in frames]
            self.text = [f(item) for item in (*objects, lab, file) for f in (repr, str)]
            self.text += [repr(events.where(user=events.ids())), repr(lab.sql("from audit_events"))]
            self.text += [repr(item) for item in (event.payload, *_notifications(event))]
            self.text += [repr(item) for item in lab.provenance(event.id)]
        self.printed = [_printed(print_event, item) for item in (event, summary)]
        self.printed += [_printed(print_comparison, item) for item in comparisons]


def _is_unicode(text: str) -> bool:
    return text == text.encode("utf-8", "replace").decode()


@cache
def shown_of(name: str) -> Shown:
    return Shown(PAYLOADS[name])


def _notifications(event: Any) -> Any:
    return event.payload.notifications


def _printed(show: Callable[[Console, Any], None], item: Any) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    show(console, item)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_no_text_has_a_raw_control_character_and_none_is_endless(name: str) -> None:
    shown = shown_of(name)
    assert_clean([*shown.text, *shown.printed])
    assert max(map(len, shown.text)) < 60_000
    assert max(map(len, shown.printed)) < 400_000


def assert_clean(texts: list[str]) -> None:
    """There is nothing in them that a terminal would obey."""
    for text in texts:
        for line in text.split("\n"):
            assert visible(line) == line


# In a browser

# What a view is made of. Anything else came from the data.
TAGS = {
    *("div", "style", "span", "i", "b", "p", "br", "dl", "dt", "dd", "details", "summary", "time"),
    *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img", "audio", "mark"),
    *("label", "input", "svg", "g", "rect", "title"),
}
ATTRIBUTES = {
    *("class", "role", "aria-label", "aria-level", "aria-hidden", "title", "open", "datetime"),
    *("scope", "data-label", "type", "src", "alt", "decoding", "controls", "preload", "style"),
    *("viewBox", "preserveAspectRatio", "x", "y", "width", "height"),
}

# What JupyterLab does: set the HTML, then run the scripts in it.
SHOW = """([outputs, asLab]) => {
    document.body.replaceChildren();
    for (const html of outputs) {
        const output = document.createElement('div');
        output.className = 'jp-RenderedHTMLCommon jp-RenderedHTML output';
        document.body.append(output);
        output.innerHTML = html;
        if (!asLab) continue;
        for (const old of output.querySelectorAll('script')) {
            const script = document.createElement('script');
            for (const item of old.attributes) script.setAttribute(item.name, item.value);
            script.textContent = old.textContent;
            old.replaceWith(script);
        }
    }
}"""
# Everything a reader might do.
TOUCH = """() => {
    for (const item of document.querySelectorAll('details')) item.open = true;
    for (const item of document.body.querySelectorAll('*'))
        for (const kind of ['mouseover', 'focus', 'pointerdown', 'toggle', 'animationstart'])
            item.dispatchEvent(new Event(kind, {bubbles: true}));
}"""
PARTS = """() => {
    const found = {tags: new Set(), attributes: new Set(), urls: new Set(), text: []};
    for (const output of document.querySelectorAll('.output')) {
        for (const item of output.querySelectorAll('*')) {
            found.tags.add(item.localName);
            for (const {name, value} of item.attributes) {
                found.attributes.add(name);
                if (name === 'src' || name === 'href') found.urls.add(value.slice(0, 22));
                if (name === 'style' && !/^width: ?[0-9.]+%;?$/.test(value)) found.tags.add(value);
            }
        }
        const plain = output.cloneNode(true);
        for (const style of plain.querySelectorAll('style')) style.remove();
        found.text.push(plain.textContent);
    }
    return {
        tags: [...found.tags], attributes: [...found.attributes], urls: [...found.urls],
        text: found.text,
    };
}"""
PLACES = """() => {
    const wide = [];
    for (const output of document.querySelectorAll('.output')) {
        const root = output.getBoundingClientRect();
        for (const item of output.querySelectorAll('*')) {
            const box = item.getBoundingClientRect();
            if (box.width && (box.right > root.right + 1 || box.left < root.left - 1))
                wide.push(`${item.localName}.${item.className}: ${box.left} to ${box.right}`);
        }
        // What is drawn and has no box of its own, such as a heading in narrow rows.
        for (const item of output.querySelectorAll('.mal-scroll'))
            if (item.scrollWidth > item.clientWidth + 1)
                wide.push(`a table: ${item.scrollWidth} in ${item.clientWidth}`);
    }
    const page = document.documentElement;
    if (page.scrollWidth > page.clientWidth + 1) wide.push(`the page: ${page.scrollWidth}`);
    return wide;
}"""
STATE = "() => [window.hostile, document.title, location.href]"


@pytest.fixture(scope="module")
def page(chromium: Browser) -> Iterator[Watched]:
    with watched_page(chromium) as watched:
        yield watched


def assert_harmless(page: Watched, outputs: list[str]) -> None:
    """Nothing ran, nothing was asked for, nothing is hidden, nothing is out of its place."""
    seen = page.page.viewport_size
    page.page.set_content("<!doctype html><title>notebook</title><body></body>")
    page.page.evaluate(SHOW, [with_one_sheet(outputs), True])
    page.page.evaluate(TOUCH)
    # As wide as it was left before the other width: laying it all out anew is what takes long.
    for width in sorted((900, 400), key=lambda width: {"width": width, "height": 900} != seen):
        page.page.set_viewport_size({"width": width, "height": 900})
        assert page.page.evaluate(PLACES) == []
    found = page.page.evaluate(PARTS)
    assert set(found["tags"]) <= TAGS
    assert set(found["attributes"]) <= ATTRIBUTES
    assert all(url.startswith("data:image/png;base64,") for url in found["urls"])
    for text in found["text"]:
        plain = re.sub("[\n\t]", "", text)
        assert visible(plain) == plain
    assert_quiet(page)


def assert_quiet(page: Watched) -> None:
    """No script ran, and the page is where it was."""
    assert page.page.evaluate(STATE) == [None, "notebook", "about:blank"]
    assert (page.requests, page.dialogs, page.errors) == ([], [], [])


def with_one_sheet(outputs: list[str]) -> list[str]:
    """The outputs, of which only the first has the style sheet: a browser matches each copy."""
    sheet = style_html()
    assert all(html.count(sheet) == 1 for html in outputs)
    return [outputs[0], *(html.replace(sheet, "") for html in outputs[1:])]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_the_data_runs_asks_or_breaks_the_page(name: str, page: Watched) -> None:
    shown = shown_of(name)
    assert_harmless(page, shown.html)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_of_its_own_runs_nothing_either(name: str, page: Watched) -> None:
    """What a saved notebook is: the parser runs scripts where it meets them."""
    shown = shown_of(name)
    outputs = with_one_sheet(shown.html)
    page.page.set_content(
        "<!doctype html><title>notebook</title>"
        + "".join(f"<div class=output>{html}</div>" for html in (*outputs, *shown.frames))
    )
    page.page.wait_for_timeout(10)
    assert_quiet(page)


def call_of(text: str, number: int, arguments: object) -> Event:
    """A call of the tool of this name, to be sent again."""
    event = hostile_event(text, number)
    assert event.payload
    wire = {**event.payload.wire, "jsonrpc_method": "tools/call", "request_params": arguments}
    return event.with_payload(Payload(wire))


def hostile_server(names: list[str]) -> Server[Any]:
    """A server whose tools have these names, and answer, or fail, with the same text."""

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        del ctx, params
        tools = [types.Tool(name=name, input_schema={"type": "object"}) for name in names]
        return types.ListToolsResult(tools=tools)

    async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        del ctx
        if (params.arguments or {}).get("fail"):
            raise MCPError(-32000, params.name)
        block = {"type": "text", "text": params.name, "_meta": {params.name: params.name}}
        return types.CallToolResult.model_validate({"content": [block]})

    return Server("test", on_call_tool=call_tool, on_list_tools=list_tools)


@pytest.mark.soak
def test_hostile_calls_are_planned_and_replayed_without_harm(page: Watched) -> None:
    texts = [text for text in PAYLOADS.values() if _is_unicode(text)]
    with Lab() as lab:
        for n in range(0, len(texts), 5):
            names = texts[n : n + 5]
            calls = [
                call_of(text, 3 * number + kind, arguments)
                for number, text in enumerate(names, n)
                for kind, arguments in enumerate(
                    ({text: text}, {"fail": True, text: text}, {text: {text: "[redacted]"}})
                )
            ]
            lab.add_events(calls, kind="tail", name="x")
            plan = lab.plan_replay(
                [call.id for call in calls], target=hostile_server(names), allow="all"
            )
            run = plan.run(progress=False)
            # A tool whose name is a redaction mark is not called.
            sent = len(set(names) - {PAYLOADS["redacted-mark"]})
            refused = len(calls) - 2 * sent
            assert plan.counts()["redacted"] == refused
            assert run.counts() == {"succeeded": sent, "uncertain": sent, "refused": refused}
            run.stopped = names[0]
            assert_harmless(page, [plan._repr_html_(), run._repr_html_()])
            assert_clean([repr(plan), repr(run)])


RUNNING = ("script", "dialog", "double-quote", "single-quote", "error", "toggle")
ASKING = ("image", "link", "style", "script-from-url", "object")


def test_the_corpus_is_dangerous(chromium: Browser) -> None:
    """What is not escaped does run, ask and open dialogs: these tests can fail."""
    from playwright.sync_api import Error

    ran, asked = set(), set()
    for name in (*RUNNING, *ASKING):
        text = PAYLOADS[name]
        raw = [text, f'<b title="{text}">x</b>', f"<b title='{text}'>x</b>"]
        with watched_page(chromium) as watched:
            watched.page.set_content("<!doctype html><body></body>")
            try:
                watched.page.evaluate(SHOW, [raw, True])
                watched.page.evaluate(TOUCH)
                watched.page.wait_for_timeout(30)
                hostile = watched.page.evaluate("() => window.hostile")
            except Error:
                # The page was left for another one, or crashed.
                hostile = name
            if hostile is not None or watched.dialogs:
                ran.add(name)
            if watched.requests:
                asked.add(name)
    assert set(RUNNING) <= ran
    assert set(ASKING) <= asked
