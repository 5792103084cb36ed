"""Who calls, and how the call came in.

The MCP SDK does not tell the audit who makes a call. Code that knows, such as the HTTP application,
wraps the call in :func:`use_origin`; a context variable carries the origin through the SDK's tasks,
one call at a time, over HTTP in both protocol eras, in process and on stdio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "ANONYMOUS",
    "AuthFailure",
    "Identity",
    "Origin",
    "current_identity",
    "current_origin",
    "identify",
    "use_identity",
    "use_origin",
]


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller. It never contains the key or token.

    Attributes:
        subject: an OIDC subject, or ``apikey:<name>``.
        auth_type: ``oidc``, ``apikey`` or ``anonymous``.
        email: from the token; ``""`` if it has none.
        name: for people; an API key's own name.
        api_key_name: the name of the API key used.
        claims: the token's claims. Not shown by ``repr``.
    """

    subject: str
    auth_type: str
    email: str = ""
    name: str = ""
    api_key_name: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @classmethod
    def from_key(cls, name: str) -> Identity:
        """The holder of the API key with this name."""
        return cls(f"apikey:{name}", "apikey", name=name, api_key_name=name)

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any], *, subject: str = "") -> Identity:
        """The subject of an OIDC token whose signature and dates were checked.

        Args:
            claims: of the token; ``sub``, ``email`` and ``name`` are read.
            subject: used where ``sub`` is missing.
        """

        def text(name: str) -> str:
            value = claims.get(name)
            return value if isinstance(value, str) else ""

        return cls(
            text("sub") or subject, "oidc", email=text("email"), name=text("name"), claims=claims
        )


ANONYMOUS = Identity("anonymous", "anonymous")
"""The caller if no credentials are required."""


@dataclass(frozen=True, slots=True)
class AuthFailure:
    """Credentials were sent and are not valid. A call is recorded (category ``auth``), not run.

    Attributes:
        message: the text for the caller and the row.
    """

    message: str = "not authenticated"


@dataclass(frozen=True, slots=True)
class Origin:
    """What an MCP request cannot say about itself. Everything may be left open.

    Attributes:
        identity: the caller; None if nobody was authenticated.
        source: ``mcp``, ``portal-tryit`` or ``portal-replay``. The portal's own calls are recorded
            without headers, sizes and session, and without a limit on size, as the contract says.
        transport: ``http`` or ``stdio``; ``""`` to see it from the request.
        remote_addr: where the call came from; None to see it from the request.
        user_agent: the client; None to see it from the request.
        replayed_from: id of the event that is replayed.
        event_id: a preset id of the event (a UUID), for callers that need it in advance; such an
            origin is valid for one call only. ``""`` generates one.
    """

    identity: Identity | AuthFailure | None = None
    source: str = "mcp"
    transport: str = ""
    remote_addr: str | None = None
    user_agent: str | None = None
    replayed_from: str = ""
    event_id: str = ""


_UNKNOWN = Origin()
_origin: ContextVar[Origin] = ContextVar("mcpaudit_origin", default=_UNKNOWN)
_caller: ContextVar[Identity] = ContextVar("mcpaudit_caller", default=ANONYMOUS)


def current_origin() -> Origin:
    """The origin of the current call; an empty :class:`Origin` if none was set."""
    return _origin.get()


@contextmanager
def use_origin(origin: Origin) -> Iterator[None]:
    """Calls made inside this block came in so."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def current_identity() -> Identity:
    """Who makes the audited call at hand, for the tool that answers it.

    Outside of an audited call it is :data:`ANONYMOUS`.
    """
    return _caller.get()


@contextmanager
def use_identity(identity: Identity) -> Iterator[None]:
    """Set the identity that :func:`current_identity` returns inside this block."""
    token = _caller.set(identity)
    try:
        yield
    finally:
        _caller.reset(token)


def identify(origin: Origin, request: Any, default: Identity) -> Identity | AuthFailure:
    """The caller: as the origin says, else as the SDK's own authentication found, else ``default``.

    Args:
        origin: of the call.
        request: the Starlette request that carried the call; None off HTTP.
        default: where neither knows.
    """
    if origin.identity is not None:
        return origin.identity
    scope = getattr(request, "scope", None)
    token = getattr(scope.get("user"), "access_token", None) if scope else None
    if token is None:
        return default
    return Identity.from_claims(token.claims or {}, subject=token.subject or token.client_id)
