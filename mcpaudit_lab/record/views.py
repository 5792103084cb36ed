"""The one door from a value to its view: ``_repr_html_`` and the plots ask the display by name.

A value of a lower room must not import the display, which imports that room. It names the view it
wants; :mod:`mcpaudit_lab.display` has the table of views and imports what each one needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

__all__ = ["render", "render_html"]

_DISPLAY: Final = "mcpaudit_lab.display"


def render(view: str, *values: Any) -> Any:
    """Render a view.

    Args:
        view: the view's name in the display's table, such as ``event``.
        *values: the arguments of the view.

    Returns:
        What the view makes: the matplotlib axes of a plot, or the widget of a live tail.
    """
    return import_module(_DISPLAY).view(view)(*values)


def render_html(view: str, value: object) -> str:
    """Render a view that is HTML."""
    return str(render(view, value))
