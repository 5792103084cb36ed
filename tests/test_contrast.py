"""Every text that a view shows can be read: contrast as WCAG 2.2 asks of level AA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from browser import chromium, watched_page
from shown_views import objects, page_of

from mcpaudit_lab import Lab
from mcpaudit_lab.demo import sample_files

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["chromium"]

pytestmark = pytest.mark.timeout(120)

# Each visible text with the colour of its letters and of what lies behind them, blended, as the
# browser has computed them. Large text may have less contrast.
FOUND = """() => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    canvas.canvas.width = canvas.canvas.height = 1;
    const paint = (colours) => {
        canvas.clearRect(0, 0, 1, 1);
        for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const low = [];
    let seen = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        if (!node.data.trim() || !element.checkVisibility() || element.closest("style")) continue;
        const behind = [];
        for (let part = element; part; part = part.parentElement) {
            behind.unshift(getComputedStyle(part).backgroundColor);
        }
        const style = getComputedStyle(element);
        const ink = element instanceof SVGElement ? style.fill : style.color;
        const [back, front] = [paint(behind), paint([...behind, ink])].map(light);
        const ratio = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        seen += 1;
        if (ratio < (large ? 3 : 4.5)) {
            low.push(`${ratio.toFixed(2)} ${element.className} ${node.data.trim().slice(0, 40)}`);
        }
    }
    return {seen, low};
}"""


@pytest.fixture(scope="module")
def shown() -> Iterator[dict[str, str]]:
    with Lab() as lab:
        report = lab.load(sample_files())
        views: dict[str, Any] = {"load-report": report, **dict(objects(lab))}
        yield {name: value._repr_html_() for name, value in views.items()}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_the_contrast_of_level_aa(
    chromium: Browser, shown: dict[str, str], dark: bool
) -> None:
    trouble = {}
    with watched_page(chromium, width=1000, dark=dark) as watched:
        for name, html in shown.items():
            watched.page.set_content(page_of(html, dark=dark))
            watched.page.evaluate(
                "document.querySelectorAll('details').forEach((part) => { part.open = true; })"
            )
            found = watched.page.evaluate(FOUND)
            assert found["seen"] > 5, name
            if found["low"]:
                trouble[name] = sorted(set(found["low"]))
    assert trouble == {}


def test_the_check_finds_a_text_that_cannot_be_read(chromium: Browser) -> None:
    with watched_page(chromium) as watched:
        watched.page.set_content(page_of("<p style='color:#999'>pale</p>", dark=False))
        assert watched.page.evaluate(FOUND)["low"] == ["2.85  pale"]
