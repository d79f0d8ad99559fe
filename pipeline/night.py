"""One night: the database, the endpoint and the right to be the only nightly run, opened together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_engine
from pipeline.domain import RunId, RunKind, RunState
from pipeline.errors import DatabaseError, InputError, RecstreamError, RunConflictError, first_line
from pipeline.night_lock import hold_the_night
from pipeline.provided_database import provided_database
from pipeline.provisioning import provided_endpoint
from pipeline.publishing import publish
from pipeline.runs import Run, begin_run, end_dead_runs, end_run, find_run, plan_run, summarise
from pipeline.schema import require_current
from pipeline.services import open_shard_services, ranker_of
from pipeline.settings import Settings
from pipeline.shards import ShardReport, serve_shard
from pipeline.streaming import Endpoint, check_endpoint, open_client

ENGINE_CONNECTIONS = 2


@dataclass(frozen=True, slots=True)
class Night:
    """What a nightly run holds while it goes on."""

    settings: Settings
    url: str
    endpoint: Endpoint
    engine: AsyncEngine

    async def plan(self, most: int | None) -> Run:
        """A new run over every active customer, or the first `most` of them."""
        return await plan_run(
            self.engine,
            RunKind.NIGHTLY,
            ranker_of(self.endpoint),
            slate_size=self.settings.slate_size,
            shard_size=self.settings.shard_size,
            most=most,
        )

    async def take_up(self, run_id: RunId) -> Run:
        """An earlier run, to go on with the customers whose slates are not complete.

        Raises:
            InputError: there is no such run.
            RunConflictError: it was made with another model; one run has one model.
        """
        run = await find_run(self.engine, run_id)
        if run is None:
            raise InputError(f"there is no run {run_id}: `recstream status` shows the last one")
        if (run.model, run.provenance) != (self.endpoint.model, self.endpoint.provenance):
            raise RunConflictError(
                f"run {run_id} was made with {run.model}, but {self.endpoint.model} is set: "
                f"set RECSTREAM_MODEL={run.model} to resume it, or start a new one with `recstream run`"
            )
        return run

    async def serve(self, run: Run, shard: int) -> ShardReport:
        """Make the slates of one shard."""
        async with open_shard_services(self.settings, self.url, self.endpoint, run) as services:
            return await serve_shard(run, shard, services)


@asynccontextmanager
async def open_night(settings: Settings) -> AsyncIterator[Night]:
    """Everything a nightly run needs, after a look at whether it can be had.

    Raises:
        ConfigurationError, DatabaseError, EndpointUnreachableError, EndpointFatalError: something is not there.
        RunConflictError: another nightly run is going on.
    """
    with provided_database(settings) as url:
        await asyncio.to_thread(require_current, url)
        async with hold_the_night(url), open_engine(url, connections=ENGINE_CONNECTIONS) as engine:
            await end_dead_runs(engine)
            with provided_endpoint(settings) as endpoint:
                await require_answer(endpoint)
                yield Night(settings, url, endpoint, engine)


async def require_answer(endpoint: Endpoint) -> None:
    """Raise unless somebody answers at the endpoint and takes the key."""
    async with open_client(endpoint, concurrency=1) as client:
        await check_endpoint(client, endpoint)


@asynccontextmanager
async def working_on(engine: AsyncEngine, run: Run) -> AsyncIterator[None]:
    """The run is running inside; afterwards its complete slates are published, and the ledger says how it ended."""
    await begin_run(engine, run.run_id)
    try:
        yield
    except BaseException as error:
        # Where the database itself is gone, the first error is the one to tell; the next night marks the run.
        with suppress(DatabaseError):
            if isinstance(error, RecstreamError):
                await publish(engine, run.run_id)
            await end_run(engine, run.run_id, *_broken_off(error))
        raise
    await publish(engine, run.run_id)
    left = (await summarise(engine, run.run_id)).left
    if left:
        reason = f"{left:,} customers have no complete slate; `recstream resume` takes only them"
        await end_run(engine, run.run_id, RunState.FAILED, reason)
    else:
        await end_run(engine, run.run_id, RunState.FINISHED)


def _broken_off(error: BaseException) -> tuple[RunState, str]:
    if isinstance(error, RecstreamError):
        return RunState.FAILED, str(error)
    if isinstance(error, Exception):
        return RunState.FAILED, f"{type(error).__name__}: {first_line(error)}"
    return RunState.CANCELLED, "interrupted; `recstream resume` goes on from the rows that are committed"
