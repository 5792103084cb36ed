"""Recorded calls as a regression test: call again, compare, ignore noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape, quoteattr

from mcpaudit_lab.calls import RefusalReason
from mcpaudit_lab.comparison import Comparison, Verdict, compare, format_path
from mcpaudit_lab.errors import ReplayError
from mcpaudit_lab.record import visible

if TYPE_CHECKING:
    from mcpaudit_lab.comparison import ComparisonGroups
    from mcpaudit_lab.replay.plan import PlanItem
    from mcpaudit_lab.replay.run import ReplayRun

__all__ = ["CaseResult", "check_noise", "check_run", "junit_xml"]

# The target has changed so that the call cannot even be made.
_BROKEN: Final = (RefusalReason.TOOL_MISSING, RefusalReason.DOES_NOT_FIT)
_SHOWN_CHANGES: Final = 20


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What one recorded call says of a target.

    Attributes:
        event_id: the recorded call.
        tool_name: its tool.
        outcome: ``same``; ``drift``; ``error`` if there is no response to compare; ``skipped`` if
            the call must not or cannot be made, or its response cannot be compared.
        detail: why, as lines for a person.
        duration_ms: how long the call took.
    """

    event_id: str
    tool_name: str
    outcome: str
    detail: str = ""
    duration_ms: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {
            "event_id": self.event_id,
            "tool_name": self.tool_name,
            "outcome": self.outcome,
            "detail": self.detail,
            "duration_ms": self.duration_ms,
        }


def check_noise(noise: Iterable[str], tools: Iterable[str]) -> None:
    """Refuse noise for a tool that no recorded call is of: most likely its name is misspelled.

    Args:
        noise: the tools that have noise.
        tools: the tools of the recorded calls.

    Raises:
        ReplayError: the noise names an unknown tool.
    """
    known = sorted(set(tools))
    if unknown := sorted(set(noise) - set(known)):
        listed = ", ".join(visible(name) for name in known) or "none"
        raise ReplayError(
            f"noise is given for {', '.join(repr(visible(name)) for name in unknown)}, but the case"
            f" has no call of it; it has calls of: {listed}"
        )


def check_run(
    run: ReplayRun, noise: Mapping[str, Iterable[str]], groups: ComparisonGroups | None = None
) -> list[CaseResult]:
    """What each recorded call says, in the order of the calls.

    Where a call was sent several times, its first answer is compared.

    Args:
        run: a run that came to its end.
        noise: paths to ignore.
        groups: gets each comparison of an answer, for what drifted in many calls.
    """
    states = {state.event_id: state for state in run.states if state.attempt == 1}
    results = []
    for item in run.plan.items:
        state = states.get(item.event.id)
        if item.refusal is not None or state is None:
            results.append(_refused(item))
            continue
        replay = run.replay_of(state)
        if replay is None:
            detail = f"{state.status}: {state.detail}" if state.detail else state.status
            results.append(_result(item, "error", detail, state.duration_ms or 0))
            continue
        # The request is ours; only the response says something about the target.
        patterns = ("param", *noise.get(item.event.tool_name, ()))
        found = compare(item.event, replay, ignore=patterns)
        if groups is not None:
            groups.add(item.event.tool_name, found)
        outcome = {Verdict.EQUAL: "same", Verdict.CHANGED: "drift"}.get(found.verdict, "skipped")
        lines = "\n".join(_lines(found))
        results.append(_result(item, outcome, lines, replay.duration_ms))
    return results


def _refused(item: PlanItem) -> CaseResult:
    broken = item.refusal is not None and item.refusal.reason in _BROKEN
    return _result(item, "drift" if broken else "skipped", item.detail)


def _result(item: PlanItem, outcome: str, detail: str = "", ms: int = 0) -> CaseResult:
    return CaseResult(item.event.id, item.event.tool_name, outcome, _visible_lines(detail), ms)


def _visible_lines(text: str) -> str:
    """Each line without what a terminal would obey."""
    return "\n".join(map(visible, text.splitlines()))


def _lines(found: Comparison) -> Iterator[str]:
    if found.verdict is Verdict.CHANGED:
        # The headline and the two events are already shown.
        yield from found.describe(changes_max=_SHOWN_CHANGES).splitlines()[3:]
    elif found.verdict is Verdict.UNKNOWN:
        paths = ", ".join(map(format_path, found.unknown[:_SHOWN_CHANGES]))
        yield f"not comparable: {paths}"


def junit_xml(results: Iterable[CaseResult], *, target: str) -> str:
    """The results as JUnit XML: a ``failure`` for drift, an ``error`` where no answer came.

    Args:
        results: the results of :func:`check_run`.
        target: whose; the suite's name.
    """
    cases = list(results)
    counts = dict.fromkeys(("same", "drift", "error", "skipped"), 0)
    for case in cases:
        counts[case.outcome] += 1
    total_s = sum(case.duration_ms for case in cases) / 1000
    suite = (
        f"<testsuites><testsuite name={_attribute(target)} tests={_attribute(len(cases))}"
        f" failures={_attribute(counts['drift'])} errors={_attribute(counts['error'])}"
        f" skipped={_attribute(counts['skipped'])} time={_attribute(f'{total_s:.3f}')}>"
    )
    lines = ['<?xml version="1.0" encoding="utf-8"?>', suite]
    lines += map(_case_xml, cases)
    lines.append("</testsuite></testsuites>")
    return "\n".join(lines) + "\n"


def _case_xml(case: CaseResult) -> str:
    head = (
        f"<testcase classname={_attribute(case.tool_name)} name={_attribute(case.event_id)}"
        f" time={_attribute(f'{case.duration_ms / 1000:.3f}')}"
    )
    if case.outcome == "same":
        return f"{head}/>"
    tag = {"drift": "failure", "error": "error", "skipped": "skipped"}[case.outcome]
    first, _, _ = case.detail.partition("\n")
    body = escape(_xml_text(case.detail))
    return f"{head}><{tag} message={_attribute(first.strip())}>{body}</{tag}></testcase>"


def _attribute(value: object) -> str:
    return quoteattr(_xml_text(visible(str(value))))


def _xml_text(shown: str) -> str:
    # XML 1.0 has no form for these, nor for control characters, which visible() has escaped.
    shown = shown.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
    return shown.encode("utf-8", "replace").decode()
