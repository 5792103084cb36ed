"""The command of a server: how it is found, and how it is shown without its secrets."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

from mcpaudit_lab.record import REDACTED, Sanitizer

__all__ = ["bare_url", "find_command", "masked_command"]


def find_command(command: Sequence[str]) -> list[str]:
    """The command as a process is started with it.

    On Windows programs such as ``npx`` are scripts, which must be named with their ending.
    """
    if sys.platform == "win32":
        return [shutil.which(command[0]) or command[0], *command[1:]]
    return list(command)


def masked_command(command: Sequence[str], sanitizer: Sanitizer) -> list[str]:
    """The command with the values of secret options taken out: ``--token X``, ``API_KEY=X``."""
    masked: list[str] = []
    hidden = False
    for part in command:
        name, equals, _ = part.partition("=")
        option = part.startswith("-")
        if hidden and not option:
            masked.append(REDACTED)
        elif equals and "://" not in name and sanitizer.is_secret(name.lstrip("-")):
            masked.append(f"{name}={REDACTED}")
        elif "://" in part:
            # Of an option with a URL the name stays: --url=https://…
            start = f"{name}=" if equals and "://" not in name else ""
            masked.append(start + bare_url(part.removeprefix(start)))
        else:
            masked.append(part)
        hidden = option and not equals and sanitizer.is_secret(part.lstrip("-"))
    return masked


def bare_url(url: str) -> str:
    """A URL without user, password, query and fragment, which may contain secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return REDACTED
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
