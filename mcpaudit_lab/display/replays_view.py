"""All replays against their originals: what changed, by tool and place, and the durations.

The picture of durations is drawn here, in SVG: it follows the theme, and needs no plotting library.
"""

from __future__ import annotations

from collections import Counter
from math import log10
from statistics import median
from typing import TYPE_CHECKING, Final

from mcpaudit_lab.display.comparison_view import comparison_html
from mcpaudit_lab.display.html import (
    badge_html,
    heading_html,
    nested_html,
    note_html,
    page_html,
    text_html,
)
from mcpaudit_lab.record import counted, dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcpaudit_lab.comparison import ChangeGroup, ComparedTool
    from mcpaudit_lab.lab import ReplayComparisons

__all__ = ["replay_comparisons_html"]

_TOOLS_MAX: Final = 20
_PLACES_MAX: Final = 12
_CARDS_MAX: Final = 12
_NAME_MAX: Final = 80
_PATH_MAX: Final = 160
_VALUE_WIDTH: Final = 60
# The picture, in its own units; points are counted in a grid of this many steps a side.
_SIDE: Final = 200
_STEPS: Final = 50
# A call of 0 ms has a place on a logarithmic scale too.
_LEAST_MS: Final = 0.5
# This much longer or shorter is told.
_TIMES: Final = 2


def replay_comparisons_html(replays: ReplayComparisons) -> str:
    """What changed, the tools with most changes first; an example of each change behind a click."""
    groups = replays.groups
    badges = "".join(
        badge_html(name, count=count) for name, count in replays.counts().items() if count
    )
    head = (
        f'<div class="mal-head"><span class="mal-title">'
        f"{counted(len(replays), 'replay')}, each against its original</span>{badges}</div>"
    )
    differing = [tool for tool in groups.tools() if tool.equal < tool.total]
    same = [tool for tool in groups.tools() if tool.equal == tool.total]
    parts = []
    cards = _CARDS_MAX
    for tool in differing[:_TOOLS_MAX]:
        shown, cards = _tool(tool, groups.changes_of(tool.name), cards)
        parts.append(shown)
    if len(differing) > _TOOLS_MAX:
        more = counted(len(differing) - _TOOLS_MAX, "more tool")
        parts.append(note_html(f"… {more}; .paths() has all"))
    if groups.left_out:
        parts.append(note_html(f"{counted(groups.left_out, 'more change')} in other places"))
    parts += [_noise(name, paths) for name, paths in groups.noise().items()]
    if same:
        listed = ", ".join(f"{tool.name or '(no tool)'} {tool.total:,}" for tool in same)
        parts += [heading_html("Equal in every replay"), note_html(listed)]
    parts.append(_durations(replays))
    foot = (
        '<div class="mal-foot">.df() has a row for each replay, .paths() what changed where</div>'
    )
    return page_html(
        head,
        f'<div class="mal-body">{"".join(parts)}</div>',
        foot,
        label=f"{counted(len(replays), 'replay')} compared",
    )


def _tool(tool: ComparedTool, groups: Sequence[ChangeGroup], cards: int) -> tuple[str, int]:
    """A tool and the places that differ; and how many more examples the view may hold."""
    told = ", ".join(
        f"{count:,} {word}"
        for count, word in (
            (tool.changed, "changed"),
            (tool.unknown, "unknown"),
            (tool.equal, "equal"),
        )
        if count
    )
    parts = [heading_html(tool.name[:_NAME_MAX] or "(no tool)", told)]
    missing = tool.total - tool.compared
    if missing:
        parts.append(note_html(f"{counted(missing, 'replay')} without the original in this lab"))
    for group in groups[:_PLACES_MAX]:
        card = ""
        if cards and group.example is not None:
            card = nested_html(comparison_html(group.example))
            cards -= 1
        parts.append(_place(group, tool.compared, card))
    if len(groups) > _PLACES_MAX:
        more = counted(len(groups) - _PLACES_MAX, "more place")
        parts.append(note_html(f"… {more}; .paths() has all"))
    return "".join(parts), cards


