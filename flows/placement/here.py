"""Serves shards in this process, as many at a time as it has cores: in one event loop, through one set of services."""

import asyncio
import os
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.artifacts import shard_shown
from flows.run_names import run_tags, shard_run_name
from flows.verdicts import verdict_on
from pipeline.domain import SlateState
from pipeline.errors import RecstreamError
from pipeline.night import Night
from pipeline.runs import Run, shards_of
from pipeline.services import RunServices
from pipeline.shard_ledger import Shard, read_shards
from pipeline.shards import first_error, serve_shard

ServeShard = Callable[[RunServices, Run, int, Collection[SlateState]], Coroutine[Any, Any, State[Any]]]


async def serve_here(night: Night, run: Run, left: Collection[SlateState]) -> None:
    """Serve the shards that have such slates; while one comes to its end, the next has begun.

    Raises:
        RecstreamError: one cannot go on; the others have ended before.
    """
    places = asyncio.Semaphore(night.settings.shards_at_once or len(os.sched_getaffinity(0)))
    planned = {it.shard: it for it in await read_shards(night.engine, run.run_id)}
    async with night.services_of(run) as services:
        try:
            async with asyncio.TaskGroup() as shards:
                for shard in await shards_of(night.engine, run, left):
                    await places.acquire()
                    named = _named(run, shard, planned, night.settings.time_zone)
                    serving = shards.create_task(_raising(named(services, run, shard, left)))
                    serving.add_done_callback(lambda _: places.release())
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None


@task(name="recommend-shard", cache_policy=NO_CACHE, persist_result=False, retries=0)
async def recommend_shard(services: RunServices, run: Run, shard: int, left: Collection[SlateState]) -> State[Any]:
    """Thousands of customers in one task: inside it is one event loop with hundreds of streams."""
    try:
        async with shard_shown(services.engine, run, shard):
            report = await serve_shard(run, shard, services, left)
    except RecstreamError as error:
        return verdict_on(error)
    told = f"{report.customers:,} customers, {report.rows:,} rows committed"
    get_run_logger().info(told)
    return Completed(message=told)


async def _raising(serving: Coroutine[Any, Any, State[Any]]) -> None:
    """What the task has told Prefect as its state ends the other shards too."""
    await (await serving).aresult(raise_on_failure=True)


def _named(run: Run, shard: int, planned: Mapping[int, Shard], zone: str) -> ServeShard:
    """The task as Prefect's page calls it; the shards of a run of before have no rows of their own, and no name."""
    its = planned.get(shard)
    name = f"shard {shard + 1}" if its is None else shard_run_name(run, its, len(planned), zone, its.attempt + 1)
    return recommend_shard.with_options(task_run_name=name, tags=run_tags(run, zone))
