"""A portal's authentication and rate limits: API keys, minted keys, bearer tokens.

Input: the headers of a request. Output: an identity or a denial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpaudit_lab.record.lazy import lazy_names

if TYPE_CHECKING:
    from mcpaudit_lab.server.auth.api_keys import ApiKeys, parse_keys
    from mcpaudit_lab.server.auth.authentication import Access, Authenticator, Denial
    from mcpaudit_lab.server.auth.minted_keys import KeyStore, MemoryKeyStore, SqlKeyStore
    from mcpaudit_lab.server.auth.oidc import OidcConfig, OidcVerifier
    from mcpaudit_lab.server.auth.sql_buckets import SqlTokenBuckets

__all__ = [
    "Access",
    "ApiKeys",
    "Authenticator",
    "Denial",
    "KeyStore",
    "MemoryKeyStore",
    "OidcConfig",
    "OidcVerifier",
    "SqlKeyStore",
    "SqlTokenBuckets",
    "parse_keys",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "api_keys": (
            "ApiKeys",
            "parse_keys",
        ),
        "authentication": (
            "Access",
            "Authenticator",
            "Denial",
        ),
        "minted_keys": (
            "KeyStore",
            "MemoryKeyStore",
            "SqlKeyStore",
        ),
        "oidc": (
            "OidcConfig",
            "OidcVerifier",
        ),
        "sql_buckets": ("SqlTokenBuckets",),
    },
)
