"""The recorded sample that comes with the package, and a walk through it.

``mcpaudit_lab/demo/data/README.md`` describes the sample and its origin.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcpaudit_lab.demo.printing import say, show_lines, show_step
from mcpaudit_lab.record import visible

if TYPE_CHECKING:
    from rich.console import Console

    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.record import Event

__all__ = ["sample_files", "show_sample"]

_DATA: Final = Path(__file__).parent / "data"


def sample_files() -> list[Path]:
    """The sample: 658 events as a portal's export gave them, and 306 of them with payloads.

    ::

        lab.load(sample_files())
    """
    return [_DATA / "export.jsonl.gz", _DATA / "details.jsonl.gz"]


def show_sample(console: Console, lab_path: Path | None = None) -> None:
    """Load the sample and print statistics, failures and a comparison.

    Args:
        console: where to print.
        lab_path: keep the sample in this lab; None for one in memory.

    Raises:
        LabError: that file is not a lab, or is in use.
    """
    from mcpaudit_lab.lab import Lab

    with Lab(lab_path) as lab:
        _load(console, lab)
        _statistics(console, lab)
        _failures(console, lab)
        _comparison(console, lab)
    _go_on(console, lab_path)


def _load(console: Console, lab: Lab) -> None:
    from mcpaudit_lab.display import cell_text, print_load

    show_step(
        console,
        "The recorded sample: every line is counted, none is lost",
        "lab.load(sample_files())",
    )
    report = lab.load(sample_files())
    print_load(console, report)
    first, last = lab.sql("select min(ts), max(ts) from audit_events").fetchall()[0]
    whole = lab.sql("select count(*) from audit_payloads").fetchall()[0][0]
    say(
        console,
        f"{lab.events().count()} tool calls from {cell_text(first)} to {cell_text(last)[11:]} UTC, "
        f"{whole} of them with request and response.",
    )


def _statistics(console: Console, lab: Lab) -> None:
    from mcpaudit_lab.display import print_table, stats_columns
    from mcpaudit_lab.storage import records

    show_step(console, "Statistics by tool", 'lab.events().stats(by="tool")')
    print_table(console, stats_columns("tool"), records(lab.events().stats(by="tool")))


def _failures(console: Console, lab: Lab) -> None:
    from mcpaudit_lab.display import OUTCOMES, Column, print_table

    show_step(
        console,
        "The failures: how many of each kind, and the newest that says why",
        "lab.events(success=False)",
    )
    columns = (
        Column("tool", least=8),
        Column("outcome", styles=OUTCOMES),
        Column("calls", right=True),
        Column("why", least=20),
        Column("id", is_id=True),
    )
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for event in lab.events(success=False):
        kind = (event.tool_name, event.error_category)
        row = kinds.setdefault(
            kind, {"tool": kind[0], "outcome": kind[1], "calls": 0, "why": "", "id": event.id}
        )
        row["calls"] += 1
        if not row["why"]:
            why = _why(event)
            row |= {"why": why, "id": event.id} if why else {}
    print_table(console, columns, sorted(kinds.values(), key=lambda row: -row["calls"]))


def _why(event: Event) -> str:
    """What a failed call says of itself: a tool that fails says it in its result, if anywhere."""
    payload = event.payload
    result = payload.response_result if payload else None
    content = result.get("content") if isinstance(result, dict) else None
    texts = (block.get("text") for block in content or () if isinstance(block, dict))
    message = "" if event.error_message == "tool returned IsError" else event.error_message
    return next((text for text in texts if isinstance(text, str)), message)


def _comparison(console: Console, lab: Lab) -> None:
    from mcpaudit_lab.display import print_comparison, print_groups

    show_step(console, "Each original and its replay", "lab.compare_replays()")
    replays = lab.compare_replays()
    print_groups(console, replays.groups, "replay")
    changed = next(row for row in reversed(list(replays)) if row["verdict"] == "changed")
    ids = (changed["original"], changed["replay"])
    show_step(console, "One of them", f'lab.compare("{ids[0][:8]}…", "{ids[1][:8]}…")')
    print_comparison(console, lab.compare(*ids))
    say(
        console,
        "The client had asked for progress, the replay did not: the tool says so in its result, "
        "and a notification is missing.",
    )


def _go_on(console: Console, lab_path: Path | None) -> None:
    from rich.text import Text

    path = lab_path or Path("demo.duckdb")
    commands = [
        (f"mcpaudit-lab demo --lab {path}", "keep the sample in a lab"),
        (f"export MCPAUDIT_LAB={path}", ""),
        ("mcpaudit-lab events --failed --tool flaky", "ask"),
        ("mcpaudit-lab show 9be46480", "look at one event"),
        ("mcpaudit-lab compare 9be46480 8018d3b4", "compare two"),
        ('mcpaudit-lab sql "select user_agent, count(*) from audit_events group by all"', ""),
        ("mcpaudit-lab load FILES --lab case.duckdb", "load your own"),
    ]
    show_step(console, "Go on, in a shell")
    width = max(len(command) for command, purpose in commands if purpose)
    for command, purpose in commands[1:] if lab_path else commands:
        line = Text(f"  {visible(command):{width}}")
        line.append(f"  # {purpose}" if purpose else "", "dim")
        line.rstrip()
        console.print(line, soft_wrap=True)
    show_step(console, "or in a notebook")
    show_lines(
        console,
        "from mcpaudit_lab import Lab",
        "from mcpaudit_lab.demo import sample_files",
        "lab = Lab()",
        "lab.load(sample_files())",
        'lab.events(tool="flaky", success=False).df()',
    )
