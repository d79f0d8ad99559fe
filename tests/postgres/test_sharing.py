"""Processes that share one limit: real ones, some of which are killed or frozen, and a database that goes away."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.embedded_postgres import discard_embedded_postgres, embedded_postgres
from pipeline.limits.shares import Report, Share
from pipeline.limits.sharing import LimitKey, account_of, open_shared_limits, open_shared_limits_of_all
from pipeline.schema import migrate
from tests.fixtures.sharing import ENDPOINT, Sharer, most_at_any_moment, sharer
from tests.fixtures.shop import change, read, scalar

KEY = LimitKey(ENDPOINT, "a-model", "account")
PATIENCE_S = 40.0
LITTLE = 1e-9
BACKENDS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'recstream limits' AND datname = current_database()"
)


@dataclass(slots=True, eq=False)
class KeepingLimiter:
    """Keeps what it is allotted, and reports what a test wants. A closure it hears of is its own from then on."""

    said: Report = field(default_factory=lambda: Report(10, 0))
    shares: list[Share] = field(default_factory=list)
    reports: int = 0
    open_at: float = 0.0
    _allotted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def share(self) -> Share:
        return self.shares[-1]

    def report(self) -> Report:
        self.reports += 1
        closed_for_s = max(self.open_at - asyncio.get_running_loop().time(), 0.0)
        return replace(self.said, closed_for_s=max(self.said.closed_for_s, closed_for_s))

    def allot(self, share: Share) -> None:
        self.shares.append(share)
        self.open_at = max(self.open_at, asyncio.get_running_loop().time() + share.closed_for_s)
        self._allotted.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._allotted.clear()
                await self._allotted.wait()

    async def hears_again(self, times: int = 1) -> None:
        wanted = len(self.shares) + times
        await self.until(lambda: len(self.shares) >= wanted)


class DefectiveLimiter(KeepingLimiter):
    """Fails when it is asked for the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.failed = asyncio.Event()

    def report(self) -> Report:
        if self.reports:
            self.failed.set()
            raise ZeroDivisionError
        return super().report()


@pytest.fixture
async def three(database_url: str) -> AsyncIterator[list[Sharer]]:
    """Three processes that have much to ask of an endpoint which allows 600 a minute."""
    async with AsyncExitStack() as running:
        sharers = [await running.enter_async_context(sharer(database_url, 50)) for _ in range(3)]
        sharers[0].say("known", 600)
        for one in sharers:
            await one.until(lambda one=one: one.portion == pytest.approx(1 / 3, rel=0.01))  # type: ignore[misc] # mypy cannot infer a lambda with a default
        yield sharers


