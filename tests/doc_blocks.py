"""Code blocks of Markdown pages, and how they are run.

``python`` blocks of a page run in order, in one namespace, in an empty folder. What they print
stands in a ``text`` block right behind, and nothing else may be printed. ``console`` blocks hold
commands behind ``$`` and what they answer; after ``export NAME=value`` the variable is set for the
commands that follow. ``$NAME`` in a command is the variable of the process. A line that is ``…``
stands for any lines, ``…`` in a line for any text. ``json`` blocks are JSON. ``bash`` blocks are
run by a shell of their own each; what they print stands behind them, as with Python.

A page is read like a notebook: what its names hold, labs, clients of portals and stores, is closed
behind its last block. Nothing else may be left open.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from mcpaudit_lab import Lab, PortalClient
from mcpaudit_lab.cli import commands
from mcpaudit_lab.record.jsontext import loads
from mcpaudit_lab.server import SqlLogger

__all__ = ["Block", "Page", "read_blocks"]

_FENCE = re.compile(r"^```(.*)$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: what stands behind the fence, the text, and the line of the fence."""

    info: str
    text: str
    line: int


def read_blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    blocks: list[Block] = []
    info, start, inside = "", 0, False
    lines: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is None:
            lines.append(line)
        elif inside:
            blocks.append(Block(info, "\n".join(lines), start))
            inside = False
        else:
            info, start, inside, lines = fence[1].strip(), number, True, []
    assert not inside, f"{path.name}, line {start}: the block has no end"
    return blocks


@dataclass(slots=True)
class Page:
    """A page whose blocks are run.

    Attributes:
        path: the page.
        skipped: kinds of blocks that somebody else runs.
        names: the namespace of its Python blocks.
        environment: that of its commands.
    """

    path: Path
    skipped: tuple[str, ...] = ()
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    environment: dict[str, str | None] = field(default_factory=lambda: {"MCPAUDIT_LAB": None})

    def run(self) -> None:
        """Run the blocks in the current folder, and compare what they print."""
        try:
            self._run_blocks()
        finally:
            for value in self.names.values():
                if isinstance(value, (Lab, PortalClient, SqlLogger)):
                    value.close()
            self.names.clear()

    def _run_blocks(self) -> None:
        blocks = [block for block in read_blocks(self.path) if block.info not in self.skipped]
        for block, following in zip(blocks, [*blocks[1:], None], strict=False):
            place = f"{self.path.name}, line {block.line}"
            if block.info in {"python", "bash"}:
                shown = following.text if following and following.info == "text" else ""
                run = self._python if block.info == "python" else self._bash
                assert_shown(run(block, place), shown, place)
            elif block.info == "console":
                self._console(block, place)
            elif block.info == "json":
                loads(block.text)
            elif block.info.startswith("{"):
                continue  # a directive of the site's generator, which knows what to do with it
            else:
                assert block.info == "text", f"{place}: nobody runs {block.info!r} blocks"

    def _python(self, block: Block, place: str) -> str:
        printed = io.StringIO()
        code = compile("\n" * block.line + block.text, str(self.path), "exec")
        with contextlib.redirect_stdout(printed):
            try:
                exec(code, self.names)  # noqa: S102 - the documentation's own code
            except Exception as error:
                raise AssertionError(f"{place}: {type(error).__name__}: {error}") from error
        return printed.getvalue()

    def _bash(self, block: Block, place: str) -> str:
        variables = {name: value for name, value in self.environment.items() if value is not None}
        # A shell of a reader has the command on its path.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            env=os.environ | {"PATH": path} | variables,
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, f"{place}: {done.stdout}{done.stderr}"
        return done.stdout

    def _console(self, block: Block, place: str) -> None:
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            words = [os.path.expandvars(word) for word in shlex.split(command, comments=True)]
            if words[0] == "export":
                name, _, value = words[1].partition("=")
                self.environment[name] = value
                continue
            assert words[0] == "mcpaudit-lab", f"{place}: nobody runs {command!r}"
            result = CliRunner(env=self.environment).invoke(commands, words[1:])
            assert_shown(result.output, shown, f"{place}: {command}")
            assert result.exit_code in {0, 1, 2}, result.exception


def assert_shown(printed: str, shown: str, place: str) -> None:
    """What a page shows is what was printed; trailing spaces and empty lines at the end aside."""
    lines = [line.rstrip() for line in printed.rstrip().splitlines()]
    wanted = [line.rstrip() for line in shown.rstrip().splitlines()]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
        for line in wanted
    )
    if not re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)):
        assert lines == wanted, place
