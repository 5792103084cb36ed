"""The demo: a portal at work, and a recorded sample that comes with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.demo.notebook import run_notebook
from mcpaudit_lab.demo.sample import sample_files, show_sample
from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from mcpaudit_lab.demo.live import start_portal

__all__ = ["run_demo", "run_notebook", "sample_files", "start_portal"]

__getattr__, __dir__ = lazy_names(__name__, {"live": ("start_portal",)})


def run_demo(console: Console, lab_path: Path | None = None, *, keep: bool = False) -> None:
    """Run a portal and print what it records, then walk through the recorded sample.

    The portal listens on a free loopback port and stores in a temporary folder; both are gone at
    the end.

    Args:
        console: where to print.
        lab_path: keep the sample in this lab; None for one in memory.
        keep: serve on at the end, until SIGINT or SIGTERM. Only in the main thread.

    Raises:
        LabError: that file is not a lab, or is in use.
        RuntimeError: the portal does not start.
    """
    from mcpaudit_lab.demo.live import keep_serving, live_portal, say_ended, show_portal
    from mcpaudit_lab.lab import Lab

    if lab_path is not None:
        # Fail before anything is shown if the lab cannot be written.
        with Lab(lab_path):
            pass
    with live_portal() as portal:
        show_portal(console, portal)
        show_sample(console, lab_path)
        if keep:
            keep_serving(console, portal)
    say_ended(console, portal)
