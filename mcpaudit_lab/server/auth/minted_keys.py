"""API keys minted by a portal: stored as hashes, revocable, with an optional expiry.

A key has 32 random bytes, so its plain SHA-256 cannot be reversed by guessing, and checking a key
is one lookup by hash. A slow hash, as for passwords, would add only cost.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio.to_thread
from sqlalchemy import Column, LargeBinary, MetaData, Table, Text, select
from sqlalchemy.exc import IntegrityError

from mcpaudit_lab.errors import KeyNameTaken
from mcpaudit_lab.record import format_time
from mcpaudit_lab.tables import Moment

if TYPE_CHECKING:
    from sqlalchemy import Engine, Row

__all__ = [
    "KeyStore",
    "MemoryKeyStore",
    "MintedKey",
    "SqlKeyStore",
    "digest_key",
    "looks_minted",
    "mint_key",
]

_PREFIX: Final = b"mt_"
_KEY_BYTES: Final = 46


@dataclass(frozen=True, slots=True)
class MintedKey:
    """The stored record of a key, without the key.

    Attributes:
        id: a UUID.
        name: unique name; the subject of its holder is ``apikey:<name>``.
        digest: SHA-256 of the key.
        description: free text for people.
        created_by: the subject that minted the key.
        created_at: with a zone.
        expires_at: invalid from this time on; None if it does not expire.
        last_used_at: accurate to about a minute; None if never used.
    """

    id: str
    name: str
    digest: bytes = field(repr=False)
    description: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether the key has not expired."""
        return self.expires_at is None or now < self.expires_at

    def to_wire(self) -> dict[str, Any]:
        """The key as ``/api/v1/admin/keys`` shows it: without empty members and the hash."""
        wire: dict[str, Any] = {"id": self.id, "name": self.name}
        if self.description:
            wire["description"] = self.description
        if self.created_by:
            wire["created_by"] = self.created_by
        wire["created_at"] = format_time(self.created_at)
        for name in ("expires_at", "last_used_at"):
            moment = getattr(self, name)
            if moment is not None:
                wire[name] = format_time(moment)
        return wire


def mint_key() -> str:
    """A new random key: ``mt_`` and 43 characters that encode 32 random bytes."""
    return _PREFIX.decode() + secrets.token_urlsafe(32)


def digest_key(key: bytes) -> bytes:
    """The hash that is stored of a key."""
    return hashlib.sha256(key).digest()


def looks_minted(key: bytes) -> bool:
    """Whether the key has the form of a minted key."""
    return len(key) == _KEY_BYTES and key.startswith(_PREFIX)


class KeyStore(Protocol):
    """Stores minted keys."""

    async def add(self, key: MintedKey) -> None:
        """Store a key.

        Raises:
            KeyNameTaken: there is a key with this name.
        """

    async def list_keys(self) -> list[MintedKey]:
        """All keys, newest first."""

    async def find(self, digest: bytes) -> MintedKey | None:
        """The key with this hash, expired or not."""

    async def remove(self, name: str) -> bool:
        """Remove a key; False if there is no key with this name."""

    async def touch(self, used: Mapping[str, datetime]) -> None:
        """Store the time of last use, by key id."""


class MemoryKeyStore:
    """Keeps minted keys in memory, for the life of the process."""

    def __init__(self) -> None:
        self._keys: dict[str, MintedKey] = {}

    async def add(self, key: MintedKey) -> None:
        """Store a key.

        Raises:
            KeyNameTaken: there is a key with this name.
        """
        if key.name in self._keys:
            raise KeyNameTaken(key.name)
        self._keys[key.name] = key

    async def list_keys(self) -> list[MintedKey]:
        """All keys, newest first."""
        return sorted(self._keys.values(), key=lambda key: key.created_at, reverse=True)

    async def find(self, digest: bytes) -> MintedKey | None:
        """The key with this hash."""
        return next((key for key in self._keys.values() if key.digest == digest), None)

    async def remove(self, name: str) -> bool:
        """Remove a key; False if there is no key with this name."""
        return self._keys.pop(name, None) is not None

    async def touch(self, used: Mapping[str, datetime]) -> None:
        """Store the time of last use, by key id."""
        for name, key in self._keys.items():
            if key.id in used:
                self._keys[name] = replace(key, last_used_at=used[key.id])


# Not api_keys: the reference server has a table of that name with other columns.
_KEYS = Table(
    "mcpaudit_keys",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("last_used_at", Moment),
)


class SqlKeyStore:
    """Keeps minted keys in the portal's database, shared by all portals on it.

    Args:
        engine: SQLite or PostgreSQL; creates the table ``mcpaudit_keys`` if missing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        _KEYS.create(engine, checkfirst=True)

    async def add(self, key: MintedKey) -> None:
        """Store a key.

        Raises:
            KeyNameTaken: there is a key with this name.
        """
        await anyio.to_thread.run_sync(self._add, key)

    def _add(self, key: MintedKey) -> None:
        values = {column.name: getattr(key, column.name) for column in _KEYS.columns}
        try:
            with self._engine.begin() as connection:
                connection.execute(_KEYS.insert().values(**values))
        except IntegrityError:
            # Not chained: its message contains the statement.
            raise KeyNameTaken(key.name) from None

    async def list_keys(self) -> list[MintedKey]:
        """All keys, newest first."""
        return await anyio.to_thread.run_sync(self._list)

    def _list(self) -> list[MintedKey]:
        newest_first = select(_KEYS).order_by(_KEYS.c.created_at.desc(), _KEYS.c.id)
        with self._engine.connect() as connection:
            return [_key(row) for row in connection.execute(newest_first)]

    async def find(self, digest: bytes) -> MintedKey | None:
        """The key with this hash, expired or not."""
        return await anyio.to_thread.run_sync(self._find, digest)

    def _find(self, digest: bytes) -> MintedKey | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(_KEYS).where(_KEYS.c.digest == digest)).one_or_none()
        return None if row is None else _key(row)

    async def remove(self, name: str) -> bool:
        """Remove a key; False if there is no key with this name."""
        return await anyio.to_thread.run_sync(self._remove, name)

    def _remove(self, name: str) -> bool:
        with self._engine.begin() as connection:
            return connection.execute(_KEYS.delete().where(_KEYS.c.name == name)).rowcount > 0

    async def touch(self, used: Mapping[str, datetime]) -> None:
        """Store the time of last use, by key id."""
        await anyio.to_thread.run_sync(self._touch, dict(used))

    def _touch(self, used: Mapping[str, datetime]) -> None:
        with self._engine.begin() as connection:
            for key_id, moment in used.items():
                connection.execute(
                    _KEYS.update().where(_KEYS.c.id == key_id).values(last_used_at=moment)
                )


def _key(row: Row[Any]) -> MintedKey:
    return MintedKey(**{**row._asdict(), "digest": bytes(row.digest)})
