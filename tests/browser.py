"""A real headless Chromium, by Playwright, and pages that no request may leave."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page, Route

__all__ = ["FLAGS", "Watched", "chromium", "launched", "watched_page"]

FLAGS = (
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # The browser itself asks for nothing either.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


# For one module: while Playwright runs, its event loop counts as the thread's running one, and
# other modules have loops of their own.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser. Tests skip where there is none."""
    pytest.importorskip("playwright", reason="pip install 'mcpaudit-lab[test]'")
    if _find_chromium() is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium")
    with launched() as browser:
        yield browser


def _find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """The browser, outside of pytest."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_find_chromium(), args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page, and what happened in it that should not.

    Attributes:
        page: the page.
        requests: URLs it asked for; every one was refused.
        dialogs: messages of dialogs that scripts opened.
        errors: messages on its console, and exceptions.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def watched_page(browser: Browser, *, width: int = 900, dark: bool = False) -> Iterator[Watched]:
    """An empty page without network."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        service_workers="block",
    )
    watched = Watched(context.new_page())

    def refuse(route: Route) -> None:
        watched.requests.append(route.request.url)
        route.abort()

    def dismiss(dialog: Dialog) -> None:
        watched.dialogs.append(dialog.message)
        dialog.dismiss()

    context.route("**/*", refuse)
    watched.page.on("dialog", dismiss)
    watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
    watched.page.on(
        "console",
        lambda message: watched.errors.append(message.text) if message.type == "error" else None,
    )
    try:
        yield watched
    finally:
        context.close()
