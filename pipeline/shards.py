"""Serves the customers of one shard: hundreds of streams at a time in one event loop, memory flat."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass

from pipeline.domain import CommittedRecommendation, CustomerId, ShardLease, SlateState
from pipeline.errors import RecstreamError, RunHaltedError, SlateTakenOverError
from pipeline.guarding import guarded
from pipeline.log_context import about_customer, about_shard
from pipeline.persistence import persistent, wait_for_database
from pipeline.profiles import read_profiles, unfinished_customers
from pipeline.recommending import recommend
from pipeline.runs import LEFT, Run
from pipeline.services import RunServices
from pipeline.shard_ledger import lost, offer_shard, serving
from pipeline.slates import SlateLedger
from pipeline.unchanged import Input

_log = logging.getLogger(__name__)
_TOLD_EVERY = 1_000  # customers


@dataclass(slots=True)
class ShardReport:
    """What one shard did."""

    shard: int
    customers: int = 0
    rows: int = 0


async def serve_shard(run: Run, shard: int, services: RunServices, left: Collection[SlateState] = LEFT) -> ShardReport:
    """Offer the shard to this process itself, and serve it: see `serve_lease`."""
    lease = await offer_shard(services.engine, run.run_id, run.day, shard)
    return await serve_lease(run, lease, services, left)


async def serve_lease(
    run: Run, lease: ShardLease, services: RunServices, left: Collection[SlateState] = LEFT
) -> ShardReport:
    """Make the slates of this shard that are in one of these states; each customer's fate stands in the ledger.

    Raises:
        EndpointFatalError, EndpointClosedError, DatabaseError: the run cannot go on; what was committed stays.
        RunHaltedError: a person or a budget has ended it; where it was drained, what was in flight is finished.
        ShardTakenOverError: the shard was offered to another, or the run is over: nothing is written any more.
    """
    await wait_for_database(services.engine)
    report, holder = ShardReport(lease.shard), services.holding(lease)
    with about_shard(run.run_id, lease.shard):
        async with (
            serving(services.engine, lease, services.hands.process),
            aclosing(_inputs(run, lease.shard, holder, left)) as inputs,
        ):
            serving_all = services.hands.unless_cancelled(_serve_all(inputs, holder, report))
            await guarded(serving_all, lost(services.engine, lease))
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
        raise first_error(errors) from None
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
            async with services.places:
                await services.hands.may_take_customer()  # a drain may have come while he waited for his place
                with services.hands.customer(), about_customer(following[0].customer_id):
                    rows = await _count(recommend(*following, services.slate))
            report.rows += rows
            report.customers += 1
            if report.customers % _TOLD_EVERY == 0:
                _log.info("%d customers served so far, %d rows", report.customers, report.rows)
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


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first single error of a group, however deep it lies: one of ours, if there is any."""
    error: BaseException = errors.subgroup(RecstreamError) or errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
