"""One request and its response: size limits, completeness checks, and retries where safe.

Errors are raised where no frame below them holds a request's headers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from mcpaudit_lab.errors import BadAnswer, PortalError, PortalUnavailable, RateLimited, RecordError
from mcpaudit_lab.portal.http.credentials import Credentials
from mcpaudit_lab.portal.http.failures import failure_of, redirect_failure, shown_text
from mcpaudit_lab.record import dumps, loads

if TYPE_CHECKING:
    import httpx2

__all__ = ["Answer", "Exchange"]

MAX_ANSWER_BYTES: Final = 256 << 20
_ERROR_BYTES: Final = 64 << 10
_MOST_WAIT_S: Final = 30.0
# Time limit of a response that is not streamed, in multiples of one read's time limit.
_PATIENCE: Final = 10

_RETRIED: Final = "mcpaudit_lab.portal"

_T = TypeVar("_T")


def _is_of_others(record: logging.LogRecord) -> bool:
    return getattr(record, "stamina.callable", "") != _RETRIED


class _CutOff(BadAnswer):
    """An answer ended too soon. Asking again may help."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        status: the HTTP status.
        headers: its headers, looked up in any case.
        body: its body, decoded.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self, path: str) -> Any:
        """The body as JSON, numbers exact.

        Raises:
            BadAnswer: the response is malformed.
        """
        detail = ""
        try:
            return loads(self.body)
        except RecordError as error:
            detail = error.detail
        kind = self.headers.get("content-type", "no type")
        raise BadAnswer(
            f"the answer to {path} is not JSON ({shown_text(kind)}; {shown_text(detail)}); is "
            "there a portal at this URL?",
            status=self.status,
        )


