"""The recorder in a client's configuration: put in, taken out, nothing else changed."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from recording import ECHO, call_line, recorded

from mcpaudit_lab.cli import commands
from mcpaudit_lab.recorder.client_config import Outcome, unwrap_text, wrap_text
from mcpaudit_lab.recorder.jsonc import JsoncError, parse_jsonc

RECORDER = ["/opt/bin/mcpaudit-lab"]
VS_CODE = """\ufeff// servers of this folder
{
\t"inputs": [ ],  /* none */
\t"servers": {
\t\t"files": { // stdio
\t\t\t"type": "stdio", "command": "npx",
\t\t\t"args": [
\t\t\t\t// the package
\t\t\t\t"-y", "@scope/files", // and where
\t\t\t\t"C:\\\\data\\u0021",
\t\t\t],
\t\t\t"env": {"A": "b"},
\t\t},
\t\t"bare": {"command": "/usr/bin/server"},
\t\t"empty": {"args": [], "command": "server"},
\t\t"spaces": {"command": "server", "args": [ /* nothing */ ]},
\t\t"one": {"command": "x","args":["y"]},
\t\t"web": {"type": "http", "url": "https://h.example:1/mcp?a=b", "headers": {"K": "${k}"}},
\t\t"odd": {"other": 1},
\t},
}
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_undone_is_byte_for_byte_what_it_was(newline: str) -> None:
    before = VS_CODE.replace("\n", newline)
    after, changes = wrap_text(before, RECORDER, options=["--database", "x"], port=8901)
    outcomes = {change.name: change.outcome for change in changes}
    assert outcomes.pop("odd") == Outcome.UNKNOWN
    assert set(outcomes.values()) == {Outcome.WRAPPED}
    assert unwrap_text(after)[0] == before


def test_what_is_put_in_starts_the_recorder_before_the_same_command() -> None:
    after, _ = wrap_text(VS_CODE, RECORDER, options=["--database", "x"], port=8901)
    servers: Any = parse_jsonc(after).members["servers"].members  # type: ignore[index]  # a text of this test
    files = servers["files"].members
    assert files["command"].value == "/opt/bin/mcpaudit-lab"
    assert [item.value for item in files["args"].items or ()] == [
        *("record", "--database", "x", "--"),
        *("npx", "-y", "@scope/files", "C:\\data!"),
    ]
    # Comments and all other lines stay.
    kept = list(difflib.ndiff(VS_CODE.splitlines(), after.splitlines()))
    assert sum(line.startswith("- ") for line in kept) == 7
    assert '"url": "http://127.0.0.1:8901/mcp?a=b"' in after


def test_twice_is_once() -> None:
    after, _ = wrap_text(VS_CODE, RECORDER, port=8901)
    again, changes = wrap_text(after, RECORDER, port=8901)
    assert again == after
    assert {change.outcome for change in changes} == {Outcome.ALREADY, Outcome.UNKNOWN}


def test_only_the_servers_that_are_named_are_touched() -> None:
    after, changes = wrap_text(VS_CODE, RECORDER, ["one"])
    assert [(change.name, change.outcome) for change in changes] == [("one", Outcome.WRAPPED)]
    assert after.count("mcpaudit-lab") == 1
    assert unwrap_text(after, ["bare"])[1][0].outcome == Outcome.NOT_WRAPPED
    assert unwrap_text(after, ["one"])[0] == VS_CODE
    with pytest.raises(JsoncError, match="no server 'two'"):
        wrap_text(VS_CODE, RECORDER, ["two"])


def test_what_was_changed_meanwhile_stays_changed() -> None:
    after, _ = wrap_text(VS_CODE, RECORDER)
    edited = after.replace('"-y"', '"-y", "--verbose"').replace('"A": "b"', '"A": "c"')
    expected = VS_CODE.replace('"-y"', '"-y", "--verbose"').replace('"A": "b"', '"A": "c"')
    assert unwrap_text(edited)[0] == expected


