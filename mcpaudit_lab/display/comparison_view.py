"""A comparison: changes first, side by side or inline; equal parts folded; unknowns marked.

One markup serves both layouts: a box to tick, or a narrow output, puts the sides below each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.comparison import (
    Change,
    ChangeKind,
    Path,
    TextDiff,
    TextLine,
    Verdict,
    format_path,
    known_sections,
    lines_diff,
)
from mcpaudit_lab.display.event_card import moment_html, outcome_of
from mcpaudit_lab.display.html import (
    badge_html,
    data_html,
    fold_html,
    heading_html,
    inset_html,
    note_html,
    page_html,
    text_html,
)
from mcpaudit_lab.display.json_tree import json_tree_html, json_value_html
from mcpaudit_lab.record import counted, is_redacted

if TYPE_CHECKING:
    from mcpaudit_lab.comparison import Comparison, Section
    from mcpaudit_lab.record import Event

__all__ = ["comparison_html"]

_CHANGES_MAX: Final = 50
_UNKNOWN_MAX: Final = 50
_VALUES_MAX: Final = 60
_WHOLE_VALUES_MAX: Final = 300
_NAME_MAX: Final = 120
_PATH_MAX: Final = 300
_TEXT_MAX: Final = 1000
_LINES_MAX: Final = 200
_LINE_LOOKS: Final = {
    "equal": (" ", "mal-same"),
    "removed": ("\N{MINUS SIGN}", "mal-left"),
    "added": ("+", "mal-right-side"),
}

_TITLES: Final = {
    "summary": "Summary",
    "param": "Parameters",
    "response": "Response",
    "error": "Error",
    "notifications": "Notifications",
}
_KIND_STYLES: Final = {
    ChangeKind.REMOVED: "fail",
    ChangeKind.ADDED: "ok",
}


def comparison_html(comparison: Comparison) -> str:
    """A comparison as a notebook shows it.

    Shows the first 50 changes of each section, and as many unknown paths.
    """
    order = {Verdict.CHANGED: 0, Verdict.UNKNOWN: 1, Verdict.EQUAL: 2}
    sections = sorted(comparison.sections.items(), key=lambda item: order[item[1].verdict])
    body = _sides(comparison) + "".join(
        _section(comparison, name, section) for name, section in sections
    )
    if comparison.ignored:
        body += note_html(f"Left aside, as asked: {counted(comparison.ignored, 'place')}.")
    return page_html(
        _head(comparison),
        f'<div class="mal-body">{body}</div>',
        label=f"comparison of two audit events, {comparison.verdict}",
    )


def _head(comparison: Comparison) -> str:
    choice = '<input type="checkbox" class="mal-inline">inline' if comparison.changes else ""
    return (
        f'<div class="mal-head"><span class="mal-title">Comparison</span>'
        f"{badge_html(comparison.verdict)}<span>{_counts(comparison)}</span>"
        f'<label class="mal-choice mal-push">{choice}</label></div>'
    )


def _counts(comparison: Comparison) -> str:
    return text_html(
        ", ".join(f"{count:,} {kind}" for kind, count in comparison.counts().items() if count)
    )


def _sides(comparison: Comparison) -> str:
    sides = (comparison.left, comparison.right)
    rows = (
        ("tool", [data_html(event.tool_name or "(no tool)", limit=_NAME_MAX) for event in sides]),
        ("outcome", [badge_html(outcome_of(event)) for event in sides]),
        ("took", [f"{event.duration_ms:,} ms" for event in sides]),
        ("at", [moment_html(event.timestamp) for event in sides]),
        (
            "id",
            [f'<span class="mal-mono">{text_html(event.id or "none")}</span>' for event in sides],
        ),
    )
    return inset_html(
        (
            f'<tr><th scope="row" class="mal-keep">{label}</th><td>{left}</td><td>{right}</td></tr>'
            for label, (left, right) in rows
        ),
        head='<tr><th></th><th scope="col">left</th><th scope="col">right</th></tr>',
    )


def _section(comparison: Comparison, name: str, section: Section) -> str:
    title = _TITLES.get(name, name)
    if section.verdict is Verdict.EQUAL:
        value = known_sections(comparison.left)[0].get(name)
        shown = note_html("nothing on either side") if value in (None, [], {}) else _whole(value)
        return fold_html(title, shown, note="equal")
    counts = [counted(len(section.changes), "change")] if section.changes else []
    counts += [f"{len(section.unknown):,} unknown"] if section.unknown else []
    parts = [heading_html(title, ", ".join(counts))]
    parts += [_change(change) for change in section.changes[:_CHANGES_MAX]]
    if len(section.changes) > _CHANGES_MAX:
        parts.append(note_html(f"… {counted(len(section.changes) - _CHANGES_MAX, 'more change')}"))
    parts += [_unknown(comparison, path) for path in section.unknown[:_UNKNOWN_MAX]]
    if len(section.unknown) > _UNKNOWN_MAX:
        parts.append(
            note_html(f"… {counted(len(section.unknown) - _UNKNOWN_MAX, 'more unknown path')}")
        )
    parts += _both(comparison, name)
    return "".join(parts)


def _whole(value: Any) -> str:
    return json_tree_html(value, values_max=_WHOLE_VALUES_MAX)


def _both(comparison: Comparison, name: str) -> Iterator[str]:
    """The whole section, left beside right, folded."""
    sides = [known_sections(event)[0].get(name) for event in (comparison.left, comparison.right)]
    if all(value in (None, [], {}) for value in sides):
        return
    trees = "".join(
        f"<div>{note_html('nothing') if value is None else _whole(value)}</div>" for value in sides
    )
    yield fold_html("all of it", f'<div class="mal-sides">{trees}</div>', note="left and right")


def _change(change: Change) -> str:
    kind = _KIND_STYLES.get(change.kind, "warn")
    badge = f'<span class="mal-badge mal-{kind}">{change.kind}</span>'
    head = f'<div class="mal-change-head">{badge}{_path(change.path)}</div>'
    return f'<div class="mal-change">{head}<div class="mal-pair">{_pair(change)}</div></div>'


def _path(path: Path) -> str:
    return f'<span class="mal-path">{text_html(format_path(path), limit=_PATH_MAX)}</span>'


def _pair(change: Change) -> str:
    if change.kind is ChangeKind.ORDER:
        body = f"the same {len(change.left):,} elements in another order"
        return f'<div class="mal-order">{body}</div>'
    if diff := lines_diff(change):
        return _text_lines(diff)
    left, right = "", ""
    if isinstance(change.left, str) and isinstance(change.right, str):
        left, right = _marked(change.left, change.right, change)
    elif change.kind is not ChangeKind.ADDED:
        left = _value(change.left)
    if not right and change.kind is not ChangeKind.REMOVED:
        right = _value(change.right)
    return _side(left, "mal-left") + _side(right, "mal-right-side")


def _side(shown: str, name: str) -> str:
    if not shown:
        return '<div class="mal-none">not there</div>'
    return f'<div class="{name}">{shown}</div>'


def _value(value: Any) -> str:
    if isinstance(value, dict | list | tuple) and value:
        return json_tree_html(value, values_max=_VALUES_MAX)
    return json_value_html(value, limit=_TEXT_MAX)


def _marked(left: str, right: str, change: Change) -> tuple[str, str]:
    """Two texts of one line with what differs marked, each around its first difference."""
    diff = None if is_redacted(left) or is_redacted(right) else change.text_diff()
    lines = [line for hunk in diff.hunks for line in hunk.lines] if diff else []
    if len(lines) != 2 or "\n" in left + right:
        return _value(left), _value(right)
    if not lines[0].marks and max(len(left), len(right)) > _TEXT_MAX:
        return _value(left), _value(right)
    return _quoted(_pieces(lines[0])), _quoted(_pieces(lines[1]))


def _pieces(line: TextLine) -> list[str]:
    return [
        f"<mark>{text_html(text)}</mark>" if is_marked else text_html(text)
        for text, is_marked in line.pieces(_TEXT_MAX)
    ]


def _text_lines(diff: TextDiff) -> str:
    """The hunks of two texts of several lines, removed lines above added ones."""
    rows = [f'<div class="mal-hunk">{text_html(diff.summary())}</div>']
    room = _LINES_MAX
    for hunk in diff.hunks:
        if room <= 0:
            break
        rows.append(f'<div class="mal-hunk">{text_html(hunk.heading)}</div>')
        for line in hunk.lines[:room]:
            sign, style = _LINE_LOOKS[line.kind]
            end = "" if line.has_line_break else f" {note_html('no line break at the end')}"
            shown = "".join(_pieces(line))
            rows.append(
                f'<div class="mal-line {style}"><span class="mal-sign">{sign}</span>'
                f"<span>{shown}{end}</span></div>"
            )
        room -= len(hunk.lines)
    if room < 0 or sum(len(hunk.lines) for hunk in diff.hunks) > _LINES_MAX:
        left_out = sum(len(hunk.lines) for hunk in diff.hunks) - _LINES_MAX
        rows.append(note_html(f"… {counted(left_out, 'more line')} of the difference"))
    return f'<div class="mal-lines">{"".join(rows)}</div>'


def _quoted(parts: list[str]) -> str:
    return f'<span class="mal-string">"{"".join(parts)}"</span>'


def _unknown(comparison: Comparison, path: Path) -> str:
    if len(path) == 1:
        why = "; ".join(
            f"{side}: {reason}"
            for side, event in (("left", comparison.left), ("right", comparison.right))
            if (reason := _why_unknown(event, str(path[0])))
        )
    else:
        why = "redacted on a side"
    return (
        '<div class="mal-change"><div class="mal-change-head">'
        f"{badge_html('unknown')}{_path(path)}"
        f'<span class="mal-muted">{text_html(why)}</span></div></div>'
    )


def _why_unknown(event: Event, name: str) -> str:
    if name not in known_sections(event)[1]:
        return ""
    return "not captured, or not loaded" if event.payload is None else "too big, not kept"