class Exchange:
    """Asks one portal.

    Args:
        http: the client.
        url: the portal, for messages.
        credentials: who asks, for messages.
        attempts: how often a request that changes nothing is made, at most.
        backoff_s: the first pause between two of them, which doubles; 0 for none.
        timeout_s: the time limit of one read.
        max_answer_bytes: the most that one answer, or one line of an export, may have.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        http: httpx2.Client,
        url: str,
        credentials: Credentials,
        *,
        attempts: int,
        backoff_s: float,
        timeout_s: float,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url
        self._asked_with = credentials.kind
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._timeout_s = timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._clock = clock

    def get_json(self, path: str, query: str = "") -> Any:
        """The JSON of a GET, which is asked again when the portal is away for a moment."""
        return self.get(path, query).json(path)

    def get(self, path: str, query: str = "", *, method: str = "GET") -> Answer:
        """A GET or HEAD, which is asked again when the portal is away for a moment.

        Raises:
            PortalError: of the kind that the answer means.
        """
        target = f"{path}?{query}" if query else path
        return self._again(lambda: self.ask(method, target))

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        also: tuple[int, ...] = (),
        is_replay: bool = False,
    ) -> Answer:
        """One request, made once.

        Args:
            method: the HTTP method.
            target: path and query.
            body: JSON to send, or None.
            also: further statuses whose JSON responses are results, not failures.
            is_replay: whether a 400 means that a replay is refused.

        Raises:
            PortalError: of the kind that the answer means.
        """
        answer = self._converse(
            method, target, body, lambda response: self._read_answer(response, also)
        )
        as_json = answer.headers.get("content-type", "").startswith("application/json")
        if answer.status // 100 == 2 or (answer.status in also and as_json):
            return answer
        raise self._failure(answer, target, is_replay=is_replay)

    @contextmanager
    def lines(self, path: str, query: str) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
        """The headers and the lines of a streamed answer, without their LF, each whole.

        The start is asked again when the portal is away for a moment; a stream that breaks is not.

        Raises:
            BadAnswer: the stream ends inside a line, or a line is too long.
            PortalError: of the kind that the answer means.
        """
        target = f"{path}?{query}"

        def start() -> httpx2.Response:
            found = self._converse("GET", target, None, self._begin)
            if isinstance(found, Answer):
                raise self._failure(found, target)
            return found

        response = self._again(start)
        try:
            yield response.headers, self._split(response, target)
        finally:
            response.close()

    def begin(
        self, target: str, headers: Mapping[str, str], *, read_timeout_s: float
    ) -> httpx2.Response:
        """The answer to a GET whose body is not read yet; made once. Who asks closes it.

        Args:
            target: path and query.
            headers: headers of this request.
            read_timeout_s: the time limit of one read of the body.

        Raises:
            PortalError: of the kind that the answer means.
        """
        found = self._converse(
            "GET",
            target,
            None,
            self._begin,
            headers=headers,
            timeout={**self._http.timeout.as_dict(), "read": read_timeout_s},
        )
        if isinstance(found, Answer):
            raise self._failure(found, target)
        return found

    # --- how --------------------------------------------------------------------------------------

    def _again(self, ask: Callable[[], _T]) -> _T:
        failed: PortalError | None = None
        try:
            return ask()
        except PortalError as error:
            if not self._may_help(error):
                raise
            failed = error
        import stamina

        # Its own logger would write to a notebook's stderr; others' retries are logged as ever.
        logging.getLogger("stamina").addFilter(_is_of_others)
        retries = stamina.retry_context(
            on=self._pause,
            attempts=self._attempts,
            timeout=None,
            wait_initial=self._backoff_s,
            wait_jitter=self._backoff_s,
        ).with_name(_RETRIED, (), {})
        for attempt in retries:
            with attempt:
                if attempt.num == 1:
                    # What was asked above; most requests need none of this.
                    raise failed
                return ask()
        raise AssertionError("stamina makes at least one attempt")

    def _may_help(self, error: Exception) -> bool:
        """Whether asking again may help."""
        return isinstance(error, PortalUnavailable | RateLimited | _CutOff)

    def _pause(self, error: Exception) -> bool | float:
        """Whether to ask again; or after how many seconds, where the portal says so."""
        if isinstance(error, RateLimited):
            return min(error.retry_after_s, _MOST_WAIT_S) if self._backoff_s else 0.0
        return self._may_help(error)

    def _converse(
        self,
        method: str,
        target: str,
        body: Any,
        use: Callable[[httpx2.Response], _T],
        *,
        headers: Mapping[str, str] | None = None,
        timeout: Mapping[str, float | None] | None = None,
    ) -> _T:
        """Send one request and use its answer, which is closed unless ``use`` returns it."""
        import httpx2

        failure: PortalError | None = None
        response: httpx2.Response | None = None
        result: Any = None
        try:
            request = self._http.build_request(
                method,
                f"{self._url}{target}",
                content=None if body is None else dumps(body).encode(),
                headers=headers if body is None else {"Content-Type": "application/json"},
                extensions=None if timeout is None else {"timeout": dict(timeout)},
            )
            response = self._http.send(request, stream=True)
            if response.has_redirect_location:
                failure = redirect_failure(response.status_code, response.headers, url=self._url)
            else:
                result = use(response)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            failure = self._transport_failure(error, answered=response is not None)
        finally:
            if response is not None and result is not response:
                response.close()
        # Out of the except block, so that no frame of the transport hangs on the error.
        if failure is not None:
            raise failure
        return cast("_T", result)

    def _begin(self, response: httpx2.Response) -> httpx2.Response | Answer:
        return response if response.is_success else self._read_answer(response, ())

    def _read_answer(self, response: httpx2.Response, also: tuple[int, ...]) -> Answer:
        expected = response.is_success or response.status_code in also
        body = self._read(response, strict=expected)
        return Answer(response.status_code, response.headers, body)

    def _transport_failure(self, error: Exception, *, answered: bool) -> PortalError:
        import httpx2

        why = shown_text(str(error)) or type(error).__name__
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
            return PortalUnavailable(
                f"no portal answers at {self._url}: {why} (is it running, and is the URL right?)",
                sent=False,
            )
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.ProxyError):
            return PortalUnavailable(f"{self._url} cannot be reached: {why}", sent=False)
        if isinstance(error, httpx2.TimeoutException):
            return PortalUnavailable(
                f"the portal at {self._url} did not answer within {self._timeout_s:g} s; "
                "timeout_s= gives it more"
            )
        if isinstance(error, httpx2.DecodingError):
            return BadAnswer(f"the answer of {self._url} cannot be read: {why}")
        if answered:
            return _CutOff(f"the answer of {self._url} was cut off: {why}")
        return PortalUnavailable(f"the connection to {self._url} broke: {why}")

    def _read(self, response: httpx2.Response, *, strict: bool) -> bytes:
        """The body; of an answer that is a failure only the beginning."""
        limit = self._max_answer_bytes if strict else _ERROR_BYTES
        until = self._clock() + _PATIENCE * self._timeout_s
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > limit:
                if not strict:
                    return bytes(data[:limit])
                raise BadAnswer(f"an answer of {self._url} has more than {limit:,} bytes")
            if self._clock() > until:
                raise PortalUnavailable(
                    f"an answer of {self._url} took more than {_PATIENCE * self._timeout_s:g} s"
                )
        self._check_length(response, len(data))
        return bytes(data)

    def _check_length(self, response: httpx2.Response, size: int) -> None:
        """Check the length of the body, which a transport may not do."""
        told = response.headers.get("content-length", "")
        packed = response.headers.get("content-encoding", "identity") != "identity"
        if packed or response.request.method == "HEAD" or not told.isdecimal():
            return
        if size < int(told):
            raise _CutOff(f"an answer of {self._url} was cut off", status=response.status_code)

    def _split(self, response: httpx2.Response, target: str) -> Iterator[bytes]:
        import httpx2

        failure: PortalError | None = None
        parts: list[bytes] = []
        held = size = 0
        try:
            for chunk in response.iter_bytes():
                first, *others = chunk.split(b"\n")
                parts.append(first)
                if others:
                    yield b"".join(parts)
                    yield from others[:-1]
                    parts, held = [others[-1]], 0
                held += len(chunk)
                size += len(chunk)
                if held > self._max_answer_bytes:
                    raise BadAnswer(
                        f"a line of the answer to {shown_text(target)} has more than "
                        f"{self._max_answer_bytes:,} bytes"
                    )
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            failure = self._transport_failure(error, answered=True)
        if failure is not None:
            raise failure
        self._check_length(response, size)
        if any(parts):
            raise _CutOff(f"the answer to {shown_text(target)} was cut off inside a line")

    def _failure(self, answer: Answer, target: str, *, is_replay: bool = False) -> PortalError:
        return failure_of(
            answer.status,
            answer.headers,
            answer.body,
            url=self._url,
            path=shown_text(target.partition("?")[0]),
            asked_with=self._asked_with,
            is_replay=is_replay,
        )
