"""What a person ends alone: why it was cancelled is known where it ends, and nobody begins it again."""

import asyncio
from uuid import uuid4

import pytest

from flows.placement.dispatching import Known, Next, ShardRun, Stage, next_steps
from pipeline.domain import RunId, ShardState
from pipeline.errors import CalledOffError, ShutDownError, cause_of
from pipeline.orders import StandingOrders
from pipeline.shard_ledger import Shard

RUN = RunId(uuid4())


def following(state: ShardState, error: str | None, stage: Stage = Stage.BEGUN) -> Next:
    """What is done about a shard whose first attempt stands so."""
    shard = Shard(RUN, 0, 10, 0, None, 1, state, "m1", 1.0, 1.0, "why", error, alive=False)
    known = {0: Known(offers=1, attempt=1, sent=ShardRun(uuid4(), stage, since=0.0, told="Cancelled"))}
    return next_steps([shard], known, StandingOrders(), at_once=1, attempts=3, now=0.0)


def test_a_shard_that_was_called_off_is_given_up_at_its_first_attempt() -> None:
    done = following(ShardState.BROKEN_OFF, CalledOffError.__name__)
    assert [(it.shard, it.why) for it in done.given_up] == [(0, "why")]
    assert not done.offer
    assert done.over


def test_a_shard_whose_process_was_shut_down_is_offered_again() -> None:
    done = following(ShardState.BROKEN_OFF, ShutDownError.__name__)
    assert [it.shard for it in done.offer] == [0]


def test_a_shard_that_was_cancelled_while_it_waited_for_a_worker_is_given_up() -> None:
    done = following(ShardState.OFFERED, None, Stage.CALLED_OFF)
    assert [it.shard for it in done.given_up] == [0]
    assert [it.shard for it in following(ShardState.OFFERED, None, Stage.GONE).offer] == [0]


async def test_why_something_is_cancelled_reaches_whoever_writes_it_down_through_groups_and_waits() -> None:
    why, seen = CalledOffError("cancelled by somebody"), asyncio.Event()

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            seen.set()
            await asyncio.wait({asyncio.create_task(asyncio.sleep(60))})

    working = asyncio.create_task(work())
    await seen.wait()
    working.cancel(why)
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await working
    assert cause_of(cancelled.value) is why


def test_an_error_that_is_no_cancellation_is_its_own_cause() -> None:
    error = ValueError(CalledOffError("within"))
    assert cause_of(error) is error
    without = asyncio.CancelledError()
    assert cause_of(without) is without
