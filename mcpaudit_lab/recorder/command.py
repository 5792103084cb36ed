"""Finds a server's executable, and masks secrets in commands and URLs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

from mcpaudit_lab.record import REDACTED, Sanitizer

__all__ = ["bare_url", "find_command", "masked_command"]


def find_command(command: Sequence[str]) -> list[str]:
    """Resolve a command for ``subprocess``.

    On Windows, programs such as ``npx`` are scripts, which start only by a name with an extension.
    """
    if sys.platform == "win32":
        return [shutil.which(command[0]) or command[0], *command[1:]]
    return list(command)


def masked_command(command: Sequence[str], sanitizer: Sanitizer) -> list[str]:
    """Mask the values of secret options, such as ``--token X`` and ``API_KEY=X``, and URLs."""
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
            # Keep the name of an option whose value is a URL: --url=https://…
            start = f"{name}=" if equals and "://" not in name else ""
            masked.append(start + bare_url(part.removeprefix(start)))
        else:
            masked.append(part)
        hidden = option and not equals and sanitizer.is_secret(part.lstrip("-"))
    return masked


def bare_url(url: str) -> str:
    """Strip user, password, query and fragment from a URL: any of them may hold a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return REDACTED
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
