"""What all replays say together: a result that groups, proposes noise and shows itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mcpaudit_lab.comparison import ChangeKind, ComparisonGroups, format_path
from mcpaudit_lab.record import render_html
from mcpaudit_lab.storage import ArrowViews, records

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from mcpaudit_lab.lab.replay_pairs import ReplayPair
    from mcpaudit_lab.replay import Noise

__all__ = ["ReplayComparisons"]

_KINDS = (*(str(kind) for kind in ChangeKind), "unknown")
_TEXTS = ("original", "replay", "tool_name", "verdict")
_FLAGS = ("original_success", "replay_success")
_NUMBERS = (*_KINDS, "original_ms", "replay_ms", "depth")
_COLUMNS = (*_TEXTS, *_KINDS, "changed", *_FLAGS, "original_ms", "replay_ms", "depth")


class ReplayComparisons(ArrowViews):
    """Each original against each of its replays. In a notebook it shows what changed, by tool.

    ``len()`` is the number of replays, ``replays["verdict"]`` the column of :meth:`df`, and
    iterating gives its rows as dicts.

    Attributes:
        groups: the comparisons by tool and by place; see :class:`ComparisonGroups`.
    """

    def __init__(self, compared: Iterable[ReplayPair]) -> None:
        self.groups = ComparisonGroups()
        self._rows: list[dict[str, Any]] = []
        for item in compared:
            self.groups.add(item.replay.tool_name, item.comparison)
            self._rows.append(_row(item))

    def counts(self) -> dict[str, int]:
        """Number of replays by verdict: ``equal``, ``changed``, ``unknown``."""
        return self.groups.counts()

    def df(self) -> pd.DataFrame:
        """One row for each replay, oldest first. A replay of a replay stands beside the first call.

        Returns:
            Columns: ``original``, ``replay`` (ids), ``tool_name``, ``verdict`` (``equal``,
            ``changed``, ``unknown``), how many changes of each kind (``value``, ``type``,
            ``order``, ``removed``, ``added``) and ``unknown`` paths, ``changed`` (a list of
            paths), ``original_success``, ``replay_success``, ``original_ms``, ``replay_ms``,
            ``depth`` (1 for a replay of the original itself). Where the lab does not have the
            original, the verdict is ``unknown`` and what would come from it is missing.
        """
        import pandas as pd

        types = {
            **dict.fromkeys(_TEXTS, "str"),
            **dict.fromkeys(_NUMBERS, "Int64"),
            **dict.fromkeys(_FLAGS, "boolean"),
        }
        return pd.DataFrame(self._rows, columns=list(_COLUMNS)).astype(types)

    def arrow(self) -> pa.Table:
        """The rows of :meth:`df` as an Arrow table."""
        import pyarrow as pa

        return pa.Table.from_pandas(self.df(), preserve_index=False)

    def tools(self) -> pd.DataFrame:
        """One row for each tool; those with most changes first.

        Returns:
            Columns ``tool_name``, ``replays``, ``equal``, ``changed``, ``unknown``,
            ``original_ms``, ``replay_ms`` (medians).
        """
        import pandas as pd

        medians = self.df().groupby("tool_name")[["original_ms", "replay_ms"]].median()
        rows = [
            {
                "tool_name": tool.name,
                "replays": tool.total,
                "equal": tool.equal,
                "changed": tool.changed,
                "unknown": tool.unknown,
                **medians.loc[tool.name].to_dict(),
            }
            for tool in self.groups.tools()
        ]
        names = ("replays", "equal", "changed", "unknown")
        columns = ["tool_name", *names, "original_ms", "replay_ms"]
        types = {"tool_name": "str", **dict.fromkeys(names, "Int64")}
        return pd.DataFrame(rows, columns=columns).astype(
            {**types, "original_ms": "Float64", "replay_ms": "Float64"}
        )

    def paths(self) -> pd.DataFrame:
        """One row for each place of a tool that differs in one way; the most frequent first.

        Returns:
            Columns ``tool_name``, ``path`` (with ``[*]`` for every position in a list; ``ignore``
            takes it), ``kind`` (as in :meth:`df`), ``replays`` (how many have it), ``of`` (how many
            of the tool were compared), ``types`` (``always a number``), ``example`` (the values of
            the first), ``original``, ``replay`` (ids of the first).
        """
        import pandas as pd

        rows = []
        for tool in self.groups.tools():
            for group in self.groups.changes_of(tool.name):
                _, _, types = group.words(tool.compared).partition(", ")
                rows.append(
                    {
                        "tool_name": tool.name,
                        "path": group.path,
                        "kind": group.kind,
                        "replays": group.count,
                        "of": tool.compared,
                        "types": types,
                        "example": group.shown(),
                        "original": group.ids[0],
                        "replay": group.ids[1],
                    }
                )
        texts = dict.fromkeys(
            ("tool_name", "path", "kind", "types", "example", "original", "replay"), "str"
        )
        columns = ["tool_name", "path", "kind", "replays", "of", "types"]
        columns += ["example", "original", "replay"]
        return pd.DataFrame(rows, columns=columns).astype(
            {**texts, "replays": "Int64", "of": "Int64"}
        )

    def noise(self) -> Noise:
        """What differs in every replay of a tool and so says nothing: a proposal to look at.

        Nothing is left aside until it is given to ``lab.compare_replays(noise=…)``. A place is
        proposed if its value differs in each of at least three replays of the tool, keeps its
        type, and is not always the same new value.
        """
        from mcpaudit_lab.replay import Noise

        return Noise(self.groups.noise())

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from records(self.df())

    def __getitem__(self, key: Any) -> Any:
        return self.df()[key]

    def __str__(self) -> str:
        return self.groups.describe("replay")

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What changed by tool and place, and the durations, for a notebook."""
        return render_html("replay_comparisons", self)


def _row(item: ReplayPair) -> dict[str, Any]:
    found, original, replay = item.comparison, item.original, item.replay
    counts: dict[str, Any] = dict.fromkeys(_KINDS) if found is None else found.counts()
    return {
        "original": item.pair.original,
        "replay": item.pair.replay,
        "tool_name": replay.tool_name,
        "verdict": str(item.verdict),
        **counts,
        "changed": [] if found is None else [format_path(change.path) for change in found.changes],
        "original_success": original.success if original else None,
        "replay_success": replay.success,
        "original_ms": original.duration_ms if original else None,
        "replay_ms": replay.duration_ms,
        "depth": item.pair.depth,
    }
