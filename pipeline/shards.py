"""Serves the customers of one shard: hundreds of streams at a time in one event loop, memory flat."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass

from pipeline.domain import CustomerId, Product, Profile, SlateState
from pipeline.errors import RecstreamError, SlateTakenOverError
from pipeline.persistence import persistent
from pipeline.profiles import read_profiles, unfinished_customers
from pipeline.recommending import recommend
from pipeline.runs import LEFT, Run
from pipeline.services import ShardServices
from pipeline.slates import SlateLedger

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ShardReport:
    """What one shard did."""

    shard: int
    customers: int = 0
    rows: int = 0


async def serve_shard(
    run: Run, shard: int, services: ShardServices, left: Collection[SlateState] = LEFT
) -> ShardReport:
    """Make the slates of this shard that are in one of these states; each customer's fate stands in the ledger.

    Raises:
        EndpointFatalError, DatabaseError: the run cannot go on; what was committed stays.
    """
    report = ShardReport(shard)
    async with aclosing(_inputs(run, shard, services, left)) as inputs:
        one_at_a_time = asyncio.Lock()
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(services.concurrency):
                    workers.create_task(_serve(inputs, one_at_a_time, services, report))
        except BaseExceptionGroup as errors:  # not `except*`: before 3.11.4 that wraps what is raised in it once more
            ours = errors.subgroup(RecstreamError)
            raise _first(ours or errors) from None
    return report


async def _serve(
    inputs: AsyncGenerator[tuple[Profile, list[Product]]],
    one_at_a_time: asyncio.Lock,
    services: ShardServices,
    report: ShardReport,
) -> None:
    while True:
        async with one_at_a_time:
            following = await anext(inputs, None)
        if following is None:
            return
        profile, candidates = following
        async with aclosing(recommend(profile, candidates, services.slate)) as rows:
            async for _ in rows:
                report.rows += 1
        report.customers += 1


async def _inputs(
    run: Run, shard: int, services: ShardServices, left: Collection[SlateState]
) -> AsyncGenerator[tuple[Profile, list[Product]]]:
    async with aclosing(unfinished_customers(services.engine, run.run_id, run.day, shard, left)) as pages:
        async for page in pages:
            profiles = await read_profiles(services.engine, page, run.as_of, services.habits)
            candidates = await persistent(services.candidates.candidates)(list(profiles.values()))
            for customer_id in page:
                if customer_id not in profiles:
                    await _give_up(customer_id, services.slate.ledger)
            for profile in profiles.values():
                yield profile, candidates.get(profile.customer_id, [])


async def _give_up(customer_id: CustomerId, ledger: SlateLedger) -> None:
    try:
        slate = await ledger.open(customer_id, candidates=(), wanted=0)
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
