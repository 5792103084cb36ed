"""Verifies bearer tokens of an OpenID Connect issuer: signature, issuer, audience and dates.

Only asymmetric signatures are accepted: a symmetric one can be forged by any verifier (RFC 8725
section 3.1). The issuer's keys are fetched on first use and cached. A token with an unknown key id
refetches them, at most every 30 seconds, so that invented ids put no load on the issuer.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import anyio
import jwt

from mcpaudit_lab.errors import IssuerUnavailable
from mcpaudit_lab.server.audit import Identity

__all__ = ["FetchJson", "OidcConfig", "OidcVerifier", "fetch_json", "looks_like_token"]

logger = logging.getLogger(__name__)

FetchJson: TypeAlias = Callable[[str], Awaitable[Any]]

_ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip  # reads better as a list than as a column
_MAX_TOKEN_BYTES: Final = 16_384
_MAX_RESPONSE_BYTES: Final = 1_048_576
_MIN_REFRESH_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class OidcConfig:
    """The issuer and audience of accepted tokens.

    Attributes:
        issuer: the issuer's URL, exactly as in ``iss``.
        audience: required member of ``aud``.
        jwks_url: URL of the issuer's keys; ``""`` to take it from the discovery document.
        jwks_max_age_s: maximum age of cached keys, in seconds.
        leeway_s: tolerated clock difference, in seconds.
        admins: subjects that may mint and revoke API keys.
    """

    issuer: str
    audience: str
    jwks_url: str = ""
    jwks_max_age_s: float = 3600.0
    leeway_s: float = 30.0
    admins: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.issuer or not self.audience:
            raise ValueError("OIDC needs both an issuer and an audience")


def looks_like_token(credential: bytes) -> bool:
    """Whether a credential has the form of a signed JWT."""
    return len(credential) <= _MAX_TOKEN_BYTES and credential.count(b".") == 2


async def fetch_json(url: str) -> Any:
    """Fetch a JSON document: at most 1 MiB, timeout 10 seconds, no redirects.

    Raises:
        IssuerUnavailable: the document cannot be fetched, is too large, or is not JSON.
    """
    import httpx2

    try:
        async with (
            httpx2.AsyncClient(timeout=10, follow_redirects=False) as http,
            http.stream("GET", url) as response,
        ):
            response.raise_for_status()
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_RESPONSE_BYTES:
                    raise IssuerUnavailable("a document of the token issuer is too large")
        return json.loads(body)
    except (httpx2.HTTPError, ValueError) as error:
        raise IssuerUnavailable(
            f"a document of the token issuer cannot be fetched: {type(error).__name__}"
        ) from error


class OidcVerifier:
    """Verifies bearer tokens with the issuer's keys.

    Args:
        config: the issuer and audience.
        fetch: fetches a JSON document by URL.
        clock: monotonic seconds, for the age of the keys.
    """

    def __init__(
        self,
        config: OidcConfig,
        fetch: FetchJson = fetch_json,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._fetch = fetch
        self._clock = clock
        self._keys: Mapping[str | None, jwt.PyJWK] = {}
        self._fetched: float | None = None
        self._tried: float | None = None
        self._lock = anyio.Lock()

    async def verify(self, token: bytes) -> tuple[Identity, float] | None:
        """Verify a token.

        Returns:
            The identity and the expiry in seconds since 1970; None if the token is invalid.

        Raises:
            IssuerUnavailable: the issuer's keys cannot be fetched now.
        """
        if not looks_like_token(token):
            return None
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            return None
        if header.get("alg") not in _ALGORITHMS:
            return None
        key = await self._key(header.get("kid"))
        if key is None:
            return None
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=self.config.audience,
                issuer=self.config.issuer,
                leeway=self.config.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            logger.info("a bearer token was refused: %s", type(error).__name__)
            return None
        identity = Identity.from_claims(claims)
        return (identity, float(claims["exp"])) if identity.subject else None

    async def _key(self, key_id: Any) -> jwt.PyJWK | None:
        async with self._lock:
            if self._is_due(key_id):
                self._tried = self._clock()
                self._keys = await self._fetch_keys()
                self._fetched = self._tried
        if key_id is None:
            # A token may omit the key id if the issuer has a single key.
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id) if isinstance(key_id, str) else None

    def _is_due(self, key_id: Any) -> bool:
        now = self._clock()
        if self._fetched is None:
            return True
        if now - self._fetched < self.config.jwks_max_age_s and (
            key_id is None or key_id in self._keys
        ):
            return False
        return self._tried is None or now - self._tried >= _MIN_REFRESH_S

    async def _fetch_keys(self) -> dict[str | None, jwt.PyJWK]:
        url = self.config.jwks_url
        if not url:
            where = f"{self.config.issuer.rstrip('/')}/.well-known/openid-configuration"
            document = await self._fetch(where)
            found = document.get("jwks_uri") if isinstance(document, Mapping) else None
            if not isinstance(found, str) or not found:
                raise IssuerUnavailable("the token issuer's discovery document has no jwks_uri")
            url = found
        document = await self._fetch(url)
        try:
            key_set = jwt.PyJWKSet.from_dict(document)
        except (jwt.PyJWTError, AttributeError, TypeError, ValueError) as error:
            raise IssuerUnavailable("the token issuer's keys cannot be read") from error
        return {key.key_id: key for key in key_set.keys if key.public_key_use in (None, "sig")}
