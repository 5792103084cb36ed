"""The routes of the Merkle log: the newest checkpoint, leaves, inclusion, consistency."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import anyio
from starlette.responses import Response

from mcpaudit_lab.errors import RecordError
from mcpaudit_lab.record import Event, dumps, parse_id
from mcpaudit_lab.server.http.portal import HttpError
from mcpaudit_lab.server.http.responses import json_response

if TYPE_CHECKING:
    from starlette.requests import Request

    from mcpaudit_lab.server.auth import Access
    from mcpaudit_lab.server.http.portal import Portal
    from mcpaudit_lab.server.stores import EventLog

__all__ = ["list_leaves", "show_checkpoint", "show_consistency", "show_inclusion", "with_proofs"]

_MOST_LEAVES = 10_000
# One connection is held for so many.
_PROOFS_AT_ONCE = 500


async def show_checkpoint(portal: Portal, request: Request, access: Access) -> Response:
    """``GET /audit/checkpoint``: a signed note over every event committed so far.

    The header ``X-Log-Key`` has the key that verifies it.
    """
    del request, access
    log = _log(portal)
    note = await anyio.to_thread.run_sync(log.sync)
    headers = {"x-log-key": str(log.signer.key), "cache-control": "no-store"}
    return Response(note, media_type="text/plain; charset=utf-8", headers=headers)


async def show_inclusion(portal: Portal, request: Request, access: Access) -> Response:
    """``GET /audit/proof?id=``: that an event is in the tree of the newest checkpoint."""
    del access
    log = _log(portal)
    try:
        event_id = parse_id(request.query_params.get("id", ""))
    except RecordError:
        raise HttpError(400, "event id is not a valid uuid") from None

    def prove() -> dict[str, Any] | None:
        note = log.sync()
        with log.reading() as tree:
            size, place = _size(note), tree.place_of(event_id)
            if place is None or place >= size:
                return None
            (leaf,) = tree.leaves(place, place + 1)
            path = tree.tree.inclusion(place, size)
        return {
            "id": event_id,
            "index": place,
            "size": size,
            "leaf": leaf.value.hex(),
            "path": [item.hex() for item in path],
            "checkpoint": note,
        }

    found = await anyio.to_thread.run_sync(prove)
    if found is None:
        raise HttpError(404, "event not found")
    return json_response(found)


async def show_consistency(portal: Portal, request: Request, access: Access) -> Response:
    """``GET /audit/consistency?from=&to=``: that a tree extends an earlier one; by sizes."""
    del access
    log = _log(portal)
    first, second = _number(request, "from"), _number(request, "to")

    def prove() -> list[str] | None:
        size = _size(log.sync())
        if not first <= second <= size:
            return None
        with log.reading() as tree:
            return [item.hex() for item in tree.tree.consistency(first, second)]

    path = await anyio.to_thread.run_sync(prove)
    if path is None:
        raise HttpError(400, "from and to are sizes of the tree: from <= to <= its size")
    return json_response({"from": first, "to": second, "path": path})


async def list_leaves(portal: Portal, request: Request, access: Access) -> Response:
    """``GET /audit/leaves?from=&to=``: event ids and hashes of leaves; 10,000 at most."""
    del access
    log = _log(portal)
    first, second = _number(request, "from"), _number(request, "to")
    second = min(second, first + _MOST_LEAVES)

    def read() -> list[list[str]]:
        with log.reading() as tree:
            return [[leaf.event_id, leaf.value.hex()] for leaf in tree.leaves(first, second)]

    return json_response({"from": first, "leaves": await anyio.to_thread.run_sync(read)})


async def with_proofs(log: EventLog, pages: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Lines of events, then a line with the proof of each, then one with the signed checkpoint.

    The checkpoint is newer than the events. An event without a readable row when it was logged has
    no proof.
    """
    ids: list[str] = []
    async for page in pages:
        ids += [Event.from_json(line).id for line in page.splitlines()]
        yield page

    note = await anyio.to_thread.run_sync(log.sync)
    size = _size(note)

    def prove(wanted: Sequence[str]) -> bytes:
        lines = []
        with log.reading() as tree:
            for event_id in wanted:
                place = tree.place_of(event_id)
                if place is not None and place < size:
                    path = [item.hex() for item in tree.tree.inclusion(place, size)]
                    lines.append(_line({"proof_of": event_id, "index": place, "path": path}))
        return b"".join(lines)

    for start in range(0, len(ids), _PROOFS_AT_ONCE):
        yield await anyio.to_thread.run_sync(prove, ids[start : start + _PROOFS_AT_ONCE])
    yield _line({"checkpoint": note, "log_key": str(log.signer.key)})


def _line(value: dict[str, Any]) -> bytes:
    return f"{dumps(value)}\n".encode()


def _log(portal: Portal) -> EventLog:
    if portal.log is None:
        raise HttpError(404, "this portal keeps no log")
    return portal.log


def _size(note: str) -> int:
    return int(note.split("\n", 2)[1])


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise HttpError(400, f"{name} is a number of leaves")
    return int(text)
