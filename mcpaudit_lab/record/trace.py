"""W3C trace context: the trace and the caller's span that a ``traceparent`` names."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["parse_traceparent"]

# W3C Trace Context, section 3.2: version, trace-id, parent-id, flags; later versions may have more.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def parse_traceparent(*values: Any) -> dict[str, str]:
    """Read the first value that is a valid ``traceparent``.

    Args:
        *values: candidates, the most specific first, such as ``_meta`` before an HTTP header.

    Returns:
        ``trace_id`` (32 hex digits) and ``span_id`` (16), or nothing if no value is valid.
    """
    for value in values:
        found = _TRACEPARENT.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            continue
        version, trace, span, more = found.groups()
        valid = version != "ff" and not (version == "00" and more)
        if valid and set(trace) != {"0"} and set(span) != {"0"}:
            return {"trace_id": trace, "span_id": span}
    return {}
