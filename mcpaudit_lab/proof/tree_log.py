"""A Merkle tree in the tables of a store: nodes, the leaves' events, signed checkpoints.

Leaf ``n`` belongs to the event with commit number ``n + 1``. Nodes are the complete subtrees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from mcpaudit_lab.proof.leaves import Leaf
from mcpaudit_lab.proof.merkle import Tree, level_above
from mcpaudit_lab.tables import Execute

__all__ = ["LOG_TABLES", "TreeLog"]

LOG_TABLES: Final = (
    (
        "create table if not exists audit_tree_nodes (height integer not null,"
        " place bigint not null, hash varchar(64) not null, primary key (height, place))"
    ),
    (
        "create table if not exists audit_tree_leaves (place bigint primary key,"
        " event_id varchar(128) not null)"
    ),
    ("create table if not exists audit_checkpoints (size bigint primary key, note text not null)"),
)
Row: TypeAlias = dict[str, Any]
ExecuteMany: TypeAlias = Callable[[str, list[Row]], object]

_NODE: Final = "select hash from audit_tree_nodes where height = :height and place = :place"
_ADD_NODE: Final = (
    "insert into audit_tree_nodes (height, place, hash) values (:height, :place, :hash)"
)
_ADD_LEAF: Final = "insert into audit_tree_leaves (place, event_id) values (:place, :event_id)"
_PAGE: Final = 10_000


def _hash_of(value: object) -> bytes:
    """A stored hash; a damaged one is empty, and equals none."""
    try:
        return bytes.fromhex(str(value))
    except ValueError:
        return b""


class TreeLog:
    """The tree of one store.

    Args:
        execute: runs a statement; the caller holds the transaction.
        execute_many: runs a statement for each of many rows; by default one after the other.
    """

    def __init__(self, execute: Execute, execute_many: ExecuteMany | None = None) -> None:
        self._execute = execute
        self._execute_many = execute_many or self._one_by_one
        self._nodes: dict[tuple[int, int], bytes] = {}
        self.tree = Tree(self._node)

    def _one_by_one(self, statement: str, rows: list[Row]) -> None:
        for row in rows:
            self._execute(statement, row)

    def _node(self, height: int, place: int) -> bytes:
        if (known := self._nodes.get((height, place))) is not None:
            return known
        rows = self._execute(_NODE, {"height": height, "place": place})
        # Many paths share their upper nodes.
        found = self._nodes[height, place] = _hash_of(rows[0][0]) if rows else b""
        return found

    def size(self) -> int:
        """The number of leaves."""
        ((size,),) = self._execute("select coalesce(max(place) + 1, 0) from audit_tree_leaves", {})
        return int(size)

    def append(self, size: int, leaves: Iterable[Leaf]) -> int:
        """Add leaves after the first ``size``; returns the new number of leaves."""
        rows: list[Row] = []
        nodes: list[Row] = []
        for leaf in leaves:
            rows.append({"place": size, "event_id": leaf.event_id})
            for height, place, value in self.tree.append(size, leaf.value):
                self._nodes[height, place] = value
                nodes.append({"height": height, "place": place, "hash": value.hex()})
            size += 1
        if rows:
            self._execute_many(_ADD_LEAF, rows)
            self._execute_many(_ADD_NODE, nodes)
        return size

    def leaves(self, start: int, end: int) -> Iterator[Leaf]:
        """The leaves of a range, in order."""
        query = (
            "select l.event_id, n.hash from audit_tree_leaves l join audit_tree_nodes n"
            " on n.height = 0 and n.place = l.place"
            " where l.place >= :start and l.place < :end order by l.place"
        )
        for low in range(start, end, _PAGE):
            page = {"start": low, "end": min(low + _PAGE, end)}
            for event_id, value in self._execute(query, page):
                yield Leaf(str(event_id), _hash_of(value))

    def damage(self, leaves: Sequence[Leaf]) -> list[str]:
        """What is wrong with the stored nodes above these leaves, one line each."""
        faults: list[str] = []
        level, height = [leaf.value for leaf in leaves], 0
        while True:
            query = "select place, hash from audit_tree_nodes where height = :height order by place"
            rows = self._execute(query, {"height": height})
            found = {place: _hash_of(value) for place, value in rows}
            wrong = [place for place, value in enumerate(level) if found.pop(place, None) != value]
            faults += [f"node {place} of height {height}" for place in (*wrong, *found)]
            if len(level) < 2:
                break
            level, height = level_above(level), height + 1
        query = "select count(*) from audit_tree_nodes where height > :height or height < 0"
        ((more,),) = self._execute(query, {"height": height})
        faults += [f"{more} nodes of no height"] if more else []
        for size, note in self._execute("select size, note from audit_checkpoints", {}):
            if str(note).split("\n")[1:2] != [str(size)]:
                faults.append(f"the size {size} of a checkpoint")
        return faults

    def place_of(self, event_id: str) -> int | None:
        """The leaf of an event, or None."""
        query = "select max(place) from audit_tree_leaves where event_id = :event_id"
        ((place,),) = self._execute(query, {"event_id": event_id})
        return None if place is None else int(place)

    def checkpoints(self) -> list[str]:
        """The stored checkpoints, the smallest tree first."""
        rows = self._execute("select note from audit_checkpoints order by size", {})
        return [str(note) for (note,) in rows]

    def keep_checkpoint(self, size: int, note: str) -> None:
        """Store a checkpoint; one over the same tree stays."""
        query = "insert into audit_checkpoints (size, note) values (:size, :note)"
        self._execute(f"{query} on conflict do nothing", {"size": size, "note": note})
