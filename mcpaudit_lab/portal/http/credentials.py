"""Where a portal is, and the key to it: shown by nothing, and sent to that portal alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from mcpaudit_lab.errors import PortalError

if TYPE_CHECKING:
    import httpx2

__all__ = ["Credentials", "SecretHeaders", "base_url"]


class SecretHeaders(dict[str, str]):
    """Headers whose repr, and so a traceback with local variables, shows only the names."""

    def __repr__(self) -> str:
        return f"SecretHeaders({', '.join(self)})"

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("headers with a key in them are not pickled or copied")


class Credentials:
    """The header that says who asks.

    Args:
        api_key: an API key, or None.
        bearer: a bearer token in its place, or None.

    Raises:
        PortalError: both are given, or one has characters that no header can carry.
    """

    __slots__ = ("_headers",)

    def __init__(self, api_key: str | None, bearer: str | None) -> None:
        name, secret = ("Authorization", bearer) if bearer else ("X-API-Key", api_key)
        self._headers = SecretHeaders()
        both = bool(api_key and bearer)
        usable = not secret or (secret.isascii() and secret.isprintable() and " " not in secret)
        if secret and usable:
            self._headers[name] = f"Bearer {secret}" if bearer else secret
        # Nothing below may have them among its variables.
        del api_key, bearer, secret
        if both:
            raise PortalError("give an API key or a bearer token, not both", sent=False)
        if not usable:
            raise PortalError(
                "the key has a space, a line end or another character that no header can carry; "
                "was it read from a file with its last line end?",
                sent=False,
            )

    def __bool__(self) -> bool:
        return bool(self._headers)

    @property
    def kind(self) -> str:
        """``API key``, ``bearer token``, or ``no key``."""
        if not self._headers:
            return "no key"
        return "API key" if "X-API-Key" in self._headers else "bearer token"

    def headers(self) -> SecretHeaders:
        """The header for the key, if there is a key."""
        return SecretHeaders(self._headers)

    def signer(self, portal: httpx2.URL) -> _Signer:
        """Adds the credentials to requests to one portal only."""
        return _Signer(self, _origin(portal))

    def __repr__(self) -> str:
        return f"Credentials({self.kind})"

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a key is not pickled or copied")


class _Signer:
    """A callable, as httpx2 takes one for ``auth``."""

    __slots__ = ("_credentials", "_origin")

    def __init__(self, credentials: Credentials, origin: tuple[str, str, int | None]) -> None:
        self._credentials = credentials
        self._origin = origin

    def __call__(self, request: httpx2.Request) -> httpx2.Request:
        if _origin(request.url) == self._origin:
            request.headers.update(self._credentials.headers())
        return request


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def base_url(text: str) -> str:
    """The portal's URL without a slash at the end.

    Raises:
        PortalError: an unusable URL. The message does not repeat it, because it may contain a
            password.
    """
    import httpx2

    if not text:
        raise PortalError(
            "which portal? Pass its URL, such as http://localhost:8080, or set MCPAUDIT_URL",
            sent=False,
        )
    why = ""
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        why = "it cannot be read"
    else:
        if url.scheme not in ("http", "https") or not url.host:
            why = "it starts with http:// or https:// and a host, such as http://localhost:8080"
        elif url.userinfo:
            why = "a name and password in it would be seen by many; pass api_key= or bearer="
        elif url.query or url.fragment:
            why = "it ends before the first ? and #"
    if why:
        raise PortalError(f"not a portal's URL: {why}", sent=False)
    return str(url).rstrip("/")