def _place(group: ChangeGroup, of: int, card: str) -> str:
    kind = group.kind if group.kind != "unknown" else "cannot be known"
    style = {"removed": "fail", "added": "ok", "unknown": "unknown"}.get(group.kind, "warn")
    summary = (
        f'<span class="mal-badge mal-{style}">{kind}</span>'
        f'<span class="mal-path">{text_html(group.path, limit=_PATH_MAX)}</span>'
        f'<span class="mal-small">{text_html(group.words(of))}</span>'
        f'<span class="mal-small mal-mono mal-values">{text_html(group.shown(_VALUE_WIDTH))}</span>'
    )
    body = card or note_html(f"lab.compare({dumps(group.ids[0])}, {dumps(group.ids[1])}) shows one")
    return f'<details class="mal-place"><summary>{summary}</summary>{body}</details>'


def _noise(tool: str, paths: Sequence[str]) -> str:
    listed = ", ".join(path[:_PATH_MAX] for path in paths)
    return note_html(
        f"{tool[:_NAME_MAX]}: always differs, so perhaps noise: {listed}."
        " compare_replays(noise=….noise()) leaves it aside.",
        "unknown",
    )


def _durations(replays: ReplayComparisons) -> str:
    """Each replay as a point: how long the original took to the right, the replay upwards."""
    frame = replays.df()[["original_ms", "replay_ms"]].dropna()
    pairs = [
        (float(then), float(now))
        for then, now in zip(frame["original_ms"], frame["replay_ms"], strict=True)
    ]
    if not pairs:
        return ""
    longest = max(max(pair) for pair in pairs)
    decades = max(1, _ceil_log(longest))
    low, high = log10(_LEAST_MS), float(decades)

    def place(ms: float) -> int:
        part = (log10(max(ms, _LEAST_MS)) - low) / (high - low)
        return round(min(1.0, max(0.0, part)) * _STEPS)

    points = Counter((place(then), place(now)) for then, now in pairs)
    step = _SIDE / _STEPS
    circles = "".join(
        f'<circle class="{_side(x, y)}" cx="{x * step:g}" cy="{_SIDE - y * step:g}"'
        f' r="{2.2 + 1.6 * log10(count):.2f}"><title>{counted(count, "replay")}</title></circle>'
        for (x, y), count in sorted(points.items())
    )
    lines, labels = [], []
    for decade in range(decades + 1):
        at = (decade - low) / (high - low) * _SIDE
        lines.append(f'<path class="mal-grid" d="M{at:.1f} 0V{_SIDE}M0 {_SIDE - at:.1f}H{_SIDE}"/>')
        text = _ms_text(decade)
        labels.append(f'<text x="{at:.1f}" y="{_SIDE + 13}" text-anchor="middle">{text}</text>')
        labels.append(f'<text x="-5" y="{_SIDE - at + 3:.1f}" text-anchor="end">{text}</text>')
    slower = sum(now > _TIMES * max(then, 1) for then, now in pairs)
    faster = sum(then > _TIMES * max(now, 1) for then, now in pairs)
    told = (
        f"median {median(then for then, _ in pairs):,g} ms, in replays"
        f" {median(now for _, now in pairs):,g} ms; {slower:,} took more than twice as long,"
        f" {faster:,} less than half"
    )
    svg = (
        f'<svg class="mal-scatter" viewBox="-52 -8 {_SIDE + 74} {_SIDE + 40}" role="img"'
        f' aria-label="durations of originals and replays: {told}">{"".join(lines)}'
        f'<path class="mal-same-line" d="M0 {_SIDE}L{_SIDE} 0"/>{circles}{"".join(labels)}'
        f'<text x="{_SIDE / 2:g}" y="{_SIDE + 27}" text-anchor="middle">original</text>'
        f'<text transform="translate(-42 {_SIDE / 2:g}) rotate(-90)" text-anchor="middle">replay'
        f"</text></svg>"
    )
    return f"{heading_html('Durations', told)}{svg}"


def _ceil_log(longest: float) -> int:
    decades = 0
    while 10**decades < longest:
        decades += 1
    return decades


def _side(then: int, now: int) -> str:
    return "mal-slower" if now > then else "mal-point"


def _ms_text(decade: int) -> str:
    ms = 10**decade
    return f"{ms // 1000:,} s" if ms >= 1000 else f"{ms} ms"
