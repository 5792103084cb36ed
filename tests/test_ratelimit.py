"""Token buckets, in memory and in a database shared by two portals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from mcpaudit_lab.calls.ratelimit import IDLE_S, Bucket, TokenBuckets, Verdict
from mcpaudit_lab.server.auth.sql_buckets import SqlTokenBuckets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'buckets.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    made = create_engine(url)
    yield made
    made.dispose()


def test_a_burst_is_followed_by_one_token_every_twelve_seconds() -> None:
    clock = Clock()
    buckets = TokenBuckets(clock=clock)
    assert all(buckets.take_now("apikey:a").allowed for _ in range(5))
    refused = buckets.take_now("apikey:a")
    assert (refused.allowed, refused.wait_s, refused.retry_after_s) == (False, 12.0, 12)
    clock.now += 3
    assert buckets.take_now("apikey:a").retry_after_s == 9
    clock.now += 8.8
    nearly = buckets.take_now("apikey:a")
    assert (nearly.allowed, nearly.retry_after_s) == (False, 1), "rounded up, never 0"
    clock.now += 0.2
    assert buckets.take_now("apikey:a").allowed


def test_keys_do_not_share_a_bucket_and_an_empty_one_has_none() -> None:
    buckets = TokenBuckets(burst=1, clock=Clock())
    assert buckets.take_now("a").allowed
    assert not buckets.take_now("a").allowed
    assert buckets.take_now("b").allowed
    assert all(buckets.take_now("").allowed for _ in range(3))
    assert len(buckets) == 2


def test_idle_buckets_go_after_ten_minutes() -> None:
    clock = Clock()
    buckets = TokenBuckets(clock=clock)
    for number in range(100):
        buckets.take_now(str(number))
    clock.now += IDLE_S - 1
    buckets.take_now("50")
    assert len(buckets) == 100
    clock.now += 1
    buckets.take_now("new")
    assert len(buckets) == 2, "the one that was asked for a second ago stays"


def test_a_slow_bucket_is_not_full_before_its_time_by_being_forgotten() -> None:
    clock = Clock()
    buckets = TokenBuckets(burst=2, refill_s=3600, clock=clock)
    buckets.take_now("a")
    buckets.take_now("a")
    clock.now += 2 * IDLE_S
    assert not buckets.take_now("a").allowed


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    clock = Clock()
    buckets = TokenBuckets(burst=1, refill_s=10, clock=clock)
    assert buckets.take_now("a").allowed
    clock.now -= 500
    assert not buckets.take_now("a").allowed
    clock.now += 509
    assert not buckets.take_now("a").allowed
    clock.now += 1
    assert buckets.take_now("a").allowed


@given(
    st.integers(1, 10),
    st.floats(0.01, 100),
    st.lists(st.floats(0, 50), min_size=1, max_size=60),
)
def test_never_more_than_the_burst_and_what_came_back(
    burst: int, refill_s: float, pauses: list[float]
) -> None:
    bucket, now, given_out = Bucket(float(burst), 0.0), 0.0, 0
    for pause_s in pauses:
        now += pause_s
        bucket, verdict = bucket.take(now, burst, refill_s)
        given_out += verdict.allowed
        assert verdict.retry_after_s >= 1
        if not verdict.allowed:
            later, second = bucket.take(now + verdict.wait_s, burst, refill_s)
            assert second.allowed, "whoever waits as long as told gets a token"
            assert later.tokens < 1e-6
    assert given_out <= burst + now / refill_s + 1e-6


@pytest.mark.parametrize(
    ("burst", "refill_s"), [(0, 1.0), (1, 0.0), (1, float("inf")), (1, float("nan"))]
)
def test_what_is_no_budget_is_refused(burst: int, refill_s: float) -> None:
    with pytest.raises(ValueError, match="limiter"):
        TokenBuckets(burst, refill_s)


def test_a_verdict_says_when_to_come_back() -> None:
    assert [Verdict(wait_s).retry_after_s for wait_s in (0.0, 0.001, 1.0, 1.001)] == [1, 1, 1, 2]


@pytest.mark.anyio
async def test_two_portals_share_one_budget(engine: Engine) -> None:
    clock = Clock()
    first, second = (SqlTokenBuckets(engine, clock=clock) for _ in range(2))
    verdicts = [await portal.take("apikey:a") for portal in (first, second) * 3]
    assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False]
    assert verdicts[-1].retry_after_s == 12
    assert (await second.take("apikey:b")).allowed
    assert (await second.take("")).allowed
    clock.now += 12
    assert (await first.take("apikey:a")).allowed
    assert not (await second.take("apikey:a")).allowed


def test_two_portals_cannot_both_take_the_last_token(engine: Engine) -> None:
    portals = [SqlTokenBuckets(engine, burst=10, refill_s=1e6, clock=Clock()) for _ in range(2)]
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda n: portals[n % 2]._take("a"), range(40)))
    assert sum(verdict.allowed for verdict in verdicts) == 10


@pytest.mark.anyio
async def test_idle_buckets_leave_the_database(engine: Engine) -> None:
    clock = Clock()
    buckets = SqlTokenBuckets(engine, clock=clock)
    await buckets.take("old")
    clock.now += IDLE_S - 1
    await buckets.take("new")
    await buckets.take("old")
    clock.now += IDLE_S
    await buckets.take("new")
    with engine.connect() as connection:
        left = connection.execute(text("select key from mcpaudit_buckets")).scalars().all()
    assert left == ["new"]
