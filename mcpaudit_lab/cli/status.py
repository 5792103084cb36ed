"""Exit statuses of commands, and error messages."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

import click

from mcpaudit_lab.errors import LabInUse, LabVersionError, McpAuditError, RecordError

__all__ = ["FOUND", "LOOK", "STATUS_HELP", "CommandGroup", "Trouble"]

FOUND: Final = 0
LOOK: Final = 1
_TROUBLE: Final = 2
# As a shell has it for a process that SIGINT or SIGPIPE ended.
_INTERRUPTED: Final = 130
_PIPE_CLOSED: Final = 141

STATUS_HELP: Final = """\b
Exit status:
  0  success
  1  done, but check: nothing matched, no such event, the sides differ or
     cannot be compared, lines were rejected
  2  not done: wrong usage, or an error; stderr says which
"""

# What to do next, where the message of an error does not say it.
_NEXT: Final[dict[type, str]] = {
    LabInUse: "Or close it there (in a notebook: lab.close()).",
    LabVersionError: "If a newer version wrote it, update; otherwise give --lab another name.",
}


# Missing values and how to supply them, by environment variable.
_MISSING: Final = {
    "MCPAUDIT_LAB": (
        "Name the lab, --lab FILE, or once: export MCPAUDIT_LAB=FILE. "
        "To make one with a sample in it: mcpaudit-lab demo --lab demo.duckdb."
    ),
    "MCPAUDIT_DATABASE_URL": (
        "Give sqlite:///audit.db or the like, or a PostgreSQL's URL in MCPAUDIT_DATABASE_URL."
    ),
    "MCPAUDIT_URL": "Give the portal's, such as http://localhost:8080, or set MCPAUDIT_URL.",
}


class Trouble(click.ClickException):
    """Something that ends the command with status 2, and what to do about it."""

    exit_code = _TROUBLE


class CommandGroup(click.Group):
    """Commands in the order they were added. What they return is the exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in order."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors that are ours become messages."""
        # What the terminal cannot show is shown escaped; the command does not fail of it.
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_output()
            ctx.exit(_PIPE_CLOSED)
        except (KeyboardInterrupt, RuntimeError) as error:
            # The second is what DuckDB makes of the first while it runs a query.
            if isinstance(error, RuntimeError) and str(error) != "Query interrupted":
                raise
            click.echo("interrupted", err=True)
            ctx.exit(_INTERRUPTED)
        except click.MissingParameter as error:
            said = _MISSING.get(str(error.param.envvar)) if error.param else None
            if said is None:
                raise
            raise click.MissingParameter(f"\n{said}", ctx=error.ctx, param=error.param) from None
        except _known_errors() as error:
            raise Trouble(_explain(error)) from None
        ctx.exit(status if isinstance(status, int) else FOUND)


def _forget_output() -> None:
    """Discard the interpreter's last flush: nobody reads standard output any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _known_errors() -> tuple[type[Exception], ...]:
    """Ours, the system's, and DuckDB's if it was needed at all."""
    duckdb = sys.modules.get("duckdb")
    return (McpAuditError, OSError) if duckdb is None else (McpAuditError, OSError, duckdb.Error)


def _explain(error: Exception) -> str:
    from mcpaudit_lab.record import visible

    text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {text}"
    if isinstance(error, RecordError):
        text = f"{error.detail} ({error.reason})"
    lines = [visible(line) for line in (text or type(error).__name__).splitlines()]
    return "\n".join(line for line in (*lines, _NEXT.get(type(error))) if line)
