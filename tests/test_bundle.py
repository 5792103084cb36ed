"""A bundle: what is in it, and what ``verify.py`` finds when somebody changed it."""

from __future__ import annotations

import base64
import io
import json
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from test_proof_portal import made

from mcpaudit_lab import Event, Lab, PortalClient
from mcpaudit_lab.bundle import Check, Redactor, commitment, verify
from mcpaudit_lab.cli import commands
from mcpaudit_lab.demo import sample_files
from mcpaudit_lab.errors import FilterError, LabError, SourceError, TamperError, UnknownFormat
from mcpaudit_lab.lab import EventSet
from mcpaudit_lab.proof import LogSigner, leaf_of, tree_of, verify_inclusion
from mcpaudit_lab.record import canonical_json, loads
from mcpaudit_lab.server import SqlLogger, background_portal
from mcpaudit_lab.storage import same_event

Parts: TypeAlias = dict[str, bytes]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of 12 events from a portal with a log, and of some from a file."""
    folder = tmp_path_factory.mktemp("case")
    with (
        SqlLogger(f"sqlite:///{folder}/audit.db") as store,
        Lab(folder / "case.duckdb") as lab,
        background_portal(None, store, {"me": "key"}) as running,
        PortalClient(running.url, api_key="key") as portal,
    ):
        store.log([made(number) for number in range(1, 13)])
        lab.pull(portal, progress=False)
        for file in sample_files():
            lab.load(shutil.copy(file, folder), progress=False)
        lab.connection.execute("checkpoint")
        yield lab


@pytest.fixture(scope="module")
def logged(case: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the 12 events that a log has, not signed."""
    path = tmp_path_factory.mktemp("logged") / "case.zip"
    ids = [made(number).id for number in range(1, 13)]
    report = case.bundle(
        path,
        EventSet(case, wanted=tuple(ids)),
        notes=["<script>alert(1)</script> is what it said", "\x1b[2J"],
        comparisons=[case.compare(ids[0], ids[1])],
        title="Case <42>",
        progress=False,
    )
    assert report.proven == report.events == 12
    return path


def rewritten(path: Path, change: Callable[[Parts], object], *, honest_manifest: bool) -> Path:
    """A copy with changed members; with ``honest_manifest`` the manifest is made to fit."""
    with zipfile.ZipFile(path) as found:
        parts = {name: found.read(name) for name in found.namelist()}
    change(parts)
    if honest_manifest:
        manifest = json.loads(parts["manifest.json"])
        manifest["files"] = {
            name: verify.sha256_of(io.BytesIO(data))
            for name, data in parts.items()
            if not name.startswith("manifest.")
        }
        manifest["events"] = parts["events.jsonl"].count(b"\n")
        parts["manifest.json"] = f"{canonical_json(manifest)}\n".encode()
    changed = path.with_name("changed.zip")
    sizes = {name: len(data) for name, data in parts.items()}
    with changed.open("wb") as file:
        verify.pack(file, sizes, lambda name, out: out.write(parts[name]))
    return changed


def test_what_is_in_it(logged: Path, case: Lab) -> None:
    found = Check(str(logged))
    assert (found.status, found.faults, dict(found.unchecked)) == (0, [], {})
    with zipfile.ZipFile(logged) as zipped:
        names = set(zipped.namelist())
        lines = zipped.read("events.jsonl").splitlines()
        assert len(zipped.read("verify.py").splitlines()) <= 400
        report = zipped.read("report.html").decode()
        assert json.loads(zipped.read("manifest.json"))["title"] == "Case <42>"
    assert names == {
        *("README.txt", "verify.py", "report.html", "events.jsonl", "ledger.jsonl"),
        *("checkpoints.jsonl", "proofs.jsonl", "comparisons.jsonl", "findings.jsonl"),
        "manifest.json",
    }
    for line in lines:
        event = Event.from_json(line)
        assert same_event(event, case.event(event.id))
    assert "<script" not in report
    assert "&lt;script&gt;" in report
    assert "\x1b" not in report