@pytest.fixture
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a server that a test may stop and start."""
    folder = tmp_path_factory.mktemp("restarted")
    yield folder
    discard_embedded_postgres(folder)


async def test_processes_come_to_even_parts_and_together_never_pass_the_limit(three: list[Sharer]) -> None:
    assert most_at_any_moment(three) <= 1 + LITTLE
    assert [one.shares[-1]["requests_per_minute"] for one in three] == pytest.approx([200.0] * 3, rel=0.01)


async def test_the_part_of_one_who_has_nothing_more_to_ask_goes_to_the_others(three: list[Sharer]) -> None:
    idle, *busy = three
    idle.say("demand", 0)
    for one in busy:
        await one.until(lambda one=one: one.portion > 0.48)  # type: ignore[misc] # mypy cannot infer a lambda with a default
    assert idle.portion < 0.02

    idle.say("demand", 50)
    await idle.until(lambda: idle.portion == pytest.approx(1 / 3, rel=0.01))
    assert most_at_any_moment(three) <= 1 + LITTLE


async def test_a_killed_process_s_part_comes_back_by_itself(three: list[Sharer], engine: AsyncEngine) -> None:
    killed, *others = three
    killed.send(signal.SIGKILL)

    for one in others:
        await one.until(lambda one=one: one.portion > 0.49)  # type: ignore[misc] # mypy cannot infer a lambda with a default
    assert most_at_any_moment(three) <= 1 + LITTLE
    assert await scalar(engine, "SELECT count(*) FROM limit_leases") == 2


async def test_one_that_ends_leaves_its_part_at_once(three: list[Sharer], engine: AsyncEngine) -> None:
    ended, *others = three
    before = [len(one.shares) for one in others]
    ended.say("end")
    await ended.process.wait()
    assert await scalar(engine, "SELECT count(*) FROM limit_leases") == 2

    for one, heard in zip(others, before, strict=True):
        await one.until(lambda one=one: one.portion > 0.49)  # type: ignore[misc] # mypy cannot infer a lambda with a default
        assert len(one.shares) - heard <= 5, "nobody waited for a lease to expire"


async def test_a_process_that_was_frozen_does_not_use_what_others_have_been_given(three: list[Sharer]) -> None:
    frozen, *others = three
    frozen.send(signal.SIGSTOP)
    try:
        for one in others:
            await one.until(lambda one=one: one.portion > 0.49)  # type: ignore[misc] # mypy cannot infer a lambda with a default
        before = len(frozen.shares)
    finally:
        frozen.send(signal.SIGCONT)
    await frozen.until(lambda: len(frozen.shares) > before)

    assert frozen.shares[before]["portion"] <= 1 / 3 / 2 + LITTLE, "before it has asked anybody it makes do with less"
    await frozen.until(lambda: frozen.portion == pytest.approx(1 / 3, rel=0.01))


async def test_the_clocks_of_processes_do_not_matter(
    three: list[Sharer], database_url: str, engine: AsyncEngine
) -> None:
    async with sharer(database_url, 50, with_other_clocks=True) as other:
        await other.until(lambda: other.portion == pytest.approx(1 / 4, rel=0.01))
        assert await scalar(engine, "SELECT max(expires_at) - clock_timestamp() <= interval '5 s' FROM limit_leases")
        other.say("closed", 30)
        for one in three:
            await one.until(lambda one=one: 20 < one.shares[-1]["closed_for_s"] <= 30)  # type: ignore[misc] # mypy cannot infer a lambda with a default


async def test_two_endpoints_do_not_touch_each_other(three: list[Sharer], database_url: str) -> None:
    async with sharer(database_url, 50, "http://another/v1") as other:
        await other.until(lambda: other.portion == pytest.approx(1))
        assert other.shares[-1]["requests_per_minute"] is None


async def test_what_one_finds_out_is_everybody_s(database_url: str) -> None:
    async with sharer(database_url, 50) as finder, sharer(database_url, 50) as other:
        await other.until(lambda: other.portion == pytest.approx(1 / 2))
        assert other.shares[-1]["endpoint_requests_per_minute"] is None
        finder.say("found", 300)

        await other.until(lambda: other.shares[-1]["endpoint_requests_per_minute"] is not None)
        assert other.shares[-1]["requests_from"] == "refusals"


async def test_one_process_renews_all_its_leases_together(database_url: str, engine: AsyncEngine) -> None:
    here, there = KeepingLimiter(), KeepingLimiter(Report(10, 0, known_requests_per_minute=60.0, accepted=1))
    async with open_shared_limits_of_all(database_url, {KEY: here, KEY._replace(model="another"): there}):
        assert (here.share.requests_per_minute, there.share.requests_per_minute) == (None, 60)
        await here.hears_again(2)
        rows = await read(engine, "SELECT model, renewal FROM limit_leases ORDER BY model")
        assert [model for model, _ in rows] == ["a-model", "another"]
        assert len({renewal for _, renewal in rows}) == 1
    assert await scalar(engine, "SELECT count(*) FROM limit_leases") == 0


async def test_nothing_stands_in_a_transaction_between_two_renewals(database_url: str, admin: AsyncEngine) -> None:
    limiter = KeepingLimiter()
    async with open_shared_limits(database_url, KEY, limiter):
        await limiter.hears_again()
        states = "SELECT state FROM pg_stat_activity WHERE application_name = 'recstream limits'"
        assert await read(admin, states) == [("idle",)]


async def test_a_closure_that_was_heard_of_is_not_made_longer_by_repeating_it(
    database_url: str, engine: AsyncEngine
) -> None:
    limiters = [KeepingLimiter(), KeepingLimiter()]
    closed_until = "SELECT closed_until FROM endpoint_limits"
    async with AsyncExitStack() as running:
        for limiter in limiters:
            await running.enter_async_context(open_shared_limits(database_url, KEY, limiter))
        limiters[0].open_at = asyncio.get_running_loop().time() + 30
        await limiters[1].until(lambda: limiters[1].share.closed_for_s > 0)
        first = await scalar(engine, closed_until)
        for limiter in limiters:
            await limiter.hears_again(2)

        assert await scalar(engine, closed_until) == first


async def test_what_was_counted_while_nobody_answered_is_told_later(
    database_url: str, admin: AsyncEngine, engine: AsyncEngine
) -> None:
    limiter = KeepingLimiter(Report(10, 0, accepted=7))
    async with open_shared_limits(database_url, KEY, limiter):
        await change(admin, f"SELECT pg_terminate_backend(pid) FROM ({BACKENDS}) AS ours")
        reports = limiter.reports
        await limiter.until(lambda: limiter.reports > reports + 1)

        assert await scalar(engine, "SELECT used_requests > 0 FROM limit_leases")


async def test_a_restart_of_postgres_weakens_the_share_and_ends_nothing(
    own_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pipeline.limits")
    limiter = KeepingLimiter(Report(10, 0, known_requests_per_minute=600.0, accepted=1))
    async with AsyncExitStack() as sharing:
        with ExitStack() as running:
            url = running.enter_context(embedded_postgres(own_folder)).url()
            await asyncio.to_thread(migrate, url)
            await sharing.enter_async_context(open_shared_limits(url, KEY, limiter))
            assert limiter.share.requests_per_minute == 600
            await asyncio.to_thread(running.close)
            await limiter.until(lambda: limiter.share.requests_per_minute == 300)
            await limiter.until(lambda: limiter.share.requests_per_minute == 150)
            await asyncio.to_thread(running.enter_context, embedded_postgres(own_folder))
            await limiter.until(lambda: limiter.share.requests_per_minute == 600)
            await sharing.aclose()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "look whether it runs" in caplog.messages[0]


async def test_a_server_that_hangs_is_left_for_another_connection(database_url: str, admin: AsyncEngine) -> None:
    limiter = KeepingLimiter()
    async with open_shared_limits(database_url, KEY, limiter):
        backend = cast("int", await scalar(admin, BACKENDS))
        os.kill(backend, signal.SIGSTOP)
        try:
            reports = limiter.reports
            await limiter.hears_again(2)
            assert limiter.reports > reports + 1
            assert await scalar(admin, BACKENDS + " ORDER BY backend_start DESC") != backend
        finally:
            os.kill(backend, signal.SIGCONT)


async def test_without_a_database_a_limiter_is_on_its_own_and_one_line_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = KeepingLimiter()
    async with open_shared_limits("postgresql://127.0.0.1:9/nobody", KEY, limiter):
        await asyncio.sleep(0)
    assert limiter.shares == []
    (message,) = caplog.messages
    assert message.startswith(f"the limits of {ENDPOINT} cannot be shared with other processes: the database")


async def test_a_defect_of_the_limiter_is_not_swallowed(database_url: str) -> None:
    limiter = DefectiveLimiter()
    with pytest.raises(ZeroDivisionError):
        async with open_shared_limits(database_url, KEY, limiter):
            await limiter.failed.wait()


def test_keys_are_told_apart_and_not_given_away() -> None:
    assert account_of("sk-one") != account_of("sk-two")
    assert "sk-one" not in account_of("sk-one")
    assert len(account_of("")) == 12
