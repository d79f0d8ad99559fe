"""Exactly once: who lost the slate writes nothing more, and what was committed unseen is recognised."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import libpq_url
from pipeline.errors import SlateTakenOverError
from pipeline.group_commit import GroupCommit, open_group_commit
from pipeline.runs import Run
from tests.fixtures.relay import relay_to
from tests.fixtures.shop import RANKER, add_run, change, read, row_of, scalar
from tests.fixtures.writers import commit_together, hand_over, ranks, settled, until_blocked

TAKE_OVER = "UPDATE slates SET lease = lease + 1 WHERE customer_id = 'c'"


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    return await add_run(engine, "c", "d")


@pytest.fixture
async def writer(database_url: str, run: Run) -> AsyncIterator[GroupCommit]:
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance) as opened:
        yield opened


async def test_an_attempt_that_lost_its_slate_writes_nothing_and_hurts_nobody(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    await writer.commit(row_of("c", 1))
    await change(engine, TAKE_OVER)

    lost, neighbour, new_holder = await commit_together(
        writer, row_of("c", 2, lease=0), row_of("d", 1), row_of("c", 2, lease=1, name="the new holder's")
    )

    assert isinstance(lost, SlateTakenOverError)
    assert isinstance(neighbour, datetime)
    assert isinstance(new_holder, datetime)
    assert await read(engine, "SELECT product_name FROM recommendations WHERE rank = 2") == [("the new holder's",)]


@pytest.mark.parametrize("lease", [1, 2**31 - 1])
async def test_a_lease_that_nobody_has_given_writes_nothing(
    engine: AsyncEngine, run: Run, writer: GroupCommit, lease: int
) -> None:
    with pytest.raises(SlateTakenOverError, match="this attempt ends"):
        await writer.commit(row_of("c", 1, lease=lease))
    assert await ranks(engine) == []


async def test_a_slate_that_is_not_there_takes_no_row(engine: AsyncEngine, run: Run, writer: GroupCommit) -> None:
    missing, neighbour = await commit_together(writer, row_of("without a slate", 1), row_of("c", 1))

    assert isinstance(missing, SlateTakenOverError)
    assert isinstance(neighbour, datetime)


async def test_who_opens_a_slate_waits_for_the_row_that_is_being_committed(
    admin: AsyncEngine, engine: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with await AsyncConnection.connect(libpq_url(database_url)) as holder:
        await holder.execute(
            "INSERT INTO recommendations (run_id, day, provenance, customer_id, rank, product_id, product_name, "
            "relevance_score, attempt) VALUES (%s, %s, 'language_model', 'c', 1, 'p1', 'undone', 0.5, 1)",
            (run.run_id, run.day),
        )
        caller = hand_over(writer, row_of("c", 1))
        await until_blocked(admin)  # it holds the slate, and waits for what stands at its rank
        opener = asyncio.create_task(change(engine, TAKE_OVER))
        await until_blocked(admin, 2)
        await holder.rollback()
    (committed_at,) = await settled(caller)
    await opener

    assert committed_at == await scalar(engine, "SELECT committed_at FROM recommendations")


async def test_a_row_waits_for_who_is_opening_the_slate_and_is_refused_then(
    admin: AsyncEngine, engine: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with await AsyncConnection.connect(libpq_url(database_url)) as opener:
        await opener.execute(TAKE_OVER)
        caller = hand_over(writer, row_of("c", 1))
        await until_blocked(admin)
        await opener.commit()
    (outcome,) = await settled(caller)

    assert isinstance(outcome, SlateTakenOverError)
    assert await ranks(engine) == []


async def test_a_row_that_the_new_holder_has_written_is_not_the_losers(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    await change(engine, TAKE_OVER)
    await writer.commit(row_of("c", 1, lease=1, score=0.75))

    with pytest.raises(SlateTakenOverError):
        await writer.commit(row_of("c", 1, lease=0, score=0.5))


@pytest.mark.parametrize("taken_over", [False, True], ids=["slate held", "slate taken over meanwhile"])
async def test_a_commit_whose_answer_is_lost_is_acknowledged_once_it_is_recognised(
    engine: AsyncEngine, database_url: str, run: Run, taken_over: bool
) -> None:
    async with (
        relay_to(database_url) as (relay, url),
        open_group_commit(url, run.run_id, run.day, RANKER.provenance) as writer,
    ):
        relay.lose_next_answer()
        callers = hand_over(writer, row_of("c", 1), row_of("c", 2))
        await asyncio.wait_for(relay.lost.wait(), 30)
        committed = await read(engine, "SELECT committed_at FROM recommendations ORDER BY rank")
        if taken_over:
            await change(engine, TAKE_OVER)
        assert not callers[0].done()
        relay.open.set()
        outcomes = await settled(callers)

    assert [(outcome,) for outcome in outcomes] == committed
    assert await ranks(engine) == [1, 2]
