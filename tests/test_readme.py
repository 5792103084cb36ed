"""The README: two commands, an example whose output is real, and what CI takes from it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tomllib
from pathlib import Path

from doc_blocks import Page, read_blocks

import mcpaudit_lab

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def shell_commands() -> list[str]:
    return [block.text for block in read_blocks(README) if block.info == "bash"]


def test_two_commands_do_everything() -> None:
    install, test = shell_commands()
    for command in (install, test):
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert install.endswith("&& .venv/bin/mcpaudit-lab demo")
    assert ".venv/bin/python -m pytest" in test


def test_the_example_prints_what_the_readme_shows(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        Page(README, skipped=("bash",)).run()


def test_the_purpose_takes_five_lines_and_the_example_ten() -> None:
    purpose = README.read_text(encoding="utf-8").split("\n\n")[1]
    assert len(purpose.splitlines()) == 5
    (example,) = (block.text for block in read_blocks(README) if block.info == "python")
    assert len(example.splitlines()) <= 10


def test_ci_runs_the_commands_of_the_readme() -> None:
    # The two lines of .ci/run that take them out of the README, run on their own.
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (function,) = re.findall(r"^readme_command\(\) \{\n.*?\n\}$", script, re.MULTILINE | re.DOTALL)
    for number, command in enumerate(shell_commands(), 1):
        found = subprocess.run(
            ["bash", "-euc", f"{function}\nreadme_command {number}"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        )
        assert found.stdout == f"{command}\n"
        assert f"readme_command {number}" in script


def test_the_changelog_has_the_version() -> None:
    assert f"## {mcpaudit_lab.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_licence_files_are_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    for name in (*project["license-files"], project["readme"]):
        assert (ROOT / name).stat().st_size > 100
