"""The API keys a portal is started with: from options, a file, or the environment."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["ENVIRONMENT", "ApiKeys", "parse_keys"]

ENVIRONMENT = "MCPAUDIT_API_KEYS"
"""The environment variable with keys: ``NAME=KEY``, one a line or separated by commas."""


def parse_keys(lines: Iterable[str], source: str) -> dict[str, str]:
    """Parse ``NAME=KEY`` lines into name to key. Skips blank lines and lines starting with ``#``.

    Args:
        lines: the text; spaces around name and key do not count.
        source: the origin of the lines, for messages.

    Raises:
        ValueError: a malformed line, or a repeated name. The message has the line number and
            nothing of the line.
    """
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, key = (part.strip() for part in text.partition("="))
        if not (name and equals and key):
            raise ValueError(f"{source}, line {number}: write NAME=KEY")
        if name in keys:
            raise ValueError(f"{source}, line {number}: this name occurs twice")
        keys[name] = key
    return keys


class ApiKeys:
    """Names and keys. Stores hashes under a random secret, and shows names only.

    Args:
        keys: name to key.

    Raises:
        ValueError: a name or a key is empty, or two names have one key.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        if not all(name and key for name, key in keys.items()):
            raise ValueError("an API key has a name and a text, neither empty")
        if len(set(keys.values())) < len(keys):
            raise ValueError("two API keys are equal, so their callers could not be told apart")
        self._secret = secrets.token_bytes(32)
        self._digests = {name: self._digest(key.encode()) for name, key in keys.items()}

    @classmethod
    def collect(
        cls,
        keys: Mapping[str, str] | None = None,
        *,
        file: Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> ApiKeys:
        """All configured keys: from arguments, a file, and the environment (:data:`ENVIRONMENT`).

        Raises:
            ValueError: a line is malformed, or one name comes with two keys.
            OSError: the file cannot be read.
        """
        found: dict[str, str] = {}
        variable = environ.get(ENVIRONMENT, "").replace(",", "\n").splitlines()
        sources = [dict(keys or {}), parse_keys(variable, ENVIRONMENT)]
        if file is not None:
            sources.append(parse_keys(file.read_text(encoding="utf-8").splitlines(), str(file)))
        for source in sources:
            for name, key in source.items():
                if found.setdefault(name, key) != key:
                    raise ValueError(f"the API key name {name!r} comes with two different keys")
        return cls(found)

    def name_of(self, key: bytes) -> str | None:
        """The name of a key's owner; None for an unknown key. Takes the same time either way."""
        asked = self._digest(key)
        found = None
        for name, digest in self._digests.items():
            # No early end, and no comparison of the keys themselves.
            if hmac.compare_digest(digest, asked):
                found = name
        return found

    def __contains__(self, name: str) -> bool:
        """Whether a key has this name."""
        return name in self._digests

    def __len__(self) -> int:
        return len(self._digests)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order they were given."""
        return tuple(self._digests)

    def __repr__(self) -> str:
        return f"ApiKeys({', '.join(map(repr, self._digests))})"

    def _digest(self, key: bytes) -> bytes:
        # Keyed BLAKE2 instead of HMAC: HMAC releases the interpreter lock for every key, and under
        # load a request waits milliseconds to get it back.
        return hashlib.blake2b(key, key=self._secret, digest_size=32).digest()
