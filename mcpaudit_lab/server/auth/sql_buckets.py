"""Rate limits in the portal's database, shared by several portals."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from sqlalchemy import Column, Float, MetaData, Table, Text, bindparam
from sqlalchemy.dialects import postgresql, sqlite

from mcpaudit_lab.calls import Bucket, Verdict, check_budget, idle_limit_s

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["SqlTokenBuckets"]

# Interval of deleting idle buckets, in seconds.
_SWEEP_S: Final = 60.0
_BUCKETS = Table(
    "mcpaudit_buckets",
    MetaData(),
    Column("key", Text, primary_key=True),
    Column("tokens", Float(53), nullable=False),
    Column("filled", Float(53), nullable=False),
)


class SqlTokenBuckets:
    """A :class:`~mcpaudit_lab.calls.ratelimit.RateLimiter` for all portals on one database.

    All portals must use the same budget, and their clocks should agree to well under a second: the
    time is the portal's, not the database's, so that tests can set it.

    Args:
        engine: SQLite or PostgreSQL; creates the table ``mcpaudit_buckets`` if missing.
        burst: tokens in a full bucket, 1 or more.
        refill_s: seconds to refill one token, more than 0.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        engine: Engine,
        burst: int = 5,
        refill_s: float = 12.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_budget(burst, refill_s)
        self.burst = burst
        self.refill_s = refill_s
        self._clock = clock
        self._engine = engine
        self._swept = clock()
        _BUCKETS.create(engine, checkfirst=True)

    async def take(self, key: str) -> Verdict:
        """Take a token from the bucket of ``key``. An empty key has no limit."""
        if not key:
            return Verdict()
        return await anyio.to_thread.run_sync(partial(self._take, key))

    def _take(self, key: str) -> Verdict:
        now = self._clock()
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        # Write first: it locks the row (PostgreSQL) or the file (SQLite), so that two portals
        # cannot both see the last token.
        insert = dialect.insert(_BUCKETS).values(key=key, tokens=float(self.burst), filled=now)
        lock = insert.on_conflict_do_update(index_elements=["key"], set_={"key": key})
        this = _BUCKETS.c.key == bindparam("this_key", key)
        with self._engine.begin() as connection:
            connection.execute(lock)
            row = connection.execute(
                _BUCKETS.select()
                .with_only_columns(_BUCKETS.c.tokens, _BUCKETS.c.filled)
                .where(this)
            ).one()
            bucket, verdict = Bucket(*row).take(now, self.burst, self.refill_s)
            connection.execute(
                _BUCKETS.update().where(this).values(tokens=bucket.tokens, filled=bucket.filled)
            )
            if now - self._swept >= _SWEEP_S:
                self._swept = now
                idle = _BUCKETS.c.filled <= now - idle_limit_s(self.burst, self.refill_s)
                connection.execute(_BUCKETS.delete().where(idle))
        return verdict
