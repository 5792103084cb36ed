"""The command that teaches a shell to complete: ``completion``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mcpaudit_lab.cli.output import say
from mcpaudit_lab.cli.status import FOUND

__all__ = ["completion"]

_PROGRAM = "mcpaudit-lab"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--install", is_flag=True, help="Put it where the shell looks for completions.")
@click.pass_context
def completion(context: click.Context, *, shell: str, install: bool) -> int:
    """Make a shell complete commands: print it, or install it.

    With --install it is written to the folder from which the shell loads completions; no file of
    yours is changed. Start a new shell after it.

    Exit status: 0.
    """
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    if maker is None:  # pragma: no cover - click knows the three
        raise click.UsageError(f"no completion for {shell}")
    script = maker(context.find_root().command, {}, _PROGRAM, "_MCPAUDIT_LAB_COMPLETE").source()
    if not install:
        click.echo(script)
        return FOUND
    path = _place(shell)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script + "\n", encoding="utf-8")
    say(f"Written to {path}. Start a new shell.")
    if shell == "zsh":
        line = f"fpath+=({path.parent}); autoload -Uz compinit; compinit"
        say(f"If ~/.zshrc does not say so yet: {line}")
    return FOUND


def _place(shell: str) -> Path:
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return {
        "bash": data / "bash-completion" / "completions" / _PROGRAM,
        "zsh": data / "zsh" / "site-functions" / f"_{_PROGRAM}",
        "fish": config / "fish" / "completions" / f"{_PROGRAM}.fish",
    }[shell]
