"""Messages of a JSON-RPC transcript into calls: one engine for the recorder and all readers.

It does no I/O. The caller feeds each message with its direction, and gets the results. Only open
calls are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mcpaudit_lab.formats.jsonrpc import (
    Call,
    CallFinished,
    CallOpened,
    Direction,
    Item,
    Moment,
    Other,
    PartSeen,
    SessionInfo,
    ToolDefinitionsSeen,
    event_id,
    id_key,
)
from mcpaudit_lab.record import VERBATIM, CapturePolicy

__all__ = ["Pairing"]

_Where: TypeAlias = tuple[str, str | None]
_Key: TypeAlias = tuple[str, str | None, Direction, tuple[str, Any]]
# Number of sessions whose initialize data is remembered.
_MAX_SESSIONS = 10_000
_ERA = "io.modelcontextprotocol/"
_ERA_NAMES = {
    "protocolVersion": "protocol_version",
    "clientInfo": "client_info",
    "serverInfo": "server_info",
}


@dataclass(slots=True)
class _Request:
    """An open request: a call, or something else whose answer must not be taken for a call's."""

    method: str
    params: Any
    call: Call | None = None


class Pairing:
    """Puts requests, notifications and answers together.

    An answer belongs to the open request with the same id, of the same type, that went the other
    way in the same session and connection. A request whose id is open already replaces it: the
    earlier one was never answered.

    Args:
        source: what the events have as ``source``.
        policy: what to store of a call; by default everything, unchanged.
        identify: returns the event id for a call. The default is a UUIDv5 over source, session,
            connection and place, so that reading the same file again gives the same ids.
        max_open: how many requests may be open; the oldest is given up as never answered.
    """

    def __init__(
        self,
        source: str,
        policy: CapturePolicy = VERBATIM,
        *,
        identify: Callable[[Call], str] | None = None,
        max_open: int = 100_000,
    ) -> None:
        self._source = source
        self._policy = policy
        self._identify = identify or self._place_id
        self._max_open = max_open
        self._open: OrderedDict[_Key, _Request] = OrderedDict()
        # The same calls by scope, and by their progress token.
        self._calls: dict[_Where, dict[_Key, Call]] = {}
        self._tokens: dict[tuple[_Where, tuple[str, Any]], _Key] = {}
        self._info: OrderedDict[_Where, SessionInfo] = OrderedDict()

    def __len__(self) -> int:
        """How many requests are open."""
        return len(self._open)

    def feed(
        self,
        message_value: Any,
        *,
        direction: Direction,
        at: Moment,
        session: str = "",
        connection: str | None = None,
        place: object = None,
    ) -> list[Item]:
        """Take the next message, in the order they passed.

        Args:
            message_value: the message, parsed; a list is a batch.
            direction: ``c2s`` from client to server, ``s2c`` the other way.
            at: when it passed.
            session: the session it belongs to.
            connection: the connection within the session, if it has several.
            place: its place, kept with the call if not None. Each message of a batch gets a pair of
                this and its number.

        Returns:
            One or more items for each message: its kind, and the calls that it ends.
        """
        where = (session, connection)
        if not isinstance(message_value, list):
            return list(self._feed(message_value, direction, at, where, place))
        items: list[Item] = []
        several = len(message_value) > 1 and place is not None
        for number, message in enumerate(message_value):
            spot = (place, number) if several else place
            items += self._feed(message, direction, at, where, spot)
        return items or [Other("no message")]

    def finish(self, *, session: str | None = None, connection: str | None = None) -> list[Item]:
        """Close the open calls: they were never answered.

        Args:
            session: only in this session; None for all of them.
            connection: with a session, only on this connection; None for all of them.
        """
        keys = [
            key
            for key in self._open
            if session is None
            or (key[0] == session and (connection is None or key[1] == connection))
        ]
        return [item for key in keys for item in self._give_up(key)]

    def _feed(
        self, message: Any, direction: Direction, at: Moment, where: _Where, place: object
    ) -> Iterator[Item]:
        if not isinstance(message, Mapping):
            yield Other("no message")
            return
        method, key = message.get("method"), id_key(message.get("id"))
        if isinstance(method, str):
            if key is None:
                yield self._notification(message, direction, at, where, place)
            else:
                request = (*where, direction, key)
                yield from self._request(request, message, method, at, place)
        elif "result" in message or "error" in message:
            other_way: Direction = "s2c" if direction == "c2s" else "c2s"
            asked = None if key is None else (*where, other_way, key)
            yield from self._answer(asked, message, at, place)
        else:
            yield Other("no message")

    def _request(
        self, key: _Key, message: Mapping[str, Any], method: str, at: Moment, place: object
    ) -> Iterator[Item]:
        if key in self._open:
            yield from self._give_up(key)
        elif len(self._open) >= self._max_open:
            yield from self._give_up(next(iter(self._open)))
        params, where = message.get("params"), (key[0], key[1])
        self._open[key] = request = _Request(method, None)
        if key[2] != "c2s":
            yield Other("request")
            return
        self._learn_era(where, params)
        if method == "tools/call":
            request.call = call = Call(
                params,
                jsonrpc_id=message["id"],
                session=key[0],
                connection=key[1],
                at=at,
                place=place,
                policy=self._policy,
                source=self._source,
            )
            call.id = self._identify(call)
            call.close(self._known(where))
            self._calls.setdefault(where, {})[key] = call
            if call.progress_token is not None:
                self._tokens[where, call.progress_token] = key
            yield CallOpened(call)
            return
        if method == "initialize" and isinstance(params, Mapping):
            # A new handshake replaces an earlier one.
            self._learn(where, SessionInfo(params.get("protocolVersion"), params.get("clientInfo")))
        elif method == "tools/list" and isinstance(params, Mapping):
            request.params = params.get("cursor")
        yield Other("request")

    def _answer(
        self, key: _Key | None, message: Mapping[str, Any], at: Moment, place: object
    ) -> Iterator[Item]:
        request = None if key is None else self._open.get(key)
        if key is None or request is None:
            yield Other("answer", unpaired=True)
            return
        where, result = (key[0], key[1]), message.get("result")
        if key[2] == "c2s":
            self._learn_era(where, result)
        self._forget(key, request)
        if request.call is not None:
            request.call.answer(message, at, place)
            request.call.close(self._known(where))
            yield CallFinished(request.call)
            return
        if isinstance(result, Mapping) and key[2] == "c2s":
            if request.method == "initialize":
                info = self._known(where) or SessionInfo()
                version = result.get("protocolVersion", info.protocol_version)
                self._learn(where, SessionInfo(version, info.client_info, result.get("serverInfo")))
            elif request.method == "tools/list" and isinstance(result.get("tools"), list):
                yield ToolDefinitionsSeen(
                    *where,
                    at=at,
                    tools=result["tools"],
                    first=request.params is None,
                    last=result.get("nextCursor") is None,
                    info=self._known(where),
                    place=place,
                )
                return
        yield Other("answer")

    def _notification(
        self,
        message: Mapping[str, Any],
        direction: Direction,
        at: Moment,
        where: _Where,
        place: object,
    ) -> Item:
        method, params = message["method"], message.get("params")
        members = params if isinstance(params, Mapping) else {}
        call = None
        if method == "notifications/cancelled":
            if direction == "c2s" and (asked := id_key(members.get("requestId"))) is not None:
                request = self._open.get((*where, "c2s", asked))
                call = request.call if request else None
            if call is not None:
                call.cancel(params, place)
        elif direction == "s2c" and method in ("notifications/progress", "notifications/message"):
            call = self._named_by(members, where)
            if call is None and method == "notifications/message" and not _token(members):
                call = self._only_one(where)
            if call is not None:
                call.notify(method, params, at, place)
        return Other("notification") if call is None else PartSeen(call)

    def _named_by(self, params: Mapping[str, Any], where: _Where) -> Call | None:
        """The call whose progress token a notification names."""
        token = _token(params)
        key = None if token is None else self._tokens.get((where, token))
        return None if key is None else self._open[key].call

    def _only_one(self, where: _Where) -> Call | None:
        """The only call that is open and not cancelled; None if there are several."""
        wanted: Call | None = None
        for call in self._calls.get(where, {}).values():
            if not call.cancelled:
                if wanted is not None:
                    return None
                wanted = call
        return wanted

    def _give_up(self, key: _Key) -> Iterator[Item]:
        request = self._open[key]
        self._forget(key, request)
        if request.call is not None:
            request.call.close(self._known((key[0], key[1])))
            yield CallFinished(request.call)

    def _forget(self, key: _Key, request: _Request) -> None:
        del self._open[key]
        if request.call is None:
            return
        where = (key[0], key[1])
        calls = self._calls[where]
        del calls[key]
        if not calls:
            del self._calls[where]
        token = request.call.progress_token
        if token is not None and self._tokens.get((where, token)) == key:
            del self._tokens[where, token]

    def _known(self, where: _Where) -> SessionInfo | None:
        # A handshake may have used a separate connection.
        return self._info.get(where) or self._info.get((where[0], None))

    def _learn(self, where: _Where, info: SessionInfo) -> None:
        for place in (where, (where[0], None)):
            self._info[place] = info
            self._info.move_to_end(place)
        while len(self._info) > _MAX_SESSIONS:
            self._info.popitem(last=False)

    def _learn_era(self, where: _Where, holder: Any) -> None:
        """Since 2026-07-28 there is no handshake: ``_meta`` describes client and server."""
        meta = holder.get("_meta") if isinstance(holder, Mapping) else None
        if not isinstance(meta, Mapping):
            return
        said = {ours: meta[_ERA + name] for name, ours in _ERA_NAMES.items() if _ERA + name in meta}
        if said:
            info = self._known(where) or SessionInfo()
            known = {name: getattr(info, name) for name in _ERA_NAMES.values()}
            self._learn(where, SessionInfo(**{**known, **said}))

    def _place_id(self, call: Call) -> str:
        place = call.places[0] if call.places else ""
        return event_id(self._source, call.session, call.connection or "", str(place))


def _token(params: Mapping[str, Any]) -> tuple[str, Any] | None:
    meta = params.get("_meta")
    named = params.get("progressToken")
    if named is None and isinstance(meta, Mapping):
        named = meta.get("progressToken")
    return id_key(named)
