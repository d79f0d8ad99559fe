"""Serves the customers of one shard: hundreds of streams at a time in one event loop, memory flat."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass

from pipeline.domain import CommittedRecommendation, CustomerId, SlateState
from pipeline.errors import RecstreamError, RunHaltedError, SlateTakenOverError
from pipeline.persistence import persistent, wait_for_database
from pipeline.profiles import read_profiles, unfinished_customers
from pipeline.recommending import recommend
from pipeline.runs import LEFT, Run
from pipeline.services import RunServices
from pipeline.slates import SlateLedger
from pipeline.unchanged import Input

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ShardReport:
    """What one shard did."""

    shard: int
    customers: int = 0
    rows: int = 0


async def serve_shard(run: Run, shard: int, services: RunServices, left: Collection[SlateState] = LEFT) -> ShardReport:
    """Make the slates of this shard that are in one of these states; each customer's fate stands in the ledger.

    Raises:
        EndpointFatalError, EndpointClosedError, DatabaseError: the run cannot go on; what was committed stays.
        RunHaltedError: a person or a budget has ended it; where it was drained, what was in flight is finished.
    """
    await wait_for_database(services.engine)
    report = ShardReport(shard)
    async with aclosing(_inputs(run, shard, services, left)) as inputs:
        await services.hands.unless_cancelled(_serve_all(inputs, services, report))
    return report


async def _serve_all(inputs: AsyncGenerator[Input], services: RunServices, report: ShardReport) -> None:
    """As many workers as there may be streams; the first that finds out that the run is halted tells it in the end."""
    one_at_a_time = asyncio.Lock()
    halts: list[RunHaltedError] = []
    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(services.concurrency):
                workers.create_task(_serve(inputs, one_at_a_time, services, report, halts))
    except BaseExceptionGroup as errors:  # not `except*`: before 3.11.4 that wraps what is raised in it once more
        ours = errors.subgroup(RecstreamError)
        raise _first(ours or errors) from None
    if halts:
        raise halts[0]


async def _serve(
    inputs: AsyncGenerator[Input],
    one_at_a_time: asyncio.Lock,
    services: RunServices,
    report: ShardReport,
    halts: list[RunHaltedError],
) -> None:
    try:
        while not halts:
            async with one_at_a_time:
                following = await anext(inputs, None)
                if following is None:
                    return
                await services.hands.may_take_customer()
            with services.hands.customer():
                rows = await _count(recommend(*following, services.slate))
            report.rows += rows
            report.customers += 1
    except RunHaltedError as halt:
        halts.append(halt)


async def _count(rows: AsyncGenerator[CommittedRecommendation]) -> int:
    async with aclosing(rows):
        return sum([1 async for _ in rows])


async def _inputs(run: Run, shard: int, services: RunServices, left: Collection[SlateState]) -> AsyncGenerator[Input]:
    async with aclosing(unfinished_customers(services.engine, run.run_id, run.day, shard, left)) as pages:
        async for page in pages:
            profiles = await read_profiles(services.engine, page, run.as_of, services.habits)
            candidates = await persistent(services.candidates.candidates)(list(profiles.values()))
            for customer_id in page:
                if customer_id not in profiles:
                    await _give_up(customer_id, services.slate.ledger)
            inputs = [(profile, candidates[customer_id]) for customer_id, profile in profiles.items()]
            kept = await services.unchanged.keep(inputs)
            for profile, found in inputs:
                if profile.customer_id not in kept:
                    yield profile, found


async def _give_up(customer_id: CustomerId, ledger: SlateLedger) -> None:
    try:
        slate = await ledger.open(customer_id, None, wanted=0)
        if slate.state is not SlateState.COMPLETE:
            state = SlateState.SHORT if slate.placed else SlateState.FAILED
            await ledger.close(slate, state, "no longer in the customers table: he left after the run was planned")
    except SlateTakenOverError as lost:
        _log.info("%s", lost)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first single error of a group, however deep it lies."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
