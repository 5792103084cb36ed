"""Who asks: API keys, minted keys and bearer tokens, from the headers of a request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Final
from uuid import uuid4

import anyio

from mcpaudit_lab.errors import KeyNameTaken
from mcpaudit_lab.server.audit import Identity
from mcpaudit_lab.server.auth.api_keys import ApiKeys
from mcpaudit_lab.server.auth.keys import KeyStore, MintedKey, digest_key, looks_minted, mint_key
from mcpaudit_lab.server.auth.oidc import OidcVerifier

__all__ = ["Access", "Authenticator", "Denial"]

logger = logging.getLogger(__name__)

_TOUCH_EVERY: Final = timedelta(minutes=1)
_MAX_REMEMBERED: Final = 4096


class Denial(Enum):
    """Why a request is not authenticated."""

    MISSING = auto()
    """It has no credential, or one of a kind that is not taken."""
    INVALID = auto()
    """Its credential is wrong, revoked, or has expired."""


@dataclass(frozen=True, slots=True)
class Access:
    """An authenticated caller.

    Attributes:
        identity: who it is.
        may_mint: whether it may mint and revoke keys.
        expires_at: until when; None: no end.
        digest: of a minted key, which may be revoked during the request; ``b""`` otherwise.
    """

    identity: Identity
    may_mint: bool = False
    expires_at: datetime | None = None
    digest: bytes = field(default=b"", repr=False)


class Authenticator:
    """Finds who asks, and tells when that ends.

    Args:
        keys: the keys the portal was started with.
        store: minted keys; None where none are minted.
        oidc: bearer tokens; None where none are taken.
        now: the time, with a zone.
        recheck_s: how long a minted key is believed before the store is asked again. So long may a
            key live on that another portal on the same database revoked; one that this portal
            revoked ends at once.
    """

    def __init__(
        self,
        keys: ApiKeys,
        store: KeyStore | None = None,
        oidc: OidcVerifier | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        recheck_s: float = 2.0,
    ) -> None:
        self.keys = keys
        self.store = store
        self.oidc = oidc
        self._now = now
        self._recheck = timedelta(seconds=recheck_s)
        self._believed: dict[bytes, tuple[MintedKey, datetime]] = {}
        self._used: dict[str, datetime] = {}
        self._stored_use: dict[str, datetime] = {}
        self._revoked = anyio.Event()

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Access | Denial:
        """Read the credential of a request.

        ``X-API-Key`` goes before ``Authorization``: where both are sent, only the first is looked
        at, as recorded.

        Args:
            headers: the pairs of an ASGI scope; names in lower case.

        Raises:
            IssuerUnavailable: a token cannot be checked now.
            StoreUnavailable: a minted key cannot be looked up now.
        """
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in (b"x-api-key", b"authorization"):
                found.setdefault(name, value.strip())
        key = found.get(b"x-api-key")
        if key:
            return await self._by_key(key) or Denial.INVALID
        scheme, _, credential = found.get(b"authorization", b"").partition(b" ")
        credential = credential.strip()
        if scheme.lower() != b"bearer" or not credential:
            return Denial.MISSING
        return await self._by_key(credential) or await self._by_token(credential) or Denial.INVALID

    async def _by_key(self, key: bytes) -> Access | None:
        name = self.keys.name_of(key)
        if name is not None:
            return Access(Identity.from_key(name), may_mint=True)
        if self.store is None or not looks_minted(key):
            return None
        digest = digest_key(key)
        minted = await self._minted(digest)
        if minted is None:
            return None
        await self._note_use(minted)
        return Access(Identity.from_key(minted.name), expires_at=minted.expires_at, digest=digest)

    async def _minted(self, digest: bytes) -> MintedKey | None:
        """The valid key with this hash, as the store has it or had it a moment ago."""
        if self.store is None:
            return None
        now = self._now()
        minted, checked = self._believed.get(digest, (None, now))
        if minted is None or now - checked >= self._recheck or now < checked:
            minted = await self.store.find(digest)
            self._believed.pop(digest, None)
            if minted is None:
                return None
            if len(self._believed) >= _MAX_REMEMBERED:
                self._believed.clear()
            self._believed[digest] = minted, now
        return minted if minted.is_valid(now) else None

    async def _by_token(self, token: bytes) -> Access | None:
        if self.oidc is None:
            return None
        found = await self.oidc.verify(token)
        if found is None:
            return None
        identity, expires_s = found
        return Access(
            identity,
            may_mint=identity.subject in self.oidc.config.admins,
            expires_at=datetime.fromtimestamp(expires_s, UTC)
            + timedelta(seconds=self.oidc.config.leeway_s),
        )

    async def _note_use(self, minted: MintedKey) -> None:
        now = self._now()
        self._used[minted.id] = now
        last = self._stored_use.get(minted.id)
        if self.store is not None and (last is None or now - last >= _TOUCH_EVERY):
            self._stored_use[minted.id] = now
            try:
                await self.store.touch({minted.id: now})
            except Exception as error:  # noqa: BLE001 - a time that is not kept lets nobody out
                logger.warning("when a key was used is not stored: %s", type(error).__name__)

    async def until_invalid(self, access: Access) -> None:
        """Return when this access has ended: revoked, or expired. Otherwise never."""
        while True:
            revoked = self._revoked
            now = self._now()
            if access.expires_at is not None and now >= access.expires_at:
                return
            if access.digest and await self._minted(access.digest) is None:
                return
            with anyio.move_on_after(self._wait_s(access, now)):
                await revoked.wait()

    def _wait_s(self, access: Access, now: datetime) -> float | None:
        waits = [self._recheck.total_seconds()] if access.digest else []
        if access.expires_at is not None:
            waits.append((access.expires_at - now).total_seconds())
        return max(0.01, min(waits)) if waits else float("inf")

    # --- what the key routes do ------------------------------------------------------------------

    async def mint(
        self, name: str, description: str, created_by: str, expires_at: datetime | None
    ) -> tuple[MintedKey, str]:
        """Make a key and keep its hash. The key itself is in the answer, and nowhere else.

        Raises:
            KeyNameTaken: a key of this name exists.
            RuntimeError: no keys are stored here.
        """
        store = self._existing_store()
        if name in self.keys:
            raise KeyNameTaken(name)
        text = mint_key()
        minted = MintedKey(
            id=str(uuid4()),
            name=name,
            digest=digest_key(text.encode()),
            description=description,
            created_by=created_by,
            created_at=self._now(),
            expires_at=expires_at,
        )
        await store.add(minted)
        return minted, text

    async def list_minted(self) -> list[MintedKey]:
        """All minted keys, newest first, with their latest use as far as this process knows."""
        keys = await self._existing_store().list_keys()
        return [
            replace(key, last_used_at=max(used, key.last_used_at or used))
            if (used := self._used.get(key.id))
            else key
            for key in keys
        ]

    async def revoke(self, name: str) -> bool:
        """Revoke a key and end everything open under it; False if there is no such key."""
        removed = await self._existing_store().remove(name)
        self._believed = {
            digest: entry for digest, entry in self._believed.items() if entry[0].name != name
        }
        self._revoked.set()
        self._revoked = anyio.Event()
        return removed

    def _existing_store(self) -> KeyStore:
        if self.store is None:
            raise RuntimeError("no keys are stored here")
        return self.store
