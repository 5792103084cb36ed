"""Authenticates requests by API key, minted key or bearer token."""

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
from mcpaudit_lab.server.auth.minted_keys import (
    KeyStore,
    MintedKey,
    digest_key,
    looks_minted,
    mint_key,
)
from mcpaudit_lab.server.auth.oidc import OidcVerifier

__all__ = ["Access", "Authenticator", "Denial"]

logger = logging.getLogger(__name__)

_TOUCH_EVERY: Final = timedelta(minutes=1)
_MAX_REMEMBERED: Final = 4096


class Denial(Enum):
    """Why a request is not authenticated."""

    MISSING = auto()
    """The request has no credential of a supported kind."""
    INVALID = auto()
    """The credential is unknown, revoked or expired."""


@dataclass(frozen=True, slots=True)
class Access:
    """An authenticated caller's access.

    Attributes:
        identity: the caller.
        may_mint: whether the caller may mint and revoke keys.
        expires_at: end of the access; None if it does not expire.
        digest: hash of a minted key, which may be revoked later; ``b""`` for other credentials.
    """

    identity: Identity
    may_mint: bool = False
    expires_at: datetime | None = None
    digest: bytes = field(default=b"", repr=False)


class Authenticator:
    """Authenticates callers and reports when their access ends.

    Args:
        keys: the keys given at the start of the portal.
        store: store of minted keys; None disables them.
        oidc: verifier of bearer tokens; None disables them.
        now: the current time, with a zone.
        recheck_s: how long a minted key is cached, in seconds. A key revoked by another portal on
            the same database stays valid that long; one revoked by this portal ends at once.
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
        self._cached: dict[bytes, tuple[MintedKey, datetime]] = {}
        self._used: dict[str, datetime] = {}
        self._stored_use: dict[str, datetime] = {}
        self._revoked = anyio.Event()

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Access | Denial:
        """Authenticate a request.

        ``X-API-Key`` takes precedence over ``Authorization``: if both are sent, the latter is
        ignored, as recorded.

        Args:
            headers: the header pairs of an ASGI scope; names in lower case.

        Raises:
            IssuerUnavailable: a token cannot be verified now.
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
        await self._record_use(minted)
        return Access(Identity.from_key(minted.name), expires_at=minted.expires_at, digest=digest)

    async def _minted(self, digest: bytes) -> MintedKey | None:
        """The valid key with this hash, from the store or the cache."""
        if self.store is None:
            return None
        now = self._now()
        minted, checked = self._cached.get(digest, (None, now))
        if minted is None or now - checked >= self._recheck or now < checked:
            minted = await self.store.find(digest)
            self._cached.pop(digest, None)
            if minted is None:
                return None
            if len(self._cached) >= _MAX_REMEMBERED:
                self._cached.clear()
            self._cached[digest] = minted, now
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

    async def _record_use(self, minted: MintedKey) -> None:
        now = self._now()
        self._used[minted.id] = now
        last = self._stored_use.get(minted.id)
        if self.store is not None and (last is None or now - last >= _TOUCH_EVERY):
            self._stored_use[minted.id] = now
            try:
                await self.store.touch({minted.id: now})
            except Exception as error:  # noqa: BLE001 - last_used_at is not worth a refusal
                logger.warning("the last use of a key was not stored: %s", type(error).__name__)

    async def wait_until_invalid(self, access: Access) -> None:
        """Wait until this access is revoked or expires; never returns otherwise."""
        while True:
            revoked = self._revoked
            now = self._now()
            if access.expires_at is not None and now >= access.expires_at:
                return
            if access.digest and await self._minted(access.digest) is None:
                return
            with anyio.move_on_after(self._recheck_after_s(access, now)):
                await revoked.wait()

    def _recheck_after_s(self, access: Access, now: datetime) -> float | None:
        waits = [self._recheck.total_seconds()] if access.digest else []
        if access.expires_at is not None:
            waits.append((access.expires_at - now).total_seconds())
        return max(0.01, min(waits)) if waits else float("inf")

    # --- for the key routes ----------------------------------------------------------------------

    async def mint(
        self, name: str, description: str, created_by: str, expires_at: datetime | None
    ) -> tuple[MintedKey, str]:
        """Mint a key and store its hash. Returns the stored record and the key's only plaintext.

        Raises:
            KeyNameTaken: there is a key with this name.
            RuntimeError: the portal has no key store.
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
        """All minted keys, newest first, with the latest use known to this portal."""
        keys = await self._existing_store().list_keys()
        return [
            replace(key, last_used_at=max(used, key.last_used_at or used))
            if (used := self._used.get(key.id))
            else key
            for key in keys
        ]

    async def revoke(self, name: str) -> bool:
        """Remove a key and end its open streams; False if there is no key with this name."""
        removed = await self._existing_store().remove(name)
        self._cached = {
            digest: entry for digest, entry in self._cached.items() if entry[0].name != name
        }
        self._revoked.set()
        self._revoked = anyio.Event()
        return removed

    def _existing_store(self) -> KeyStore:
        if self.store is None:
            raise RuntimeError("this portal has no key store")
        return self.store
