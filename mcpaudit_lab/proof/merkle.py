"""The Merkle tree of RFC 6962 and RFC 9162: hashes, proofs, and their verification."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

__all__ = [
    "EMPTY_ROOT",
    "Tree",
    "leaf_hash",
    "level_above",
    "node_hash",
    "root_of",
    "tree_of",
    "verify_consistency",
    "verify_inclusion",
]

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of a tree without leaves (RFC 9162 section 2.1.1)."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (RFC 9162 section 2.1.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """Roots and proofs over stored nodes.

    Args:
        get: returns the hash of a complete subtree: its level (0 for leaves) and its index there.
    """

    def __init__(self, get: Callable[[int, int], bytes]) -> None:
        self._get = get

    def append(self, size: int, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """The nodes to store for one more leaf: level, index and hash of each.

        Args:
            size: the number of leaves so far.
            leaf: the new leaf's hash.
        """
        nodes = [(0, size, leaf)]
        level, index, value = 0, size, leaf
        while index % 2:
            value = node_hash(self._get(level, index - 1), value)
            level, index = level + 1, index // 2
            nodes.append((level, index, value))
        return nodes

    def root(self, size: int) -> bytes:
        """The root over the first leaves."""
        return self._subtree(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of a leaf (RFC 9162 section 2.1.3.1)."""
        path: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append(self._subtree(middle, high))
                high = middle
            else:
                path.append(self._subtree(low, middle))
                low = middle
        return path[::-1]

    def consistency(self, first: int, second: int) -> list[bytes]:
        """The proof that a tree extends an earlier one (RFC 9162 section 2.1.4.1)."""
        if first in (0, second):
            return []
        path: list[bytes] = []
        low, high, whole = 0, second, True
        while first != high:
            middle = low + _split(high - low)
            if first <= middle:
                path.append(self._subtree(middle, high))
                high = middle
            else:
                path.append(self._subtree(low, middle))
                low, whole = middle, False
        if not whole:
            path.append(self._subtree(low, high))
        return path[::-1]

    def _subtree(self, low: int, high: int) -> bytes:
        count = high - low
        level = count.bit_length() - 1
        if count == 1 << level and low % count == 0:
            return self._get(level, low >> level)
        middle = low + _split(count)
        return node_hash(self._subtree(low, middle), self._subtree(middle, high))


def tree_of(leaves: Sequence[bytes]) -> Tree:
    """The tree over the hashes of all leaves, in memory."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        levels.append(level_above(levels[-1]))
    return Tree(lambda level, index: levels[level][index])


def level_above(level: Sequence[bytes]) -> list[bytes]:
    """The complete subtrees of twice the size."""
    pairs = zip(level[::2], level[1::2], strict=False)
    return [node_hash(left, right) for left, right in pairs]


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over the hashes of all leaves, in one pass."""
    # The complete subtrees from the left, each larger than the next one.
    complete: list[tuple[int, bytes]] = []
    for leaf in leaves:
        level, value = 0, leaf
        while complete and complete[-1][0] == level:
            value = node_hash(complete.pop()[1], value)
            level += 1
        complete.append((level, value))
    if not complete:
        return EMPTY_ROOT
    _, root = complete.pop()
    while complete:
        root = node_hash(complete.pop()[1], root)
    return root


def verify_inclusion(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> bool:
    """Whether an audit path leads from a leaf to a root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    number, last, value = index, size - 1, leaf
    for item in path:
        if last == 0:
            return False
        if number % 2 or number == last:
            value = node_hash(item, value)
            while number % 2 == 0 and number:
                number, last = number // 2, last // 2
        else:
            value = node_hash(value, item)
        number, last = number // 2, last // 2
    return last == 0 and value == root


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether a tree extends an earlier one (RFC 9162 section 2.1.4.2)."""
    if not 0 <= first <= second:
        return False
    if first in (0, second):
        return not path and first_root == (second_root if first else EMPTY_ROOT)
    items = [first_root, *path] if first & (first - 1) == 0 else list(path)
    if not items:
        return False
    number, last = first - 1, second - 1
    while number % 2:
        number, last = number // 2, last // 2
    old = new = items[0]
    for item in items[1:]:
        if last == 0:
            return False
        if number % 2 or number == last:
            old, new = node_hash(item, old), node_hash(item, new)
            while number % 2 == 0 and number:
                number, last = number // 2, last // 2
        else:
            new = node_hash(new, item)
        number, last = number // 2, last // 2
    return last == 0 and old == first_root and new == second_root


def _split(count: int) -> int:
    """The largest power of two below a number of leaves."""
    return 1 << (count - 1).bit_length() - 1
