"""One night at a time on a real server: a second one is refused, and a dead one stands in nobody's way."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.errors import RunConflictError
from pipeline.night_lock import hold_the_night
from tests.fixtures.shop import change, scalar

KILL_HOLDER = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'recstream night'
"""
HOLDERS = """
    SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database
    WHERE locktype = 'advisory' AND datname = current_database()
"""


async def test_a_second_night_is_refused_in_one_line(database_url: str) -> None:
    async with hold_the_night(database_url):
        with pytest.raises(RunConflictError, match="another nightly run is going on") as refused:
            async with hold_the_night(database_url):
                pytest.fail("two nights at a time")
    assert "\n" not in str(refused.value)


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


async def test_the_death_of_the_holders_connection_frees_the_night(database_url: str, engine: AsyncEngine) -> None:
    async with hold_the_night(database_url):
        await change(engine, KILL_HOLDER)
        async with hold_the_night(database_url):
            assert await scalar(engine, HOLDERS) == 1