def test_the_same_case_gives_the_same_bytes(case: Lab, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        case.bundle(tmp_path / name / "case.zip", title="t", sign=tmp_path / "key", progress=False)
    assert (tmp_path / "one/case.zip").read_bytes() == (tmp_path / "two/case.zip").read_bytes()


def test_every_line_that_an_event_came_from_is_in_it(case: Lab, tmp_path: Path) -> None:
    report = case.bundle(tmp_path / "case.zip", progress=False)
    assert report.raw_lines == 964
    assert sum(report.no_raw.values()) == 24
    assert "a portal cannot be read again" in str(report)
    with zipfile.ZipFile(tmp_path / "case.zip") as zipped:
        rows = [json.loads(line) for line in zipped.read("raw.jsonl").splitlines()]
    row = rows[17]
    found = {item.part: item for item in case.provenance(row["event_id"])}
    assert row["text"].encode() == found[row["part"]].raw


def pythons() -> list[str]:
    """This interpreter, and the others from 3.9 on that pyenv keeps here."""
    kept = sorted((Path.home() / ".pyenv" / "versions").glob("3.*/bin/python"))
    return [sys.executable, *(str(item) for item in kept if int(item.parts[-3].split(".")[1]) >= 9)]


@pytest.mark.parametrize("program", pythons())
def test_it_runs_alone_on_each_version(program: str, logged: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(logged) as zipped:
        zipped.extract("verify.py", tmp_path)
    done = subprocess.run(
        [program, "-I", tmp_path / "verify.py", logged],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "verified 12 of 12 events: 12 by a log's checkpoint" in done.stdout
    assert done.stdout.endswith("\nholds\n")


def swap_in_event(parts: Parts) -> None:
    parts["events.jsonl"] = parts["events.jsonl"].replace(b'"duration_ms":', b'"duration_ms":1', 1)


def drop_event(parts: Parts) -> None:
    parts["events.jsonl"] = parts["events.jsonl"].split(b"\n", 1)[1]


def double_event(parts: Parts) -> None:
    first = parts["events.jsonl"].split(b"\n", 1)[0]
    parts["events.jsonl"] += first + b"\n"


def other_place(parts: Parts) -> None:
    parts["proofs.jsonl"] = parts["proofs.jsonl"].replace(b'"index":1,', b'"index":2,', 1)


def other_root(parts: Parts) -> None:
    row = json.loads(parts["checkpoints.jsonl"])
    lines = row["note"].split("\n")
    lines[2] = base64.b64encode(bytes(32)).decode()
    parts["checkpoints.jsonl"] = json.dumps({**row, "note": "\n".join(lines)}).encode() + b"\n"


def other_ledger(parts: Parts) -> None:
    parts["ledger.jsonl"] = parts["ledger.jsonl"].replace(b'"lines":12', b'"lines":13')


def no_json(parts: Parts) -> None:
    parts["events.jsonl"] = b"{" + parts["events.jsonl"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (swap_in_event, "is not what http"),
        (drop_event, "is missing"),
        (double_event, "comes twice"),
        (other_place, "is not what http"),
        (other_root, "not signed by"),
        (other_ledger, "source 1 was changed"),
        (no_json, "damaged"),
    ],
)
@pytest.mark.parametrize("honest_manifest", [True, False])
def test_a_changed_member_is_found(
    change: Callable[[Parts], object], told: str, honest_manifest: bool, logged: Path
) -> None:
    found = Check(str(rewritten(logged, change, honest_manifest=honest_manifest)))
    assert found.status == 1
    assert any(told in fault for fault in found.faults), found.faults
    if not honest_manifest:
        assert any("SHA-256 differs" in fault for fault in found.faults)


def test_a_member_too_many_and_one_too_few(logged: Path) -> None:
    more = rewritten(logged, lambda parts: parts.update(x=b""), honest_manifest=False)
    assert Check(str(more)).faults == ["x: missing in manifest.json"]
    less = rewritten(logged, lambda parts: parts.pop("README.txt"), honest_manifest=False)
    assert Check(str(less)).faults == ["README.txt: missing in the bundle"]


@pytest.mark.parametrize(
    "count", [60, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_every_changed_byte_is_found(count: int, logged: Path, tmp_path: Path) -> None:
    data, path = logged.read_bytes(), tmp_path / "changed.zip"
    for seed in range(count):
        chance = random.Random(seed)  # noqa: S311 - the edits are the same in each run
        place = chance.randrange(len(data))
        byte = (data[place] + chance.randrange(1, 256)) % 256
        path.write_bytes(data[:place] + bytes([byte]) + data[place + 1 :])
        found = Check(str(path))
        assert found.status == 1, f"byte {place} is {byte}"
    for size in (0, 1, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        assert Check(str(path)).status == 1
    path.write_bytes(data + b"\n")
    assert Check(str(path)).status == 1


def test_signatures(case: Lab, tmp_path: Path) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    report = case.bundle(tmp_path / "case.zip", sign=key, progress=False)
    assert report.key == str(LogSigner.from_file(key).key)
    assert key.stat().st_mode & 0o777 == 0o600
    path = str(tmp_path / "case.zip")
    assert Check(path).status == 0
    assert Check(path, report.key).status == 0
    other_key = str(LogSigner.from_file(other).key)
    assert "not signed by" in Check(path, other_key).faults[0]
    assert "has the key" in Check(path, report.key, [other_key]).faults[0]

    def edit(parts: Parts) -> None:
        parts["report.html"] += b"<p>and more"

    changed = rewritten(tmp_path / "case.zip", edit, honest_manifest=True)
    assert Check(str(changed)).faults == ["manifest.sig: signed for another manifest.json"]

    def strip(parts: Parts) -> None:
        edit(parts)
        del parts["manifest.sig"]
        manifest = json.loads(parts["manifest.json"])
        parts["manifest.json"] = json.dumps({**manifest, "signer": None}).encode()

    stripped = str(rewritten(tmp_path / "case.zip", strip, honest_manifest=True))
    assert Check(stripped).status == 2
    assert Check(stripped, report.key).status == 1


def test_without_log_and_signature_it_cannot_be_checked(tmp_path: Path) -> None:
    with Lab() as lab:
        lab.load(sample_files(), progress=False)
        lab.bundle(tmp_path / "case.zip", progress=False)
        with pytest.raises(LabError, match="exists"):
            lab.bundle(tmp_path / "case.zip", progress=False)
        with pytest.raises(LabError, match="zip"):
            lab.bundle(tmp_path / "case.tar", progress=False)
    found = Check(str(tmp_path / "case.zip"))
    assert (found.status, found.faults) == (2, [])
    assert dict(found.unchecked) == {"no log has them, and the bundle is not signed": 658}
    assert Check(str(sample_files()[0])).status == 1
    assert Check(str(tmp_path / "missing.zip")).status == 1


def test_a_changed_lab_gives_no_bundle(case: Lab, tmp_path: Path) -> None:
    shutil.copy(str(case.path), tmp_path / "copy.duckdb")
    with Lab(tmp_path / "copy.duckdb") as lab:
        wrong = made(3).id
        lab.connection.execute(
            "update audit_events set duration_ms = duration_ms + 1 where id = $id", {"id": wrong}
        )
        with pytest.raises(TamperError) as caught:
            lab.bundle(tmp_path / "case.zip", progress=False)
        assert caught.value.faults == (f"changed: {wrong}",)
    assert [item.name for item in tmp_path.iterdir() if item.suffix == ".zip"] == []


def test_a_bundle_opens_as_a_lab_and_loads(logged: Path, case: Lab) -> None:
    with Lab.open_bundle(logged) as lab:
        assert lab.read_only
        assert len(lab.events()) == 12
        for event in lab.events():
            assert same_event(event, case.event(event.id))
    with Lab() as lab:
        report = lab.load(logged, progress=False)
        assert (report.loaded, report.rejected) == (12, 0)
        assert lab.load(logged, progress=False).duplicates == 12


def test_redacted_values_are_in_no_part_and_can_be_shown_later(case: Lab, tmp_path: Path) -> None:
    path, key = tmp_path / "case.zip", tmp_path / "key"
    chosen = case.events(tool="echo")
    messages = {
        e.id: e.wire["parameters"]["message"]
        for e in chosen
        if "message" in (e.wire.get("parameters") or {})
    }
    pair = sorted(messages, key=lambda event_id: -len(str(messages[event_id])))[:2]
    secret = messages[pair[0]]
    assert len(secret) > 10
    with pytest.raises(LabError, match="redact needs sign"):
        case.bundle(path, chosen, redact="**.message", progress=False)
    report = case.bundle(
        path,
        chosen,
        redact=["**.message", "payload.response_result", "payload.notifications"],
        comparisons=[case.compare(*pair)],
        sign=key,
        progress=False,
    )
    assert report.redacted > 0
    with zipfile.ZipFile(path) as zipped:
        parts = {name: zipped.read(name) for name in zipped.namelist()}
    assert [name for name, data in parts.items() if secret.encode() in data] == []
    found = Check(str(path))
    assert (found.status, found.faults) == (0, [])
    assert report.proven == 0
    row = next(
        row
        for row in map(json.loads, parts["redactions.jsonl"].splitlines())
        if (row["id"], row["path"]) == (pair[0], "parameters.message")
    )
    redactor = Redactor([], LogSigner.from_file(key))
    assert row["commitment"] == commitment(redactor.salt(pair[0], row["path"]), secret)
    with Lab.open_bundle(path) as lab:
        assert lab.event(pair[0]).wire["parameters"]["message"] == "[redacted]"


def test_a_line_that_holds_a_redacted_event_is_in_no_bundle(case: Lab, tmp_path: Path) -> None:
    shutil.copy(str(case.path), tmp_path / "copy.duckdb")
    with Lab(tmp_path / "copy.duckdb") as lab:
        secret = next(e for e in lab.events(has="request_params") if "message" in str(e.wire))
        other = lab.events(tool="slow", has="request_params").ids()[0]
        # One line of a transcript may hold several calls.
        lab.connection.execute(
            "update audit_events e set source_id = o.source_id, line = o.line,"
            " byte_offset = o.byte_offset, byte_size = o.byte_size from audit_events o"
            " where o.id = $secret and e.id = $other",
            {"secret": secret.id, "other": other},
        )
        chosen = EventSet(lab, wanted=(secret.id, other))
        path = tmp_path / "case.zip"
        lab.bundle(path, chosen, redact="**.message", sign=tmp_path / "key", progress=False)
        line = lab.provenance(other)[0].raw
    with zipfile.ZipFile(path) as zipped:
        rows = [json.loads(row) for row in zipped.read("raw.jsonl").splitlines()]
    assert line
    assert [row for row in rows if row["text"].encode() == line] == []
    assert {row["event_id"] for row in rows} == {other}


def test_what_an_event_cannot_be_without_is_not_taken_out(case: Lab, tmp_path: Path) -> None:
    with pytest.raises(FilterError, match="cannot be without duration_ms"):
        case.bundle(
            tmp_path / "case.zip", redact="duration_ms", sign=tmp_path / "key", progress=False
        )
    assert not (tmp_path / "case.zip").exists()


def test_a_comparison_beside_the_events_is_redacted_as_well(case: Lab, tmp_path: Path) -> None:
    pair = case.events(tool="echo", has="request_params").ids()[:2]
    path = tmp_path / "case.zip"
    case.bundle(
        path,
        case.events(tool="slow"),
        comparisons=[case.compare(*pair)],
        redact="payload.request_params",
        sign=tmp_path / "key",
        progress=False,
    )
    with zipfile.ZipFile(path) as zipped:
        rows = [json.loads(row) for row in zipped.read("redactions.jsonl").splitlines()]
    assert set(pair) <= {row["id"] for row in rows}
    assert Check(str(path)).status == 0


def test_another_archive_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "exports.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.write(sample_files()[0], "export.jsonl.gz")
    with pytest.raises(UnknownFormat, match="is no bundle"):
        Lab.open_bundle(path)
    with pytest.raises(SourceError):
        Lab.open_bundle(tmp_path / "missing.zip")


def test_a_bundle_that_is_cut_off_does_not_hold(logged: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.zip"
    path.write_bytes(logged.read_bytes()[:-100])
    assert CliRunner().invoke(commands, ["verify", str(path)]).exit_code == 1


def test_the_command_line_writes_and_verifies(case: Lab, tmp_path: Path) -> None:
    shutil.copy(str(case.path), tmp_path / "lab.duckdb")
    path, key = tmp_path / "case.zip", tmp_path / "key"

    def run(*arguments: object) -> tuple[int, str]:
        found = CliRunner().invoke(commands, list(map(str, arguments)))
        return found.exit_code, found.output

    lab = ("--lab", tmp_path / "lab.duckdb")
    status, output = run("bundle", path, *lab, "--tool", "echo", "--sign", key, "--note", "seen")
    assert status == 0, output
    assert "signed by" in output
    assert run("verify", path)[0] == 0
    swapped = rewritten(path, swap_in_event, honest_manifest=True)
    status, output = run("verify", swapped)
    assert status == 1
    assert "DOES NOT HOLD manifest.sig" in output
    run("bundle", tmp_path / "plain.zip", *lab)
    assert run("verify", tmp_path / "plain.zip")[0] == 2


# verify.py says the same as the package


def test_ed25519_has_the_vectors_of_rfc_8032() -> None:
    vectors = [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e"
                "39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
            ),
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            (
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f"
                "3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            ),
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            (
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67"
                "f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
            ),
        ),
    ]
    for public, message, signature in vectors:
        key, text, signed = map(bytes.fromhex, (public, message, signature))
        assert verify.verify_ed25519(key, text, signed)
        assert not verify.verify_ed25519(key, text + b"x", signed)
        assert not verify.verify_ed25519(key, text, signed[:63] + bytes([signed[63] ^ 1]))
        late = int.from_bytes(signed[32:], "little") + verify.ORDER
        assert not verify.verify_ed25519(key, text, signed[:32] + late.to_bytes(32, "little"))


@given(st.binary(max_size=80), st.binary(min_size=32, max_size=32))
def test_ed25519_agrees_with_the_library(message: bytes, seed: bytes) -> None:
    signer = LogSigner("test", seed)
    note = signer.sign_text(f"{message.hex()}\n")
    assert verify.open_note(note, str(signer.key)) == f"{message.hex()}\n"
    with pytest.raises(ValueError, match="not signed"):
        verify.open_note(f"x{note}", str(signer.key))


NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,4})?", fullmatch=True),
)
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=6)
TREES = st.recursive(
    NUMBERS | TEXTS.map(json.dumps) | st.sampled_from(["null", "true", "false"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.dictionaries(TEXTS, inner, max_size=3).map(
            lambda items: "{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in items.items()) + "}"
        ),
    ),
    max_leaves=8,
)


@given(TREES)
def test_canonical_json_agrees(text: str) -> None:
    assert verify.canonical(verify.read_json(text)) == canonical_json(loads(text))


@pytest.mark.parametrize(
    "text", ["1e-99999999999999999999", "-1E99999999999999999999", "-0", "-0.0e5"]
)
def test_canonical_numbers_at_the_edge_agree(text: str) -> None:
    assert verify.canonical(verify.read_json(text)) == canonical_json(loads(text))


@pytest.mark.parametrize(
    "time",
    [
        *("2026-11-24T03:50:12.723167Z", "2026-11-24T03:50:12.100Z", "2026-11-24T03:50:12Z"),
        *("2026-11-24T03:50:12.123456789Z", "2026-11-24T03:50:12.5+05:30"),
        "2026-01-01T00:10:00-00:30",
    ],
)
def test_leaves_agree(time: str) -> None:
    wire: dict[str, Any] = {**made(1).wire, "timestamp": time}
    wire["payload"] = {**wire.get("payload", {}), "captured_at": time}
    event = Event(wire)
    assert verify.leaf_of(verify.read_json(event.to_json())) == leaf_of(event).value


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40), st.data())
def test_inclusion_agrees(leaves: list[bytes], data: st.DataObject) -> None:
    tree, size = tree_of(leaves), len(leaves)
    index = data.draw(st.integers(0, size - 1))
    path, root = tree.inclusion(index, size), tree.root(size)
    changed = data.draw(st.sampled_from([path, path[:-1], [*path, root], path[::-1]]))
    for leaf in (leaves[index], root):
        expected = verify_inclusion(leaf, index, size, changed, root)
        assert verify.is_included(leaf, index, size, changed, root) == expected
    assert verify.is_included(leaves[index], index, size, path, root)


def test_an_opened_bundle_has_its_notes(tmp_path: Path) -> None:
    with Lab() as lab:
        lab.load(sample_files(), progress=False)
        failed = lab.events(tool="flaky", success=False)
        first = lab.note(failed, "it fails", tags=["cause"], by="ann")
        lab.note(failed.ids()[0], "no, this one", by="bob", supersedes=first)
        lab.note(lab.events(tool="echo"), "not in the bundle", by="ann")
        lab.bundle(tmp_path / "case.zip", failed, notes=["handed over"])
        wanted = lab.notes(history=True)
    with Lab.open_bundle(tmp_path / "case.zip") as opened:
        found = opened.notes(history=True)
        assert found.iloc[:2]["text"].tolist() == ["it fails", "no, this one"]
        same = ["id", "at", "by", "text", "tags", "target", "about", "count", "supersedes"]
        kept = wanted.iloc[:2][same].to_dict("records")
        assert found.iloc[:2][same].to_dict("records") == kept
        assert found.iloc[2][["text", "by", "target"]].tolist() == ["handed over", "bundle", "lab"]
        assert len(found) == 3
        assert opened.events(tag="cause").count() == 0
