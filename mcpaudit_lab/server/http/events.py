"""Routes that read events: lists, one event, exports, aggregates, the dashboard."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

from starlette.responses import Response, StreamingResponse

from mcpaudit_lab.errors import FilterError, RecordError
from mcpaudit_lab.filters import HAS_COLUMNS, EventFilter, format_duration, parse_duration_ns
from mcpaudit_lab.record import format_time, parse_id
from mcpaudit_lab.server.http.proofs import with_proofs
from mcpaudit_lab.server.http.responses import error_response, go_quote, json_response

if TYPE_CHECKING:
    from starlette.requests import Request

    from mcpaudit_lab.server.auth import Access
    from mcpaudit_lab.server.http.portal import Portal

__all__ = [
    "export_events",
    "list_events",
    "list_tool_lists",
    "read_filter",
    "show_breakdown",
    "show_dashboard",
    "show_event",
    "show_meta",
    "show_timeseries",
]

_DEFAULT_LIMIT: Final = 50
_MAX_LIMIT: Final = 1000
_MAX_WINDOW: Final = timedelta(days=30)
_MAX_BUCKETS: Final = 5000
_DEFAULT_BUCKET: Final = timedelta(minutes=1)
_SHORTEST_BUCKET: Final = timedelta(seconds=1)
# Go's zero time: as "from" it is no bound.
_ZERO_TIME: Final = datetime.min.replace(tzinfo=UTC)
_RECENT: Final = 20
_PERCENTILES: Final = ("p50_duration_ms", "p95_duration_ms")
_BREAKDOWNS: Final = ("tool", "user", "success", "auth_type")


def read_filter(request: Request, *own: str) -> tuple[EventFilter, dict[str, str]]:
    """Parse the query string into a filter and the route's own parameters.

    Args:
        request: the request.
        *own: names of the route's own parameters.

    Returns:
        The filter, and the first value of each own parameter.

    Raises:
        FilterError: the filter is malformed. (The reference server would ignore it silently.)
    """
    left: list[str] = []
    found: dict[str, str] = {}
    for pair in request.scope["query_string"].decode("latin-1").split("&"):
        name, _, value = pair.partition("=")
        if (plain := unquote_plus(name)) in own:
            found.setdefault(plain, unquote_plus(value))
        else:
            left.append(pair)
    return EventFilter.from_query("&".join(left)), found


async def list_events(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /audit/events``."""
    wanted, _own = read_filter(request)
    limit = min(wanted.limit or _DEFAULT_LIMIT, _MAX_LIMIT)
    page = replace_limit(wanted, limit)
    events = await portal.logger.query(page)
    body: dict[str, Any] = {
        "events": [event.wire for event in events],
        "limit": limit,
        "offset": wanted.offset,
        "total": await portal.logger.count(wanted),
    }
    # Not in the recordings; present only if there are unreadable rows.
    if unreadable := (await portal.logger.unreadable()).count:
        body["unreadable"] = unreadable
    return json_response(body)


