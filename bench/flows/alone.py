"""A night without Prefect: what the nightly flow does in its own process, and nothing around it."""

import asyncio
import os

from pipeline.night import open_night
from pipeline.runs import shards_of
from pipeline.settings import Settings
from pipeline.shards import serve_shard


async def night_alone(settings: Settings, most: int | None, *, build: bool) -> int:
    """Serve so many customers anew, as many shards at a time as the flow would; returns how many were served.

    `build` has candidates built before, as nights do.
    """
    places = asyncio.Semaphore(settings.shards_at_once or len(os.sched_getaffinity(0)))
    async with open_night(settings) as night:
        if build:
            await night.build_candidates(lambda _: None)
        run = await night.plan(most, refresh=True)
        async with night.working_on(run) as services, asyncio.TaskGroup() as serving:

            async def serve(shard: int) -> int:
                async with places:
                    return (await serve_shard(run, shard, services)).customers

            shards = [serving.create_task(serve(shard)) for shard in await shards_of(night.engine, run)]
            await asyncio.wait(shards)
    return sum(shard.result() for shard in shards)
