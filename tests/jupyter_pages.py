"""A real JupyterLab or Notebook 7, and its notebooks in a browser."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import stamina

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route

__all__ = ["JupyterServer", "NotebookPage", "jupyter_server", "open_notebook"]

ROOT = Path(__file__).parents[1]
# The only extensions that run beside JupyterLab's own; others have noise of theirs.
EXTENSIONS = ("@jupyter-widgets/jupyterlab-manager", "anywidget")
# Noise of their own: a text of the message, and a part of where it comes from.
NOISE = (
    # Notebook 7.6 asks for the settings of a plugin that it does not have.
    ("Cannot read properties of undefined (reading 'schema')", "/notebook_core."),
)
# What each calls itself in its settings, and where it shows a notebook alone.
APPLICATIONS = {
    "jupyterlab": ("LabApp", "doc/tree"),
    "notebook": ("JupyterNotebookApp", "notebooks"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/notebook-extension": {"tracker": {"windowingMode": "none"}},
    "@jupyterlab/apputils-extension": {"notification": {"fetchNews": "false"}},
    "@jupyterlab/docmanager-extension": {"plugin": {"autosave": False}},
}


@dataclass(frozen=True, slots=True)
class JupyterServer:
    """Where it and its pages of notebooks are, and the folder of these."""

    url: str
    pages: str
    token: str
    folder: Path


@contextmanager
def jupyter_server(folder: Path, application: str = "jupyterlab") -> Iterator[JupyterServer]:
    """JupyterLab, or ``notebook``, with nobody's settings but ours; ended by its id."""
    pytest.importorskip(application, reason="pip install 'mcpaudit-lab[test]'")
    settings, pages = APPLICATIONS[application]
    for name in ("notebooks", "config", "data", "runtime", "settings", "workspaces", "ipython"):
        (folder / name).mkdir()
    for package, plugins in SETTINGS.items():
        place = folder / "settings" / package
        place.mkdir(parents=True)
        for plugin, values in plugins.items():
            (place / f"{plugin}.jupyterlab-settings").write_text(json.dumps(values))
    disabled = {name: True for name in _extensions() if name not in EXTENSIONS}
    (folder / "config" / "labconfig").mkdir()
    page = folder / "config" / "labconfig" / "page_config.json"
    page.write_text(json.dumps({"disabledExtensions": disabled}))
    token = secrets.token_urlsafe(16)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", application, "--no-browser", "--allow-root"),
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder / 'notebooks'}",
        f"--{settings}.user_settings_dir={folder / 'settings'}",
        f"--{settings}.workspaces_dir={folder / 'workspaces'}",
        f"--{settings}.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--LabApp.news_url=None",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    with (folder / "jupyter.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{port}"
    try:
        for attempt in stamina.retry_context(
            on=httpx2.HTTPError, timeout=60, wait_initial=0.2, wait_max=0.5, attempts=None
        ):
            with attempt:
                httpx2.get(f"{url}/api/status?token={token}").raise_for_status()
        yield JupyterServer(url, f"{url}/{pages}", token, folder / "notebooks")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _extensions() -> set[str]:
    """The extensions that are installed, by name."""
    from jupyter_core.paths import jupyter_path

    found = {path for folder in jupyter_path("labextensions") for path in Path(folder).glob("*")}
    found |= {path for scope in found if scope.name.startswith("@") for path in scope.glob("*")}
    return {
        f"{path.parent.name}/{path.name}" if path.parent.name.startswith("@") else path.name
        for path in found
        if not path.name.startswith("@")
    }


@dataclass
class NotebookPage:
    """A notebook in the browser.

    Attributes:
        page: the page.
        errors: messages of errors on its console that are not Jupyter's own, and exceptions.
        foreign: requests that would have left for another host; refused.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def cell(self, number: int) -> Locator:
        """A cell of it, from 0."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def run(self, number: int) -> None:
        """Run a cell and wait until the kernel is idle again."""
        self.page.evaluate(
            """async (number) => {
                const panel = jupyterapp.shell.currentWidget;
                panel.content.activeCellIndex = number;
                panel.content.deselectAll();
                await jupyterapp.commands.execute("notebook:run-cell");
            }""",
            number,
        )
        self.wait_idle()

    def wait_idle(self) -> None:
        """Wait until the kernel is idle."""
        self.page.wait_for_function(
            "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        )

    def ask(self, code: str) -> Any:
        """Run code in the kernel beside the notebook, and give the JSON that it prints."""
        text = self.page.evaluate(
            """async (code) => {
                const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
                const future = kernel.requestExecute({code, store_history: false});
                let text = "";
                future.onIOPub = ({content}) => {
                    text += content.text ?? (content.traceback ?? []).join("\\n");
                };
                await future.done;
                return text;
            }""",
            code,
        )
        return json.loads(text)

    def wait_for(self, expression: str) -> None:
        """Wait until a Python expression holds in the kernel."""
        code = f"import json; print(json.dumps(bool({expression})))"
        for attempt in stamina.retry_context(
            on=AssertionError, timeout=10, wait_initial=0.1, wait_max=0.3, attempts=None
        ):
            with attempt:
                assert self.ask(code), expression

    def theme(self, name: str) -> None:
        """Change the theme: ``JupyterLab Light`` or ``JupyterLab Dark``."""
        self.page.evaluate(
            "name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name
        )
        light = str(name.endswith("Light")).lower()
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")
        # JupyterLab covers the page meanwhile, and stumbles over a second change before its end.
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")


@contextmanager
def open_notebook(
    browser: Browser,
    server: JupyterServer,
    name: str,
    *cells: str,
    width: int = 1100,
    height: int = 1000,
) -> Iterator[NotebookPage]:
    """Open a new notebook with these cells, and wait until its kernel is idle."""
    notebook = {
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{number}",
                "metadata": {},
                "source": source,
                "outputs": [],
                "execution_count": None,
            }
            for number, source in enumerate(cells)
        ],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (server.folder / name).write_text(json.dumps(notebook))
    context = browser.new_context(viewport={"width": width, "height": height})
    shown = NotebookPage(context.new_page())

    def hear(message: ConsoleMessage) -> None:
        place = message.location["url"]
        if message.type == "error":
            note(f"{message.text} ({place})")

    def note(error: str) -> None:
        if not any(text in error and path in error for text, path in NOISE):
            shown.errors.append(error)

    shown.page.on("console", hear)
    shown.page.on("pageerror", lambda error: note(error.stack or str(error)))

    def refuse(route: Route) -> None:
        shown.foreign.append(route.request.url)
        route.abort()

    context.route(lambda url: not url.startswith((server.url, "data:", "blob:")), refuse)
    try:
        shown.page.goto(f"{server.pages}/{name}?token={server.token}")
        shown.page.wait_for_function("window.jupyterapp !== undefined", timeout=60_000)
        shown.wait_idle()
        yield shown
    finally:
        context.close()
