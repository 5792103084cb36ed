"""Proof that a log of events was only appended to: Merkle tree, checkpoints, verification.

Input: events, tree nodes, signed notes. Output: hashes, proofs, checkpoints, and faults that name
what does not hold. It reads and writes tables through a function that runs SQL.
"""

from mcpaudit_lab.proof.leaves import Leaf, absent_leaf, leaf_of
from mcpaudit_lab.proof.merkle import (
    EMPTY_ROOT,
    Tree,
    root_of,
    tree_of,
    verify_consistency,
    verify_inclusion,
)
from mcpaudit_lab.proof.notes import Checkpoint, LogKey, LogSigner, open_checkpoint
from mcpaudit_lab.proof.tree_log import LOG_TABLES, TreeLog

__all__ = [
    "EMPTY_ROOT",
    "LOG_TABLES",
    "Checkpoint",
    "Leaf",
    "LogKey",
    "LogSigner",
    "Tree",
    "TreeLog",
    "absent_leaf",
    "leaf_of",
    "open_checkpoint",
    "root_of",
    "tree_of",
    "verify_consistency",
    "verify_inclusion",
]
