"""Above the tail's table: its state in words, the last minutes as bars, durations by tool."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.record import visible

if TYPE_CHECKING:
    from mcpaudit_lab.portal.tail import Pulse, TailStatus

__all__ = ["TOOLS_MAX", "pulse_html", "status_html"]

TOOLS_MAX: Final = 5
_MARKS: Final = {"live": "●", "connecting": "◌", "reconnecting": "◌", "stopped": "■"}
_HEIGHT: Final = 24
_NAME_MAX: Final = 40


def status_html(status: TailStatus, title: str) -> str:
    """The state, the counts, and what is watched."""
    mark = _MARKS.get(status.state, "?")
    text = html.escape(visible(status.describe()))
    shown = html.escape(visible(title[:300]))
    return f'<div><span aria-hidden="true">{mark}</span> {text}</div><div><i>{shown}</i></div>'


def pulse_html(pulse: Pulse) -> str:
    """Calls of the last five minutes, failed ones red; below, the tools with most calls."""
    if not pulse.tools:
        return ""
    most = max(1, *(calls for calls, _ in pulse.buckets))
    bars = "".join(
        _bar(place, _HEIGHT * calls / most, "#4f8fcc")
        + _bar(place, _HEIGHT * failed / most, "#cf3f36")
        for place, (calls, failed) in enumerate(pulse.buckets)
    )
    minutes = len(pulse.buckets) * pulse.bucket_s // 60
    share = 100 * pulse.failed / pulse.calls if pulse.calls else 0
    told = f"last {minutes} min: {pulse.calls:,} calls, {share:.1f} % failed"
    width = len(pulse.buckets)
    svg = (
        f'<svg viewBox="0 0 {width} {_HEIGHT}" preserveAspectRatio="none" role="img"'
        f' aria-label="{told}" style="display:block;width:100%;height:{_HEIGHT}px">{bars}</svg>'
    )
    tools = " · ".join(
        f"<b>{html.escape(visible(tool.name[:_NAME_MAX])) or '(no tool)'}</b>"
        f" p50 {tool.p50_ms:,.0f}, p95 {tool.p95_ms:,.0f} ms"
        for tool in pulse.tools
    )
    return f"{svg}<div><small>{told}, most {most:,} in {pulse.bucket_s} s · {tools}</small></div>"


def _bar(place: int, height: float, colour: str) -> str:
    if not height:
        return ""
    tall = max(1.0, height)
    return (
        f'<rect x="{place + 0.1:.1f}" y="{_HEIGHT - tall:.1f}" width="0.8" height="{tall:.1f}"'
        f' fill="{colour}"/>'
    )
