"""A process that serves shards as `recstream run` does, without Prefect: `python -m bench.limits.working`.

It does what comes as lines on standard input and tells of it on standard output; it ends with its parent.
"""

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from bench.limits.orders import Order, Serve, Told
from pipeline.database import open_engine
from pipeline.domain import RunId, RunKind
from pipeline.errors import RecstreamError, first_line
from pipeline.provided_database import provided_database
from pipeline.provisioning import provided_endpoint
from pipeline.run_states import begin_run
from pipeline.runs import Run, find_run, plan_run, shards_of
from pipeline.services import RunServices, open_run_services, ranker_of
from pipeline.settings import Settings, load_settings
from pipeline.shards import serve_shard
from pipeline.streaming import Endpoint
from pipeline.variants import load_variants


async def work() -> None:
    """Find out which run it is, open what it needs, and serve its shards until no more orders come."""
    settings = load_settings()
    orders = await _standard_input()
    _tell({"ready": os.getpid()})
    first = await _next(orders)
    if first is None:
        return
    async with AsyncExitStack() as stack:
        url = stack.enter_context(provided_database(settings))
        endpoint = stack.enter_context(provided_endpoint(settings))
        engine = await stack.enter_async_context(open_engine(url, connections=2))
        run = await _run_of(first, settings, endpoint, engine)
        services = await stack.enter_async_context(open_run_services(settings, url, endpoint, run))
        _tell({"run": str(run.run_id), "shards": list(await shards_of(engine, run))})
        await _serve_as_told(orders, run, services)


async def _run_of(first: Order, settings: Settings, endpoint: Endpoint, engine: AsyncEngine) -> Run:
    if first["do"] == "take":
        found = await find_run(engine, RunId(UUID(first["run"])))
        assert found is not None
        return found
    assert first["do"] == "plan"
    run = await plan_run(
        engine,
        RunKind.NIGHTLY,
        ranker_of(endpoint, load_variants(settings.prompt)),
        slate_size=settings.slate_size,
        shard_size=first["shard_size"],
        most=first["most"],
    )
    await begin_run(engine, run.run_id)
    return run


async def _serve_as_told(orders: asyncio.StreamReader, run: Run, services: RunServices) -> None:
    async with asyncio.TaskGroup() as shards:
        serving = []
        while (order := await _next(orders)) is not None:
            assert order["do"] == "serve"
            serving.append(shards.create_task(_serve(order, run, services)))
        for shard in serving:  # nobody is left who wants them, or they are served
            shard.cancel()


async def _serve(order: Serve, run: Run, services: RunServices) -> None:
    failed = None
    try:
        await serve_shard(run, order["shard"], services)
    except RecstreamError as error:
        failed = f"{type(error).__name__}: {first_line(error)}"
    _tell({"served": order["shard"], "at": time.monotonic(), "failed": failed})


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _next(orders: asyncio.StreamReader) -> Order | None:
    line = await orders.readline()
    order: Order | None = json.loads(line) if line else None
    return order


def _tell(told: Told) -> None:
    print(json.dumps(told), flush=True)


def main() -> int:
    """Work, and return the exit status: 1, with one line on stderr, where it broke off."""
    try:
        asyncio.run(work())
    except RecstreamError as error:
        print(f"bench.limits.working: {type(error).__name__}: {first_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
