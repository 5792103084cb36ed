"""What a command shows as a page of its own: ``--html FILE``, and ``--open`` in the browser."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from mcpaudit_lab.cli.output import say

__all__ = ["PageWriter", "page_options"]


class PageWriter:
    """Where the page goes: a file, the browser, both, or nowhere."""

    def __init__(self, path: Path | None, in_browser: bool) -> None:
        self._path = path
        self._in_browser = in_browser

    def write(self, title: str, value: Any) -> bool:
        """Write the value's view as a page; False if no page was asked for.

        Args:
            title: the page's.
            value: what a notebook would show.
        """
        if self._path is None and not self._in_browser:
            return False
        import tempfile
        import webbrowser

        from mcpaudit_lab.display import whole_page_html
        from mcpaudit_lab.storage import appearing

        page = whole_page_html(title, [value._repr_html_()])
        path = self._path or Path(tempfile.mkdtemp(prefix="mcpaudit-")) / "page.html"
        with appearing(path) as unfinished:
            unfinished.write_bytes(page.encode("utf-8", "replace"))
        say(f"Written to {path}.")
        if self._in_browser and not webbrowser.open(path.absolute().as_uri()):
            say("No browser could be opened.")
        return True


def page_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--html`` and ``--open``; the command gets them as ``page``, a :class:`PageWriter`."""

    @click.option(
        "--html",
        "html_path",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write a page that opens offline, instead of the text.",
    )
    @click.option("--open", "in_browser", is_flag=True, help="Show that page in the browser.")
    @wraps(command)
    def with_page(*args: Any, html_path: Path | None, in_browser: bool, **options: Any) -> Any:
        return command(*args, page=PageWriter(html_path, in_browser), **options)

    return with_page