async def show_event(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /audit/events/{id}``."""
    event_id = request.path_params["event_id"]
    try:
        event = await portal.logger.event(event_id)
    except RecordError:
        return error_response(400, "event id is not a valid uuid")
    if event is None:
        return error_response(404, f"event {go_quote(parse_id(event_id))} not found")
    return json_response(event.wire)


async def export_events(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /audit/export``: JSON lines; the headers say whether the export is complete.

    With ``proofs=true`` the events come with payloads, and after them the proofs that the portal's
    log has them.
    """
    wanted, own = read_filter(request, "format", "payloads", "proofs")
    kind = own.get("format") or "jsonl"
    if kind != "jsonl":
        return error_response(400, f"unsupported format {go_quote(kind)} (only jsonl is supported)")
    proofs = own.get("proofs") or "false"
    payloads = own.get("payloads") or proofs
    if payloads not in ("true", "false") or proofs not in ("true", "false"):
        raise FilterError("payloads and proofs must be true or false, in lower case")
    if proofs == "true" and payloads == "false":
        raise FilterError("a proof covers the payload: proofs=true needs payloads=true")
    if proofs == "true" and portal.log is None:
        return error_response(404, "this portal keeps no log")
    most = portal.options.export_max_rows
    cap = min(wanted.limit or most, most)
    total = await portal.logger.count(wanted)
    headers = {
        "cache-control": "no-store",
        "content-disposition": 'attachment; filename="audit.jsonl"',
        # Sent before the first line, so that clients need not read to the end.
        "x-export-total": str(total),
        "x-export-truncated": "true" if total > cap else "false",
        "x-export-unreadable": str((await portal.logger.unreadable()).count),
    }
    if request.method == "HEAD":
        return Response(headers=headers, media_type="application/x-ndjson")
    pages = portal.logger.export(replace_limit(wanted, cap, offset=0), payloads=payloads == "true")
    if proofs == "true" and portal.log is not None:
        lines = with_proofs(portal.log, pages)
        return StreamingResponse(lines, headers=headers, media_type="application/x-ndjson")
    return StreamingResponse(pages, headers=headers, media_type="application/x-ndjson")


async def show_timeseries(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /audit/timeseries``."""
    wanted, own = read_filter(request, "bucket")
    bucket = _read_bucket(own.get("bucket", ""))
    bounded = wanted.to is not None and wanted.from_ not in (None, _ZERO_TIME)
    if wanted.from_ is not None and wanted.to is not None and bounded:
        window = wanted.to - wanted.from_
        if window > _MAX_WINDOW:
            return error_response(400, f"time window exceeds {format_duration(_MAX_WINDOW)}")
        # Count whole buckets: 5,000.5 is within the limit.
        if window // bucket > _MAX_BUCKETS:
            return error_response(400, f"requested time series exceeds {_MAX_BUCKETS} buckets")
    points = await portal.logger.timeseries(wanted, bucket)
    if not bounded and len(points) > _MAX_BUCKETS:
        return error_response(400, f"requested time series exceeds {_MAX_BUCKETS} buckets")
    shown = [
        {
            "time": format_time(point.time),
            "count": point.count,
            "errors": point.errors,
            "avg_duration_ms": plain_number(point.avg_duration_ms),
        }
        for point in points
    ]
    return json_response({"bucket": format_duration(bucket), "points": shown})


def _read_bucket(text: str) -> timedelta:
    """Parse the bucket width as recorded; the response says which width was used.

    Anything but a positive duration means one minute. The minimum is one second.
    """
    width_ns = parse_duration_ns(text)
    if width_ns is None or width_ns <= 0:
        return _DEFAULT_BUCKET
    return max(timedelta(microseconds=width_ns // 1000), _SHORTEST_BUCKET)


async def show_breakdown(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /audit/breakdown``."""
    wanted, own = read_filter(request, "by")
    by = own.get("by") or "tool"
    # As in the contract, an unknown field gives an empty breakdown.
    shares = await portal.logger.breakdown(wanted, by) if by in _BREAKDOWNS else []
    return json_response({"breakdown": [asdict(share) for share in shares], "by": by})


async def show_dashboard(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /portal/dashboard``: the last hour."""
    del request
    to = portal.now()
    from_ = to - timedelta(hours=1)
    window = EventFilter(from_=from_, to=to)
    stats = await portal.logger.stats(window)
    return json_response(
        {
            "recent": [
                event.wire for event in await portal.logger.query(replace_limit(window, _RECENT))
            ],
            "stats": {
                # As recorded, percentiles are whole milliseconds, rounded half to even.
                name: round(value) if name in _PERCENTILES else plain_number(value)
                for name, value in asdict(stats).items()
            },
            "window_from": format_time(from_),
            "window_to": format_time(to),
        }
    )


async def show_meta(portal: Portal, request: Request, _: Access) -> Response:
    """``GET /audit/meta``: filters and limits for clients."""
    del request
    limiter = portal.limiter
    body: dict[str, Any] = {
        "export": {"max_rows": portal.options.export_max_rows},
        "has_keys": list(HAS_COLUMNS),
        "json_sources": ["param", "response", "header"],
        "replay": {
            "burst": limiter.burst,
            "refill_secs": plain_number(limiter.refill_s),
            "sustained_min": plain_number(60 / limiter.refill_s),
        },
    }
    unreadable = await portal.logger.unreadable()
    if unreadable.count:
        body |= {"unreadable": unreadable.count, "unreadable_ids": list(unreadable.ids)}
    return json_response(body)


def plain_number(number: float) -> float:
    """Whole numbers as integers (``4.0`` as 4), as recorded."""
    return int(number) if float(number).is_integer() else number


def replace_limit(wanted: EventFilter, limit: int, *, offset: int | None = None) -> EventFilter:
    """The filter with another limit and, if given, another offset."""
    values = {name: getattr(wanted, name) for name in EventFilter.__slots__}
    values["limit"] = limit
    if offset is not None:
        values["offset"] = offset
    return EventFilter(**values)


async def list_tool_lists(portal: Portal, request: Request, access: Access) -> Response:
    """``GET /audit/tool-lists``: every list of tools that this portal's server has offered."""
    del request, access
    found = await portal.logger.tool_lists()
    return json_response({"lists": [item.to_dict() for item in found]})