GAPS = st.sampled_from(["", " ", "\n  ", "/* c */", " // c\n", "\r\n"])


@st.composite
def configurations(draw: Any) -> str:
    def gap() -> str:
        return str(draw(GAPS))

    def string() -> str:
        return json.dumps(draw(st.text(max_size=5)), ensure_ascii=draw(st.booleans()))

    def listed(items: list[str], ends: str) -> str:
        comma = "," if items and draw(st.booleans()) else ""
        inner = ",".join(f"{gap()}{item}{gap()}" for item in items)
        return f"{ends[0]}{inner}{comma}{gap()}{ends[1]}"

    servers = []
    for name in draw(st.sets(st.sampled_from("abcd"))):
        members = [f'"command"{gap()}:{gap()}{string()}']
        if draw(st.booleans()):
            args = [string() for _ in range(draw(st.integers(0, 3)))]
            members.append(f'"args"{gap()}:{gap()}{listed(args, "[]")}')
        members.append(f'"env":{gap()}{{"K":{string()}}}')
        servers.append(f'"{name}":{gap()}{listed(list(draw(st.permutations(members))), "{}")}')
    root = f'"mcpServers":{gap()}{listed(servers, "{}")}'
    return f"{gap()}{listed([root], '{}')}{gap()}"


@given(configurations())
def test_any_configuration_is_the_same_after_both(before: str) -> None:
    after, changes = wrap_text(before, RECORDER)
    assert {change.outcome for change in changes} <= {Outcome.WRAPPED}
    parse_jsonc(after)
    assert unwrap_text(after)[0] == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "neither mcpServers nor servers"),
        ('{"mcpServers": {"a": }}', "line 1: a value is missing"),
        ('{\n"mcpServers" 1}', "line 2: a colon is missing"),
        ('{"a": 1} 2', "line 1: unexpected text after the JSON value"),
        ("[" * 300, "line 1: nested too deeply"),
        ('{"a": "x', "line 1: a value is missing"),
    ],
)
def test_what_is_no_configuration_is_said(text: str, said: str) -> None:
    with pytest.raises(JsoncError, match=said):
        wrap_text(text, RECORDER)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(commands, [str(item) for item in arguments])


def test_the_command_keeps_a_copy_and_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_bytes(VS_CODE.encode())
    file.chmod(0o640)
    dry = run("wrap", file, "--dry-run")
    assert dry.exit_code == 0
    assert '-\t\t"bare": {"command": "/usr/bin/server"},' in dry.output.replace("\\t", "\t")
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == VS_CODE.encode()
    done = run("wrap", file, "--database", tmp_path / "calls.db", "--port", 8901)
    assert done.exit_code == 0
    assert "--url 'https://h.example:1/mcp?a=b' --port 8901" in done.output
    assert (tmp_path / "mcp.json.before-mcpaudit-1").read_bytes() == VS_CODE.encode()
    if sys.platform != "win32":
        assert file.stat().st_mode & 0o777 == 0o640
    assert run("unwrap", file).exit_code == 0
    assert file.read_bytes() == VS_CODE.encode()
    assert run("unwrap", file).exit_code == 1
    file.write_text("nonsense", encoding="ascii")
    assert run("wrap", file).exit_code == 2


def test_a_wrapped_command_runs_and_records(tmp_path: Path) -> None:
    file = tmp_path / ".mcp.json"
    server = {"command": sys.executable, "args": ["-c", ECHO]}
    file.write_text(json.dumps({"mcpServers": {"bare": server}}), encoding="utf-8")
    assert run("wrap", file, "--database", tmp_path / "calls.db").exit_code == 0
    wrapped = json.loads(file.read_text(encoding="utf-8"))["mcpServers"]["bare"]
    command = [wrapped["command"], *wrapped["args"]]
    done = subprocess.run(command, input=call_line(1, "echo"), capture_output=True, check=True)
    assert json.loads(done.stdout.splitlines()[0])["id"] == 1
    (event,) = recorded(tmp_path / "calls.db")
    assert event.extra["command"][0] == sys.executable
