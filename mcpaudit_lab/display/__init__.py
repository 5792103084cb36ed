"""What a person sees: terminal tables and cards, HTML, plots, the widget of a live tail.

Input: values of the rooms above. Output: text, HTML and pictures. Nothing is fetched and no
script runs, but the tail's own. :func:`view` is how a value finds its view, see
:mod:`mcpaudit_lab.record.views`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.display.comparison_view import comparison_html
    from mcpaudit_lab.display.event_card import event_html
    from mcpaudit_lab.display.html import whole_page_html, widget_style
    from mcpaudit_lab.display.terminal_cards import (
        print_comparison,
        print_event,
        print_groups,
        print_provenance,
    )
    from mcpaudit_lab.display.terminal_tables import (
        EVENT_COLUMNS,
        OUTCOMES,
        PLAN_COLUMNS,
        REJECT_COLUMNS,
        SOURCE_COLUMNS,
        TIMESERIES_COLUMNS,
        TOOL_CHANGE_COLUMNS,
        TOOL_COLUMNS,
        VERDICTS,
        Column,
        breakdown_columns,
        cell_text,
        columns_of,
        event_row,
        open_console,
        print_load,
        print_table,
        stats_columns,
    )

__all__ = [
    "EVENT_COLUMNS",
    "OUTCOMES",
    "PLAN_COLUMNS",
    "REJECT_COLUMNS",
    "SOURCE_COLUMNS",
    "TIMESERIES_COLUMNS",
    "TOOL_CHANGE_COLUMNS",
    "TOOL_COLUMNS",
    "VERDICTS",
    "Column",
    "breakdown_columns",
    "cell_text",
    "columns_of",
    "comparison_html",
    "event_html",
    "event_row",
    "open_console",
    "print_comparison",
    "print_event",
    "print_groups",
    "print_load",
    "print_provenance",
    "print_table",
    "stats_columns",
    "view",
    "whole_page_html",
    "widget_style",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "comparison_view": ("comparison_html",),
        "event_card": ("event_html",),
        "html": ("whole_page_html", "widget_style"),
        "terminal_cards": ("print_comparison", "print_event", "print_groups", "print_provenance"),
        "terminal_tables": (
            "Column",
            "EVENT_COLUMNS",
            "OUTCOMES",
            "PLAN_COLUMNS",
            "REJECT_COLUMNS",
            "SOURCE_COLUMNS",
            "TIMESERIES_COLUMNS",
            "TOOL_CHANGE_COLUMNS",
            "TOOL_COLUMNS",
            "VERDICTS",
            "breakdown_columns",
            "cell_text",
            "columns_of",
            "event_row",
            "open_console",
            "print_load",
            "print_table",
            "stats_columns",
        ),
    },
)

# The views that values of other rooms ask for by name: their module, and the function or class.
_VIEWS: Final = {
    "case_report": ("case_report", "case_report_html"),
    "comparison": ("comparison_view", "comparison_html"),
    "event": ("event_card", "event_html"),
    "event_set": ("event_set_view", "event_set_html"),
    "load_report": ("event_set_view", "load_report_html"),
    "overview": ("overview_view", "overview_html"),
    "plan": ("event_set_view", "plan_html"),
    "plot_durations": ("plots", "plot_durations"),
    "plot_hours": ("plots", "plot_hours"),
    "plot_session": ("plots", "plot_session"),
    "plot_timeseries": ("plots", "plot_timeseries"),
    "replay_comparisons": ("replays_view", "replay_comparisons_html"),
    "run": ("event_set_view", "run_html"),
    "session": ("session_view", "session_html"),
    "table": ("table.view", "TableView"),
    "tail": ("tail.view", "TailView"),
}


def view(name: str) -> Callable[..., Any]:
    """The function or class that makes a view, imported when it is first asked for."""
    module, maker = _VIEWS[name]
    found: Callable[..., Any] = getattr(import_module(f"{__name__}.{module}"), maker)
    return found
