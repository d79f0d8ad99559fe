"""One night: the database, the endpoint and the right to be the only nightly run, opened together."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_engine
from pipeline.domain import RunId, RunKind, RunState, SlateState
from pipeline.errors import DatabaseError, InputError, RecstreamError, first_line
from pipeline.gates import Figures, Gates, with_refusal
from pipeline.night_lock import hold_the_night
from pipeline.persistence import wait_for_database
from pipeline.provided_database import provided_database
from pipeline.provisioning import provided_endpoint
from pipeline.publishing import publish_customer, publish_night, read_figures
from pipeline.resuming import require_resumable
from pipeline.run_states import begin_run, end_dead_runs, end_run
from pipeline.runs import LEFT, Run, find_run, plan_run
from pipeline.schema import require_current
from pipeline.services import open_shard_services, ranker_of
from pipeline.settings import Settings
from pipeline.shards import ShardReport, serve_shard
from pipeline.streaming import Endpoint, check_endpoint, open_client

ENGINE_CONNECTIONS = 2
_NOBODY_LEFT = "its slates are there no more: its customers were erased, or its rows pruned"
_GOING_ON_WITH = {
    RunKind.NIGHTLY: (
        "; `recstream resume` takes only those",
        "`recstream resume` goes on from the rows that are committed",
    ),
    RunKind.ON_DEMAND: ("; `recstream recommend` makes one anew", "`recstream recommend` makes the slate anew"),
}


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
            RunConflictError: it was made by another ranker, its rows were pruned, or another process works on it.
        """
        run = await find_run(self.engine, run_id)
        if run is None:
            raise InputError(f"there is no run {run_id}: `recstream runs` shows the last ones")
        require_resumable(run, ranker_of(self.endpoint))
        return run

    async def serve(self, run: Run, shard: int, left: Collection[SlateState] = LEFT) -> ShardReport:
        """Make the slates of one shard that are in one of these states."""
        await wait_for_database(self.engine)
        async with open_shard_services(self.settings, self.url, self.endpoint, run) as services:
            return await serve_shard(run, shard, services, left)


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
async def working_on(engine: AsyncEngine, run: Run, gates: Gates) -> AsyncIterator[None]:
    """The run is running inside; afterwards it is published if its gates let it pass, and the ledger says how it ended.

    It is published however it ended, but by an interruption or a defect: what is complete is worth showing.
    """
    await begin_run(engine, run.run_id)
    try:
        yield
        figures, refusal = await _publish(engine, run, gates)
    except BaseException as error:
        # Where the database itself is gone, the first error is the one to tell; the next night marks the run.
        with suppress(DatabaseError):
            await _break_off(engine, run, gates, error)
        raise
    if figures.left or not figures.planned:
        reason = _left(run.kind, figures.left, refusal) if figures.planned else _NOBODY_LEFT
        await end_run(engine, run.run_id, RunState.FAILED, with_refusal(reason, refusal))
    else:
        await end_run(engine, run.run_id, RunState.FINISHED, refusal)


async def _break_off(engine: AsyncEngine, run: Run, gates: Gates, error: BaseException) -> None:
    """Publish what is worth showing, unless a person stopped the run, and say in the ledger what broke it off."""
    refusal = None
    if isinstance(error, RecstreamError):
        with suppress(DatabaseError):  # how the run ended is written down all the same
            refusal = (await _publish(engine, run, gates))[1]
    state, reason = _broken_off(run.kind, error)
    await end_run(engine, run.run_id, state, with_refusal(reason, refusal))


async def _publish(engine: AsyncEngine, run: Run, gates: Gates) -> tuple[Figures, str | None]:
    """What the run has come to, and why readers do not see it, if there is something to see. Gates are for nights."""
    if run.kind is RunKind.NIGHTLY:
        publication = await publish_night(engine, run.run_id, gates)
        return publication.figures, publication.refusal if publication.figures.complete else None
    await publish_customer(engine, run.run_id)
    return await read_figures(engine, run.run_id), None


def _left(kind: RunKind, number: int, refusal: str | None) -> str:
    """How many customers are left. A refusal says itself what can be done."""
    customers = "1 customer has" if number == 1 else f"{number:,} customers have"
    return f"{customers} no complete slate" + ("" if refusal else _GOING_ON_WITH[kind][0])


def _broken_off(kind: RunKind, error: BaseException) -> tuple[RunState, str]:
    if isinstance(error, RecstreamError):
        return RunState.FAILED, str(error)
    if isinstance(error, Exception):
        return RunState.FAILED, f"{type(error).__name__}: {first_line(error)}"
    return RunState.CANCELLED, f"interrupted; {_GOING_ON_WITH[kind][1]}"
