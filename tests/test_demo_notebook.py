"""`demo --notebook`: JupyterLab with the tour and a portal, and nothing left of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import stamina
from click.testing import CliRunner

import mcpaudit_lab
from mcpaudit_lab.cli import commands
from mcpaudit_lab.demo.notebook import tour_file

PACKAGE = str(Path(mcpaudit_lab.__file__).parents[1])


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, follow_redirects=True, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.soak)]
)
def test_it_serves_the_tour_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    pytest.importorskip("jupyterlab", reason="pip install 'mcpaudit-lab[test]'")
    code = "from mcpaudit_lab.cli import main; main()"
    log = tmp_path / "log.txt"
    environment = {
        **os.environ,
        "PYTHONPATH": PACKAGE,
        "TMPDIR": str(tmp_path),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "demo", "--notebook", "--no-browser"],
            env=environment,
            stdout=file,
            stderr=file,
        )
    try:
        for attempt in stamina.retry_context(
            on=AssertionError, timeout=60, wait_initial=0.2, wait_max=0.5, attempts=None
        ):
            with attempt:
                found = re.search(r"http://127\.0\.0\.1:\d+/lab\S*token=(\w+)", log.read_text())
                assert found, log.read_text()
                assert answers(found[0])
        assert found
        server = re.match(r"http://[^/]*", found[0])
        portal = re.search(r"A portal runs at (http://\S+);", log.read_text())
        assert server
        assert portal
        assert answers(f"{server[0]}/api/contents/tour.ipynb?token={found[1]}")
        (copy,) = tmp_path.glob("mcpaudit-tour-*/tour/tour.ipynb")
        cells, original = (
            json.loads(path.read_text(encoding="utf-8"))["cells"] for path in (copy, tour_file())
        )
        assert [code for code in cells if code["cell_type"] == "code"] == [
            code for code in original if code["cell_type"] == "code"
        ]
        # The pages are not there, what they are about is said all the same.
        assert "](../" in str(original[-1])
        assert "](" not in str(cells)
        assert "pages on\nloading, filters, SQL and\ncomparison have" in "".join(
            cells[-1]["source"]
        )
    finally:
        process.send_signal(number)
        assert process.wait(30) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert not answers(server[0])
    assert not answers(portal[1])
    assert not list(tmp_path.glob("mcpaudit-*"))


def test_without_jupyterlab_it_says_how_to_install_it() -> None:
    code = "import sys; sys.modules['jupyterlab'] = None; from mcpaudit_lab.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--notebook"],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith("pip install 'mcpaudit-lab[notebook]'\n")


@pytest.mark.parametrize("words", [["--keep"], ["--lab", "a.duckdb"]])
def test_a_notebook_goes_with_nothing_else(words: list[str]) -> None:
    result = CliRunner().invoke(commands, ["demo", "--notebook", *words])
    assert result.exit_code == 2
    assert "--notebook goes without --lab and --keep" in result.output


def test_the_tour_is_there() -> None:
    assert tour_file().read_text(encoding="utf-8").startswith("{")
