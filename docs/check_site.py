"""Open every page of the built site in a browser, and fail if one asks for anything from elsewhere.

    python docs/check_site.py build/site [PICTURES]

With a second folder it also leaves a picture of every page there, light and dark: look at them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from browser import launched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route


def troubles(browser: Browser, site: Path, pictures: Path | None, *, dark: bool) -> list[str]:
    """What pages asked for that is no file of the site, and what their scripts complained of."""
    found: list[str] = []
    context = browser.new_context(
        viewport={"width": 1200, "height": 900}, color_scheme="dark" if dark else "light"
    )

    def let_files_through(route: Route) -> None:
        url = route.request.url
        if url.startswith((f"{site.as_uri()}/", "data:")):
            route.continue_()
        else:
            found.append(f"{page.url} asks for {url}")
            route.abort()

    page = context.new_page()
    context.route("**/*", let_files_through)
    page.on("pageerror", lambda error: found.append(f"{page.url}: {error}"))
    page.on("requestfailed", lambda request: found.append(f"{page.url} lacks {request.url}"))
    for path in sorted(site.rglob("*.html")):
        page.goto(path.as_uri(), wait_until="load")
        if pictures:
            name = "-".join(path.relative_to(site).with_suffix("").parts)
            picture = pictures / f"{name}-{'dark' if dark else 'light'}.png"
            page.screenshot(path=picture, full_page=True)
    context.close()
    return found


def check(site: Path, pictures: Path | None) -> str | None:
    """Look at all pages; the message to end with, None if all is well."""
    pages = len(list(site.rglob("*.html")))
    if not pages:
        return f"no page in {site}: build it first"
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
    with launched() as browser:
        found = [
            trouble
            for dark in (False, True)
            for trouble in troubles(browser, site, pictures, dark=dark)
        ]
    print(f"{pages} pages, light and dark: {len(found)} troubles")
    return "\n".join(dict.fromkeys(found)) or None


if __name__ == "__main__":
    folders = [Path(argument).resolve() for argument in sys.argv[1:]]
    sys.exit(check(folders[0], folders[1] if folders[1:] else None))
