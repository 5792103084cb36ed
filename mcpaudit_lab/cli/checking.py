"""The command that takes recorded calls for a regression test: ``check``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcpaudit_lab.cli.options import filter_options, json_option
from mcpaudit_lab.cli.output import open_output, print_json, print_rows, say
from mcpaudit_lab.cli.replaying import planned, planning_options, target_options
from mcpaudit_lab.cli.status import FOUND, LOOK, Trouble

if TYPE_CHECKING:
    from mcpaudit_lab.display import Column
    from mcpaudit_lab.filters import EventFilter
    from mcpaudit_lab.lab import Lab
    from mcpaudit_lab.replay import CaseResult

__all__ = ["check"]


@click.command()
@click.argument("case", type=click.Path(path_type=Path, exists=True))
@target_options(portals=False)
@planning_options
@click.option(
    "--noise",
    "noise_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Paths to ignore, by tool; `replay --save-noise` writes this file.",
)
@click.option("--rate", metavar="RATE", help="How fast: 10/s, 5/m, 1/12s.")
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write JUnit XML.",
)
@filter_options
@json_option
def check(
    *,
    case: Path,
    where: Callable[[], Any],
    noise_path: Path | None,
    rate: str | None,
    junit: Path | None,
    filters: tuple[EventFilter, ...],
    as_json: bool,
    **options: Any,
) -> int:
    """Call recorded calls again and compare the answers.

    CASE is a lab, or what `load` takes: an export with payloads. It is not changed. A tool that is
    gone, or that takes the arguments no more, is drift too.

    Exit status: 0 if all that was checked is the same; 1 if anything drifted or has no answer; 2
    if nothing could be checked, a line of CASE cannot be read, or the noise is of a tool that CASE
    has no call of: then nothing is called.
    """
    from mcpaudit_lab.comparison import ComparisonGroups
    from mcpaudit_lab.replay import Noise, check_noise, check_run, junit_xml

    groups = ComparisonGroups()
    noise: Noise = Noise() if noise_path is None else Noise.read(noise_path)
    with _case_lab(case) as lab, where() as target:
        rows = lab.sql("select distinct tool_name from audit_events").fetchall()
        check_noise(noise, (name for (name,) in rows))
        made = planned(lab, target, (), filters, options)
        results = check_run(made.run(rate=rate), noise, groups)
    if junit is not None:
        junit.write_text(junit_xml(results, target=made.target.name), encoding="utf-8")
    counts = {name: sum(r.outcome == name for r in results) for name in ("same", "drift", "error")}
    skipped = len(results) - sum(counts.values())
    if as_json:
        for result in results:
            print_json(result.to_dict())
    else:
        told = [_row(result) for result in results if result.outcome != "same"]
        print_rows(told, _check_columns(), as_json=False)
        if groups.counts()["changed"]:
            from mcpaudit_lab.display import print_groups

            print_groups(open_output(), groups, "answer")
        say(
            f"{counts['same']} the same, {counts['drift']} drifted, {counts['error']} without an"
            f" answer, {skipped} not checked"
        )
    if not any(counts.values()):
        raise Trouble("Nothing was checked; `plan` with the same options says why.")
    return LOOK if counts["drift"] or counts["error"] else FOUND


def _row(result: CaseResult) -> dict[str, Any]:
    """The same in one line, as a table shows it."""
    detail = "; ".join(" ".join(line.split()) for line in result.detail.splitlines())
    return {**result.to_dict(), "detail": detail}


@contextmanager
def _case_lab(case: Path) -> Iterator[Lab]:
    """The case in a lab in memory, so that a check leaves no trace in it."""
    from mcpaudit_lab.lab import Lab

    with Lab() as lab:
        if _is_lab(case):
            with Lab(case, read_only=True) as stored:
                lab.add_events(stored.events(), kind="replay", name=str(case))
        else:
            # A call that cannot be read is one that is not guarded: no reason for a green build.
            lab.load(case, strict=True, progress=False)
        yield lab


def _is_lab(case: Path) -> bool:
    if not case.is_file():
        return False
    with case.open("rb") as file:
        # A DuckDB file has its magic bytes after a checksum.
        return file.read(12)[8:] == b"DUCK"


def _check_columns() -> tuple[Column, ...]:
    from mcpaudit_lab.display import Column

    return (
        Column("event_id", "event", is_id=True),
        Column("tool_name", "tool", least=8),
        Column("outcome", styles={"drift": "yellow", "error": "red", "skipped": "magenta"}),
        Column("detail", least=12),
    )
