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
    """``NAME=KEY`` lines -> name to key. Blank lines and those that begin with ``#`` are skipped.

    Args:
        lines: the text; spaces around name and key do not count.
        source: where they come from, for messages.

    Raises:
        ValueError: a line is not of that form, or a name stands twice. The message tells the
            number of the line and nothing of what is in it.
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
            raise ValueError(f"{source}, line {number}: this name stands twice")
        keys[name] = key
    return keys


class ApiKeys:
    """Names and keys. It keeps hashes under a secret of its own, and shows names only.

    Args:
        keys: name to key.

    Raises:
        ValueError: a name or a key is empty, or two names have one key.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        if not all(name and key for name, key in keys.items()):
            raise ValueError("an API key has a name and a text, neither empty")
        if len(set(keys.values())) < len(keys):
            raise ValueError("two API keys are the same: whose call it was could not be told")
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
        """All keys there are: given, in a file, and in the environment (:data:`ENVIRONMENT`).

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
        """Whose key it is; None: nobody's. It takes as long for a wrong key as for a right one."""
        asked = self._digest(key)
        found = None
        for name, digest in self._digests.items():
            # No early end, and no comparison of the keys themselves.
            if hmac.compare_digest(digest, asked):
                found = name
        return found

    def __contains__(self, name: str) -> bool:
        """Whether there is a key of this name."""
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
        # Keyed BLAKE2 and not HMAC: that one lets go of the interpreter for every key, and under
        # load a request waits for milliseconds to have it back.
        return hashlib.blake2b(key, key=self._secret, digest_size=32).digest()
