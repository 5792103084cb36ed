"""A lab in a full-screen terminal: what it shows, and what its keys do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from click.testing import CliRunner
from replaying import captured, lab_of

from mcpaudit_lab import Lab
from mcpaudit_lab.cli import commands
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.server import demo_server

if TYPE_CHECKING:
    from textual.pilot import Pilot

pytest.importorskip("textual", reason="pip install 'mcpaudit-lab[tui]'")

from mcpaudit_lab.tui import Browser

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        made.load(sample_files())
        yield made


def text_of(app: Browser) -> str:
    """The screen as lines of text."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


def play(
    app: Browser,
    act: Callable[[Pilot[None]], Awaitable[None]],
    size: tuple[int, int] = (100, 24),
) -> None:
    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], condition: Callable[[], Any]) -> None:
    for _ in range(200):
        if condition():
            return
        await pilot.pause(0.05)
    raise AssertionError(f"it never held:\n{text_of(cast('Browser', pilot.app))}")


def test_the_list_is_what_the_lab_answers(lab: Lab) -> None:
    app = Browser(lab, where="not success and tool = flaky")

    async def act(_: Pilot[None]) -> None:
        shown = text_of(app)
        assert "26 of 658 events, 0 selected" in shown
        rows = [line for line in shown.splitlines() if " flaky " in line and "2026-" in line]
        assert rows[0].split()[:5] == ["2026-11-24", "03:44:44.170", "flaky", "tool", "0"]
        assert "Compare two" in shown

    play(app, act, (120, 24))


def test_a_condition_is_typed_and_one_that_cannot_be_read_is_told(lab: Lab) -> None:
    app = Browser(lab)

    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"tool = error", "enter")
        await pilot.pause()
        assert "60 of 658 events" in text_of(app)
        await pilot.press("slash", *" and", "enter")
        await pilot.pause()
        shown = text_of(app)
        assert "60 of 658 events" not in shown
        assert len(app._ids) == 60
        await pilot.press("escape", "s")
        await pilot.pause()
        durations = [row["duration_ms"] for row in app._table.page(0, 60)]
        assert durations == sorted(durations, reverse=True)

    play(app, act)


def test_the_end_of_the_list_loads_more(lab: Lab) -> None:
    app = Browser(lab)

    async def act(pilot: Pilot[None]) -> None:
        assert len(app._ids) == 200
        for _ in range(4):
            await pilot.press("ctrl+end")
            await pilot.pause()
        assert app._ids == lab.events().ids()

    play(app, act)


def test_a_card_and_a_comparison_open_and_close(lab: Lab) -> None:
    app = Browser(lab, where="tool = progress and has = replayed_from or id =~ 9be46480*")

    async def act(pilot: Pilot[None]) -> None:
        assert "2 of 658 events" in text_of(app)
        await pilot.press("enter")
        await pilot.pause()
        assert "progress" in text_of(app)
        assert "structuredContent" in text_of(app)
        await pilot.press("escape", "c")
        await pilot.pause()
        assert "select two events with the space bar; 0 are selected" in text_of(app)
        await pilot.press("space", "down", "space")
        await pilot.pause()
        assert "2 selected" in text_of(app)
        assert text_of(app).count("●") == 2
        await pilot.press("c")
        await pilot.pause()
        assert "response.structuredContent.notified" in text_of(app)
        await pilot.press("q")
        await pilot.pause()
        assert "2 of 658 events" in text_of(app)

    play(app, act, (120, 40))


def test_a_plan_is_shown_and_nothing_is_called(lab: Lab) -> None:
    app = Browser(lab, target=demo_server(), where="tool = echo and has = response_result")
    before = lab.events().count()

    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await pilot.pause()
        assert "select events with the space bar" in text_of(app)
        await pilot.press("space", "p")
        await until(pilot, lambda: "verdict" in text_of(app))
        assert "1 event for in-process:mcpaudit-lab" in text_of(app)

    play(app, act, (140, 30))
    assert lab.events().count() == before
    without = Browser(lab)

    async def ask(pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await pilot.pause()
        assert "browse --target URL" in text_of(without)

    play(without, ask)


def test_hostile_texts_are_shown_and_not_obeyed() -> None:
    bad = "[red]x[/red]\x1b[2J\u202e"
    with lab_of(captured({bad: bad}, tool=bad, user_subject=bad)) as lab:
        app = Browser(lab)

        async def act(pilot: Pilot[None]) -> None:
            for keys in ((), ("enter",)):
                await pilot.press(*keys)
                await pilot.pause()
                shown = text_of(app)
                assert "[red]x[/red]\\x1b[2J\\u202e" in shown
                assert "\x1b" not in shown
                assert "\u202e" not in shown

        play(app, act, (140, 30))


def test_without_the_extra_the_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "case.duckdb"
    Lab(path).close()
    monkeypatch.delitem(sys.modules, "mcpaudit_lab.tui.app", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "textual"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("mcpaudit_lab.tui.Browser", raising=False)
    result = CliRunner().invoke(commands, ["browse", "--lab", str(path)])
    assert result.exit_code == 2
    assert "pip install 'mcpaudit-lab[tui]'" in result.stderr
