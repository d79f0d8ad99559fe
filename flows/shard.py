"""One shard of a night, served by whichever worker of the pool takes it. The parent offers it, and judges its end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.artifacts import shard_shown
from flows.endings import Ending, ended_in_order
from flows.parameters import ShardParameters
from flows.run_logs import run_logs
from pipeline.errors import ShardTakenOverError
from pipeline.offered_shard import serve_offered
from pipeline.runs import Run
from pipeline.settings import load_settings


# Whether there is another attempt is for the parent to say: a second one here would be fenced off.
@flow(name="shard", persist_result=False, retries=0)
async def shard(parameters: ShardParameters) -> State[Any]:
    """Serve the customers of the shard that are left; how that ended stands in the ledger."""
    return await ended_in_order(partial(_shard, parameters))


async def _shard(parameters: ShardParameters, _ending: Ending) -> State[Any]:
    return await serve_shard_offered(parameters)


async def serve_shard_offered(parameters: ShardParameters) -> State[Any]:
    """Serve what was offered, with services of this process; Cancelled where it was offered to another since.

    Raises:
        RecstreamError: the shard cannot be served to its end here.
    """
    try:
        report = await serve_offered(load_settings(), parameters.lease, parameters.left, _shown)
    except ShardTakenOverError as lost:
        return Cancelled(message=str(lost))
    told = f"{report.customers:,} customers, {report.rows:,} rows committed"
    get_run_logger().info(told)
    return Completed(message=told)


@asynccontextmanager
async def _shown(engine: AsyncEngine, run: Run, number: int) -> AsyncIterator[None]:
    with run_logs(run.run_id):
        async with shard_shown(engine, run, number):
            yield
