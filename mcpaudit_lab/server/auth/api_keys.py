"""API keys given when a portal starts: in options, a file, or the environment."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["ENVIRONMENT", "ApiKeys", "parse_keys"]

ENVIRONMENT = "MCPAUDIT_API_KEYS"
"""Environment variable with keys: ``NAME=KEY``, separated by newlines or commas."""


def parse_keys(lines: Iterable[str], source: str) -> dict[str, str]:
    """Parse ``NAME=KEY`` lines to name and key; skips blank lines and ``#`` comments.

    Args:
        lines: the lines; spaces around name and key are stripped.
        source: name of the source, for error messages.

    Raises:
        ValueError: a line is malformed or a name is duplicated. The message gives the line number
            but not its content.
    """
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, key = (part.strip() for part in text.partition("="))
        if not (name and equals and key):
            raise ValueError(f"{source}, line {number}: not of the form NAME=KEY")
        if name in keys:
            raise ValueError(f"{source}, line {number}: duplicate name")
        keys[name] = key
    return keys


class ApiKeys:
    """A set of named API keys. Stores only keyed hashes; ``repr`` shows only names.

    Args:
        keys: name to key.

    Raises:
        ValueError: a name or key is empty, or two names share a key.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        if not all(name and key for name, key in keys.items()):
            raise ValueError("an API key needs a name and a key, neither empty")
        if len(set(keys.values())) < len(keys):
            raise ValueError("two API keys are equal: give each name a key of its own")
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
        """Collect the keys given, in a file, and in the environment (:data:`ENVIRONMENT`).

        Raises:
            ValueError: a line is malformed, or a name has two different keys.
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
                    raise ValueError(f"the API key name {name!r} has two different keys")
        return cls(found)

    def name_of(self, key: bytes) -> str | None:
        """The name of a key; None if unknown. Takes the same time for valid and invalid keys."""
        digest_of_key = self._digest(key)
        found = None
        for name, digest in self._digests.items():
            # No early exit, and no comparison of the keys themselves.
            if hmac.compare_digest(digest, digest_of_key):
                found = name
        return found

    def __contains__(self, name: str) -> bool:
        """Whether there is a key with this name."""
        return name in self._digests

    def __len__(self) -> int:
        return len(self._digests)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order given."""
        return tuple(self._digests)

    def __repr__(self) -> str:
        return f"ApiKeys({', '.join(map(repr, self._digests))})"

    def _digest(self, key: bytes) -> bytes:
        # Keyed BLAKE2 rather than HMAC, which releases the GIL for each key: under load a request
        # waits milliseconds to get it back.
        return hashlib.blake2b(key, key=self._secret, digest_size=32).digest()
