"""Notes and tags: written once, superseded, found, shown."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hostile import PAYLOADS
from rich.console import Console

from mcpaudit_lab import Lab
from mcpaudit_lab.cli import commands
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.display import print_event
from mcpaudit_lab.errors import EventNotFound, LabError, LabReadOnly
from mcpaudit_lab.lab import EventSet


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        made.load(sample_files(), progress=False)
        yield made


def test_a_note_is_about_an_event_a_set_a_comparison_or_the_lab(lab: Lab) -> None:
    slow, before = lab.events(tool="slow"), datetime.now(UTC)
    first, second = slow.ids()[:2]
    event = lab.note(lab.event(first), "late", tags=["slow", "ask"], by="ann")
    assert (event.id, event.by, event.tags, event.target) == (1, "ann", ("slow", "ask"), "event")
    assert (event.about, event.count) == (first, 1)
    assert before <= event.at <= datetime.now(UTC)
    assert lab.note(second.upper(), "the same").about == second
    whole = lab.note(slow, "all of them", tags="slow")
    assert (whole.target, whole.count, whole.about) == ("events", len(slow), slow.describe())
    both = lab.note(lab.compare(first, second), "differ")
    assert (both.target, both.count) == ("comparison", 2)
    nothing = lab.note(None, "the case")
    assert (nothing.target, nothing.count) == ("lab", 0)
    frame = lab.notes()
    assert list(frame["id"]) == [1, 2, 3, 4, 5]
    assert list(frame["tags"]) == [["slow", "ask"], [], ["slow"], [], []]
    assert str(frame["at"].dtype) == "datetime64[us, UTC]"
    assert lab.notes(history=True).equals(frame)


def test_events_are_found_by_tag(lab: Lab) -> None:
    ids = lab.events(tool="slow").ids()
    assert lab.events(tag="x").count() == 0
    lab.note(ids[0], "one", tags="x")
    lab.note(EventSet(lab, wanted=tuple(ids[:3])), "three", tags=["y", "z"])
    assert set(lab.events(tag="x").ids()) == {ids[0]}
    assert set(lab.events(tag=["x", "y"]).ids()) == set(ids[:3])
    assert set(lab.events(tag="y").where(tag="x").ids()) == {ids[0]}
    assert lab.events(tag="y", tool="echo").count() == 0
    assert lab.events(tag="X").count() == 0
    tagged = lab.events(tag="y")
    assert int(tagged.stats()["total"].sum()) == len(tagged.df()) == 3
    assert tagged.describe() == "tagged 'y'"
    with pytest.raises(TypeError):
        lab.events(tag=7)


def test_a_newer_note_supersedes_and_takes_back(lab: Lab) -> None:
    wrong = lab.events().ids()[0]
    first = lab.note(wrong, "it is broken", tags="broken")
    second = lab.note(wrong, "it is slow", tags="slow", supersedes=first)
    assert second.supersedes == first.id
    assert lab.events(tag="broken").count() == 0
    assert lab.events(tag="slow").count() == 1
    with pytest.raises(LabError, match="was superseded by note 2"):
        lab.note(wrong, "again", supersedes=1)
    with pytest.raises(LabError, match="no note 9"):
        lab.note(wrong, "again", supersedes=9)
    assert list(lab.notes()["text"]) == ["it is slow"]
    taken = lab.note(wrong, supersedes=second)
    assert taken.is_retraction
    assert len(lab.notes()) == 0
    history = lab.notes(history=True)
    assert list(history["superseded_by"].fillna(0)) == [2, 3, 0]
    assert lab.event(wrong).notes == ()
    assert lab.events(tag="slow").count() == 0


def test_what_a_note_cannot_be(lab: Lab) -> None:
    for text, tags in (("", ()), (" ", ()), ("x", ("",)), ("x", (" a",))):
        with pytest.raises(LabError):
            lab.note(None, text, tags=tags)
    with pytest.raises(EventNotFound):
        lab.note("00000000-0000-4000-8000-000000000000", "x")
    assert len(lab.notes(history=True)) == 0


def test_notes_stay_in_the_file_and_a_read_only_lab_has_them(tmp_path: Path) -> None:
    path = tmp_path / "case.duckdb"
    with Lab(path) as lab:
        lab.load(sample_files()[0], progress=False)
        wrong = lab.events().ids()[0]
        lab.note(wrong, "kept", tags="k")
    with Lab(path, read_only=True) as lab:
        assert list(lab.notes()["text"]) == ["kept"]
        assert lab.events(tag="k").ids() == [wrong]
        with pytest.raises(LabReadOnly, match="a note is written into it"):
            lab.note(wrong, "x")


@pytest.mark.parametrize("name", ["script", "ansi", "bidi", "surrogate", "markup", "sql"])
def test_a_hostile_note_is_kept_exactly_and_shown_harmless(name: str, lab: Lab) -> None:
    text = PAYLOADS[name]
    kept = text.encode("utf-8", "replace").decode() if name == "surrogate" else text
    wrong = lab.events().ids()[0]
    note = lab.note(wrong, kept, tags=kept.strip() or "t", by=kept)
    assert (note.text, note.by) == (kept, kept)
    html = lab.event(wrong)._repr_html_()
    assert "<script" not in html
    assert "\x1b" not in html
    console = Console(file=io.StringIO(), width=100, color_system=None)
    print_event(console, lab.event(wrong))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b" not in console.file.getvalue()


def test_the_bundle_and_its_report_have_them(lab: Lab, tmp_path: Path) -> None:
    ids = lab.events(tool="slow").ids()
    first = lab.note(ids[0], "the first", tags="t", by="ann")
    lab.note(ids[0], "the second", by="bo", supersedes=first)
    lab.note(None, "of the case")
    lab.note(lab.events(tool="echo"), "of others")
    report = lab.bundle(
        tmp_path / "case.zip", lab.events(tool="slow"), notes="and this", progress=False
    )
    assert report.findings == 4
    with zipfile.ZipFile(tmp_path / "case.zip") as zipped:
        rows = [json.loads(line) for line in zipped.read("findings.jsonl").splitlines()]
        page = zipped.read("report.html").decode()
    assert [row["text"] for row in rows] == ["the first", "the second", "of the case", "and this"]
    assert rows[0]["superseded_by"] == 2
    assert rows[0]["events"] == [ids[0]]
    for text in ("the first", "the second", "of the case", "and this", "superseded by note 2"):
        assert text in page


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, list(map(str, arguments)))


def test_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "case.duckdb"
    with Lab(path) as lab:
        lab.load(sample_files(), progress=False)
        wrong = lab.events(tool="slow").ids()[0]
    lab_option = ("--lab", path)
    assert run("notes", *lab_option).exit_code == 1
    found = run(
        "note", "too late", "--event", wrong[:13], "--tag", "late", "--by", "ann", *lab_option
    )
    assert found.exit_code == 0, found.output
    assert run("note", "all", "--tool", "echo", "--tag", "all", *lab_option).exit_code == 0
    assert run("note", "the case", *lab_option).exit_code == 0
    assert run("note", "x", "--event", "0000", *lab_option).exit_code in (1, 2)
    shown = run("notes", *lab_option).output
    assert "too late" in shown
    rows = [json.loads(line) for line in run("notes", "--json", *lab_option).output.splitlines()]
    assert [(row["text"], row["target"]) for row in rows] == [
        ("too late", "event"),
        ("all", "events"),
        ("the case", "lab"),
    ]
    assert rows[0]["by"] == "ann"
    listed = run("events", "--tag", "late", "--json", *lab_option).output.splitlines()
    assert [json.loads(line)["id"] for line in listed] == [wrong]
    assert "too late" in run("show", wrong, *lab_option).output
    assert run("note", "", "--supersedes", 1, *lab_option).exit_code == 0
    assert "too late" not in run("notes", *lab_option).output
    assert "too late" in run("notes", "--history", *lab_option).output


@pytest.mark.parametrize("part", ["text", "by", "tags"])
def test_a_note_with_a_lone_surrogate_is_refused(part: str) -> None:
    given: dict[str, Any] = {"text": "a", "by": "b", "tags": "c", part: "\ud800"}
    with Lab() as lab:
        with pytest.raises(LabError, match="lone surrogate"):
            lab.note(None, given["text"], by=given["by"], tags=given["tags"])
        assert lab.notes().empty
