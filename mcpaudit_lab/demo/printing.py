"""What the demo prints between its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record import visible

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["say", "show_lines", "show_step"]


def show_step(console: Console, title: str, code: str = "") -> None:
    """Print the next step, and its code."""
    from rich.text import Text

    line = Text(f"\n{title}", "bold cyan")
    line.append(f"\n{code}" if code else "", "dim not bold")
    console.print(line, soft_wrap=True)


def say(console: Console, text: str) -> None:
    """Print a sentence. What a terminal would obey is escaped."""
    from rich.text import Text

    console.print(Text(visible(text)))


def show_lines(console: Console, *lines: str) -> None:
    """Print lines for copying: never wrapped."""
    from rich.text import Text

    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)
