"""One night at a time on a real server: a second one is refused, and a dead one stands in nobody's way."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import NIGHT_LOCK, libpq_url
from pipeline.errors import NightTakenError, RunConflictError
from pipeline.night_lock import hold_the_night
from tests.fixtures.shop import add_run, change, scalar

KILL_HOLDER = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'recstream night%'
"""
HOLDERS = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database
    WHERE locktype = 'advisory' AND datname = current_database()
"""

HOLDER = """
    SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
        AND application_name LIKE 'recstream night%'
"""
WAITERS = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database
    WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()
"""
PATIENCE_S = 30


async def test_a_second_night_is_refused_in_one_line(database_url: str) -> None:
    async with hold_the_night(database_url):
        with pytest.raises(RunConflictError, match="another nightly run is going on") as refused:
            async with hold_the_night(database_url):
                pytest.fail("two nights at a time")
    assert "\n" not in str(refused.value)
    assert f"(before its first customer on {socket.gethostname()} since 20" in str(refused.value)


async def test_a_second_night_is_told_which_run_it_meets(database_url: str, engine: AsyncEngine) -> None:
    run = await add_run(engine, "a")
    async with hold_the_night(database_url):
        with pytest.raises(NightTakenError, match=f"going on \\(run {run.run_id} on "):
            async with hold_the_night(database_url):
                pytest.fail("two nights at a time")


async def test_the_night_is_free_again_after_its_holder(database_url: str, engine: AsyncEngine) -> None:
    for _ in range(2):
        async with hold_the_night(database_url):
            assert await scalar(engine, HOLDERS) == 1
    assert await scalar(engine, HOLDERS) == 0


async def test_an_error_in_the_night_gives_it_back(database_url: str) -> None:
    with pytest.raises(ValueError, match="in the night"):
        async with hold_the_night(database_url):
            raise ValueError("in the night")

    async with hold_the_night(database_url):
        pass


async def test_a_cancelled_night_gives_it_back(database_url: str, engine: AsyncEngine) -> None:
    held, for_ever = asyncio.Event(), asyncio.Event()

    async def night() -> None:
        async with hold_the_night(database_url):
            held.set()
            await for_ever.wait()

    task = asyncio.create_task(night())
    await asyncio.wait_for(held.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await scalar(engine, HOLDERS) == 0


async def test_a_night_whose_connection_is_lost_takes_it_again(
    database_url: str, engine: AsyncEngine, admin: AsyncEngine
) -> None:
    async with hold_the_night(database_url):
        before = await scalar(admin, HOLDER)
        await change(admin, KILL_HOLDER)
        await until_it_is(admin, lambda holder: holder not in {None, before})

        with pytest.raises(RunConflictError, match="another nightly run is going on"):
            async with hold_the_night(database_url):
                pytest.fail("two nights at a time")
    assert await scalar(engine, HOLDERS) == 0


async def test_a_night_that_lost_it_to_another_says_so_and_takes_it_when_it_is_free(
    database_url: str, admin: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    async with hold_the_night(database_url), await AsyncConnection.connect(libpq_url(database_url)) as another:
        waiting = asyncio.create_task(another.execute("SELECT pg_advisory_lock(hashtext(%s))", (NIGHT_LOCK,)))
        await until_it_is(admin, lambda waiters: waiters == 1, WAITERS)
        await change(admin, KILL_HOLDER)
        await waiting
        async with asyncio.timeout(PATIENCE_S):
            while "another has it now" not in caplog.text:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.01)
        await another.close()
        await until_it_is(admin, lambda holder: holder is not None)


async def until_it_is(admin: AsyncEngine, wanted: Callable[[object], bool], looking_for: str = HOLDER) -> None:
    """Look again and again, with a bound."""
    async with asyncio.timeout(PATIENCE_S):
        while not wanted(await scalar(admin, looking_for)):  # noqa: ASYNC110 - Postgres tells nobody of its locks
            await asyncio.sleep(0.01)
