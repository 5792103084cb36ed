"""JupyterLab on a copy of the tour, beside a portal that runs as long as it does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.demo.live import live_portal, told_to_end
from mcpaudit_lab.demo.printing import show_lines, show_step
from mcpaudit_lab.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

__all__ = ["run_notebook", "tour_file"]

# A link to a page that does not come along with the copy; its text stays.
_LINK: Final = re.compile(r"\[([^\[\]]+)\]\(\.\./[^()]*\)")
_POLL_S: Final = 0.2
_GRACE_S: Final = 10


def tour_file() -> Path:
    """The notebook: a wheel has it in this folder, a source tree among its notebooks."""
    here = Path(__file__).resolve()
    packed = here.with_name("tour.ipynb")
    return packed if packed.exists() else here.parents[2] / "notebooks" / "tour.ipynb"


def run_notebook(console: Console, *, browser: bool = True) -> int:
    """Run JupyterLab on a copy of the tour until it ends, or SIGINT or SIGTERM ends it.

    The notebook's environment has the portal's URL and key in ``MCPAUDIT_URL`` and
    ``MCPAUDIT_API_KEY``. The copy is in a temporary folder; folder and portal are gone at the end.
    Only in the main thread.

    Args:
        console: where to print.
        browser: open one.

    Returns:
        0 if it was ended by a signal; otherwise JupyterLab's own status.

    Raises:
        MissingExtra: JupyterLab is not installed.
        RuntimeError: the portal does not start.
    """
    if find_spec("jupyterlab") is None:
        raise MissingExtra("notebook", "a notebook")
    with (
        told_to_end() as told,
        tempfile.TemporaryDirectory(prefix="mcpaudit-tour-") as name,
        live_portal() as portal,
    ):
        folder = Path(name)
        (folder / "tour").mkdir()
        text = tour_file().read_text(encoding="utf-8")
        (folder / "tour" / "tour.ipynb").write_text(_LINK.sub(r"\1", text), encoding="utf-8")
        show_step(console, "JupyterLab on a copy of the tour, until it ends or Ctrl-C")
        show_lines(
            console,
            f"The copy is {folder / 'tour' / 'tour.ipynb'}; what you want to keep, save elsewhere.",
            f"A portal runs at {portal.url}; in the notebook, PortalClient() finds it. The tour",
            "needs none: it starts its own portal.",
        )
        environment = {
            "MCPAUDIT_URL": portal.url,
            "MCPAUDIT_API_KEY": portal.api_key,
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        }
        with _jupyterlab(folder / "tour", environment, browser=browser) as process:
            while process.poll() is None and not told.wait(_POLL_S):
                pass
            return process.poll() or 0


@contextmanager
def _jupyterlab(
    folder: Path, environment: dict[str, str], *, browser: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """JupyterLab as a process, ended with the block; its kernels end with it."""
    command = [sys.executable, "-m", "jupyterlab", "tour.ipynb", "--ServerApp.ip=127.0.0.1"]
    command += [] if browser else ["--no-browser"]
    # JupyterLab refuses to run as root by default; it listens on the loopback, with a token.
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        command,
        cwd=folder,
        env={**os.environ, **environment},
        # Ctrl-C in the terminal is for us: JupyterLab would ask whether it is meant.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
