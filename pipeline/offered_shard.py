"""One shard that another process has planned and offered: served here, with services and settings of this process."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_engine
from pipeline.domain import ShardLease, SlateState
from pipeline.errors import RunConflictError
from pipeline.night import require_answer
from pipeline.provided_database import provided_database
from pipeline.provisioning import provided_endpoint
from pipeline.resuming import require_rows, require_same_ranker
from pipeline.runs import Run, find_run
from pipeline.schema_version import require_current
from pipeline.services import open_run_services, ranker_of, ways_of
from pipeline.settings import Settings
from pipeline.shard_ledger import taking
from pipeline.shards import ShardReport, serve_lease

Shown = Callable[[AsyncEngine, Run, int], AbstractAsyncContextManager[None]]
"""Shows people how far a shard of the run is, inside."""


async def serve_offered(
    settings: Settings, lease: ShardLease, left: Collection[SlateState], shown: Shown
) -> ShardReport:
    """Take the shard and make its slates that are in one of these states; the ledger says how the attempt ended.

    Raises:
        ConfigurationError, SchemaError, RunConflictError: this process is not set up as the one that planned the run.
        EndpointUnreachableError, EndpointFatalError: the endpoint cannot be asked from here.
        ShardTakenOverError, RunHaltedError: see `pipeline.shards.serve_lease`.
    """
    with provided_database(settings) as url:
        await asyncio.to_thread(require_current, url)
        async with open_engine(url, connections=1) as engine, taking(engine, lease):
            run = await _run_of(engine, lease)
            with provided_endpoint(settings) as endpoint:
                ways = ways_of(settings, endpoint)
                require_same_ranker(run, ranker_of(endpoint, ways.variants))
                await require_answer(endpoint, ways.fallback)
                async with (
                    open_run_services(settings, url, endpoint, run) as services,
                    shown(services.engine, run, lease.shard),
                ):
                    return await serve_lease(run, lease, services, left)


async def _run_of(engine: AsyncEngine, lease: ShardLease) -> Run:
    run = await find_run(engine, lease.run_id)
    if run is None:
        raise RunConflictError(
            f"there is no run {lease.run_id} in this database: set DATABASE_URL to the one that it was planned in"
        )
    require_rows(run)
    return run
