"""The Merkle tree and its proofs, against RFC 9162's example and against a plain definition."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpaudit_lab import Event
from mcpaudit_lab.errors import TamperError
from mcpaudit_lab.proof import (
    EMPTY_ROOT,
    LogKey,
    LogSigner,
    Tree,
    leaf_of,
    open_checkpoint,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from mcpaudit_lab.proof.merkle import leaf_hash, node_hash

# The leaves and roots of the reference implementation's tests for RFC 6962.
INPUTS = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243")]
INPUTS += [bytes.fromhex("5051525354555657"), bytes.fromhex("606162636465666768696a6b6c6d6e6f")]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def grow(leaves: list[bytes]) -> Tree:
    nodes: dict[tuple[int, int], bytes] = {}
    tree = Tree(lambda level, place: nodes[level, place])
    for size, leaf in enumerate(leaves):
        for level, place, value in tree.append(size, leaf):
            nodes[level, place] = value
    return tree


def plain_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 9162 section 2.1.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(plain_root(leaves[:split]), plain_root(leaves[split:]))


@pytest.mark.parametrize("size", range(1, 9))
def test_the_known_roots(size: int) -> None:
    leaves = [leaf_hash(data) for data in INPUTS]
    assert grow(leaves).root(size).hex() == ROOTS[size - 1]
    assert root_of(leaves[:size]).hex() == ROOTS[size - 1]
    assert grow([]).root(0) == EMPTY_ROOT == root_of([])


@given(st.integers(1, 70), st.data())
def test_every_proof_holds_and_no_other(size: int, data: st.DataObject) -> None:
    leaves = [leaf_hash(str(number).encode()) for number in range(size)]
    tree = grow(leaves)
    root = tree.root(size)
    assert root == plain_root(leaves) == root_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = tree.inclusion(index, size)
    assert verify_inclusion(leaves[index], index, size, path, root)
    assert not verify_inclusion(leaf_hash(b"other"), index, size, path, root)
    assert not verify_inclusion(leaves[index], index, size, [*path, root], root)
    if size > 1:
        assert not verify_inclusion(leaves[index], (index + 1) % size, size, path, root)
    first = data.draw(st.integers(0, size))
    proof = tree.consistency(first, size)
    assert verify_consistency(first, size, tree.root(first), root, proof)
    wrong = leaf_hash(b"other")
    assert not verify_consistency(first, size, wrong, root, proof)
    if 0 < first < size:
        assert not verify_consistency(first, size, tree.root(first), wrong, proof)
        assert not verify_consistency(first, size, tree.root(first), root, proof[:-1])


def test_a_leaf_does_not_depend_on_spelling_and_has_every_digit() -> None:
    start = '{"id":"11111111-1111-4111-8111-111111111111","timestamp":"2026-11-24T00:00:00Z",'
    rest = '"duration_ms":1,"tool_name":"t","success":true,"transport":"http","source":"mcp"}'

    def leaf(number: str) -> bytes:
        return leaf_of(Event.from_json(f'{start}"parameters":{{"b":{number},"a":1}},{rest}')).value

    assert leaf("1.0") == leaf("1") == leaf("1e0")
    assert leaf("9007199254740993") != leaf("9007199254740992")
    other = Event.from_json(f'{start}"parameters":{{"a":1,"b":1}},{rest}')
    assert leaf_of(other).value == leaf("1")


def test_a_checkpoint_is_signed_by_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "log-key"
    signer = LogSigner.from_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(LogSigner.from_file(path).key) == str(signer.key)
    assert [item.name for item in path.parent.iterdir()] == ["log-key"]
    note = signer.sign(7, b"r" * 32)
    assert note.endswith("=\n")
    key = LogKey.parse(str(signer.key))
    assert (open_checkpoint(note, key).size, open_checkpoint(note, key).root) == (7, b"r" * 32)
    other = LogSigner.from_file(tmp_path / "other")
    for broken in (
        note.replace("\n7\n", "\n8\n"),
        note.rpartition("\n\n")[0],
        other.sign(7, b"r" * 32),
        "",
        note.replace("\u2014", "-"),
    ):
        with pytest.raises(TamperError):
            open_checkpoint(broken, key)
    assert path.read_text().split("+")[-1].strip() not in repr(signer)


def test_a_signature_of_another_key_beside_ours_is_ignored(tmp_path: Path) -> None:
    ours, theirs = (LogSigner.from_file(tmp_path / name) for name in ("a", "b"))
    line = theirs.sign(7, b"r" * 32).splitlines()[-1]
    note = f"{ours.sign(7, b'r' * 32)}{line}\n"
    assert open_checkpoint(note, ours.key).size == 7
    with pytest.raises(TamperError):
        open_checkpoint(note, theirs.key)


@pytest.mark.parametrize("text", ["", "x", "PRIVATE+KEY+a+00000000+AAAA", "a+b+c"])
def test_a_damaged_key_is_an_error_that_shows_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(ValueError, match=r"^key is not a private log key$"):
        LogSigner.from_file(tmp_path / "key")
    with pytest.raises(TamperError):
        LogKey.parse(text)
