"""The loop that has shards served by others, on a real ledger: how many are out, and what becomes of them."""

import asyncio
import logging
import time
from asyncio import Condition, Event
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.parameters import NightlyParameters
from flows.placement.dispatcher import dispatch
from flows.placement.dispatching import ShardRun, Stage
from pipeline.domain import OrderKind, ShardLease, SlateState
from pipeline.errors import ConfigurationError, RunHaltedError
from pipeline.night import Night, open_night
from pipeline.orders import give_order
from pipeline.profiles import unfinished_customers
from pipeline.run_states import begin_run
from pipeline.runs import LEFT, Run
from pipeline.settings import load_settings
from pipeline.shard_ledger import serving
from tests.fixtures.misbehaving_ranker import MisbehavingRanker
from tests.fixtures.shop import add_customer, add_product, change, end_slates, read, scalar

LOG = logging.getLogger("tests.pool")
CUSTOMERS = ("a", "b", "c", "d")
OUT = "SELECT count(*) FROM run_shards WHERE state IN ('offered', 'serving')"
PATIENCE_S = 30.0


@dataclass(slots=True)
class Postbox:
    """Workers as their parent sees them: what he sends lies here. `there` None: they never answer."""

    engine: AsyncEngine
    there: int | None = 9
    answers_sends: bool = True
    sent: list[ShardLease] = field(default_factory=list)
    left: Sequence[str] = ()
    called_off: list[ShardLease] = field(default_factory=list)
    most_out: int = 0
    changed: Condition = field(default_factory=Condition)

    async def send(self, lease: ShardLease, left: Sequence[str], name: str, tags: Sequence[str]) -> ShardRun | None:
        self.most_out = max(self.most_out, int(str(await scalar(self.engine, OUT))))
        async with self.changed:
            self.sent.append(lease)
            self.left = left
            self.changed.notify_all()
        if not self.answers_sends:
            await Event().wait()
        return ShardRun(uuid4(), Stage.QUEUED, time.monotonic())

    async def look(self, run: ShardRun) -> ShardRun | None:
        return run

    async def count(self) -> int | None:
        if self.there is None:
            await Event().wait()
        return self.there

    async def call_off(self, leases: Sequence[ShardLease], reason: str) -> None:
        self.called_off += leases

    async def tell_of_waiting(self, run: ShardRun, shard: int) -> None:
        raise AssertionError("nobody waits for so long here")

    async def until(self, condition: Callable[["Postbox"], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(lambda: condition(self))


@pytest.fixture
async def night(
    database_url: str, engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Night]:
    """Of four customers in as many shards."""
    for number in range(1, 4):
        await add_product(engine, f"p{number}")
    for customer in CUSTOMERS:
        await add_customer(engine, customer)
    for name, value in {"DATABASE_URL": database_url, "RECSTREAM_SHARD_SIZE": "1", **ranker.settings}.items():
        monkeypatch.setenv(name, value)
    async with open_night(load_settings()) as opened:
        yield opened


async def running(night: Night) -> Run:
    run = await night.plan(None)
    await begin_run(night.engine, run.run_id)
    return run


async def serve(engine: AsyncEngine, run: Run, lease: ShardLease, process: UUID) -> None:
    """As somebody does for whom nothing is left."""
    async with serving(engine, lease, process):
        pass


@pytest.mark.parametrize(("at_once", "there", "most"), [(None, 2, 2), (1, 9, 1), (3, 1, 3)])
async def test_no_more_shards_are_out_than_the_settings_say_or_there_are_workers(
    engine: AsyncEngine, night: Night, at_once: int | None, there: int, most: int
) -> None:
    night = replace(night, settings=night.settings.model_copy(update={"shards_at_once": at_once}))
    run, workers = await running(night), Postbox(engine, there=there)
    dispatching = asyncio.create_task(dispatch(night, run, LEFT, workers, LOG))
    for number in range(len(CUSTOMERS)):
        await workers.until(lambda it, least=number + 1: len(it.sent) >= least)  # type: ignore[misc] # bound at once
        await serve(engine, run, workers.sent[number], uuid4())
    await asyncio.wait_for(dispatching, PATIENCE_S)
    assert workers.most_out == most
    assert [it.shard for it in workers.sent] == [0, 1, 2, 3]


async def test_a_parent_that_ends_takes_back_all_that_is_out_and_calls_off_what_nobody_has_taken(
    engine: AsyncEngine, night: Night
) -> None:
    run, workers = await running(night), Postbox(engine, there=2)
    dispatching = asyncio.create_task(dispatch(night, run, LEFT, workers, LOG))
    await workers.until(lambda it: len(it.sent) == 2)
    taken, untaken = workers.sent
    async with AsyncExitStack() as served:
        await served.enter_async_context(serving(engine, taken, uuid4()))
        dispatching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dispatching
        assert await read(engine, "SELECT state, attempt FROM run_shards ORDER BY shard") == [
            ("waiting", 2),
            ("waiting", 2),
            ("waiting", 0),
            ("waiting", 0),
        ]
    assert workers.called_off == [untaken]


async def test_what_was_being_sent_when_the_parent_ended_is_called_off_too(engine: AsyncEngine, night: Night) -> None:
    run, workers = await running(night), Postbox(engine, answers_sends=False)
    dispatching = asyncio.create_task(dispatch(night, run, LEFT, workers, LOG))
    await workers.until(lambda it: len(it.sent) == 1)
    dispatching.cancel()
    with suppress(asyncio.CancelledError):
        await dispatching
    assert workers.sent[0] in workers.called_off
    assert await scalar(engine, OUT) == 0


async def test_an_order_reaches_a_parent_whom_the_workers_do_not_answer(engine: AsyncEngine, night: Night) -> None:
    run, workers = await running(night), Postbox(engine, there=None)
    dispatching = asyncio.create_task(dispatch(night, run, LEFT, workers, LOG))
    await give_order(engine, run.run_id, OrderKind.CANCEL)
    with pytest.raises(RunHaltedError, match="cancelled by"):
        await asyncio.wait_for(dispatching, PATIENCE_S)


async def test_who_is_tried_again_when_his_shard_breaks_off_is_taken_up_by_the_next_attempt_and_the_next_parent(
    engine: AsyncEngine, night: Night
) -> None:
    run, workers = await running(night), Postbox(engine)
    await end_slates(engine, run, dict.fromkeys(CUSTOMERS, "failed"))
    left = NightlyParameters(resume=run.run_id, only="failed").left
    dispatching = asyncio.create_task(dispatch(night, run, left, workers, LOG))
    await workers.until(lambda it: len(it.sent) == len(CUSTOMERS))
    with pytest.raises(ConnectionError):
        async with serving(engine, workers.sent[0], uuid4()):
            await change(engine, "UPDATE slates SET state = 'streaming' WHERE shard = 0")
            raise ConnectionError("broken off")
    await workers.until(lambda it: len(it.sent) == len(CUSTOMERS) + 1)
    assert await taken_up(engine, run, workers) == [CUSTOMERS[0]]
    dispatching.cancel()
    with suppress(asyncio.CancelledError):
        await dispatching

    workers = Postbox(engine)
    dispatching = asyncio.create_task(dispatch(night, run, left, workers, LOG))
    await workers.until(lambda it: len(it.sent) == len(CUSTOMERS))
    assert workers.sent[0].shard == 0
    dispatching.cancel()
    with suppress(asyncio.CancelledError):
        await dispatching


async def taken_up(engine: AsyncEngine, run: Run, workers: Postbox) -> list[str]:
    """The customers whom the attempt that was sent last finds to be served."""
    shard, left = workers.sent[-1].shard, [SlateState(it) for it in workers.left]
    pages = unfinished_customers(engine, run.run_id, run.day, shard, left)
    return [customer async for page in pages for customer in page]


async def test_what_the_workers_refuse_ends_the_run(engine: AsyncEngine, night: Night) -> None:
    class Refusing(Postbox):
        async def count(self) -> int | None:
            raise ConfigurationError("there is no such deployment")

    run = await running(night)
    with pytest.raises(ConfigurationError, match="no such deployment"):
        await asyncio.wait_for(dispatch(night, run, LEFT, Refusing(engine), LOG), PATIENCE_S)
