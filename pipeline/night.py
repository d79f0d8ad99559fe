"""One night: the database, the endpoint and the right to be the only nightly run, opened together."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.building import build_candidates
from pipeline.candidates.builds import stays_in_service
from pipeline.candidates.recipe import load_recipe
from pipeline.database import open_engine
from pipeline.domain import RunId, RunKind, RunState
from pipeline.errors import (
    BudgetSpentError,
    DatabaseError,
    EndpointFatalError,
    EndpointUnreachableError,
    InputError,
    RecstreamError,
    RunConflictError,
    RunHaltedError,
    ShardTakenOverError,
    first_line,
)
from pipeline.gates import Figures, Gates, with_refusal
from pipeline.night_lock import hold_the_night
from pipeline.orders import take_no_more_orders
from pipeline.provided_database import provided_database
from pipeline.provisioning import provided_endpoint
from pipeline.publishing import publish_customer, publish_night, read_figures
from pipeline.resuming import require_resumable
from pipeline.run_states import begin_run, end_dead_runs, end_run
from pipeline.runs import Run, find_run, plan_run
from pipeline.schema_version import require_current
from pipeline.services import RunServices, Ways, open_run_services, ranker_of, ways_of
from pipeline.settings import Settings
from pipeline.slates import note_not_attempted
from pipeline.streaming import Endpoint, check_endpoint, open_client

_log = logging.getLogger(__name__)
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
    ways: Ways

    async def plan(self, most: int | None, *, refresh: bool = False) -> Run:
        """A new run over every active customer, or the first `most` of them; `refresh` makes the unchanged ones too."""
        return await plan_run(
            self.engine,
            RunKind.NIGHTLY,
            ranker_of(self.endpoint, self.ways.variants),
            slate_size=self.settings.slate_size,
            shard_size=self.settings.shard_size,
            most=most,
            unchanged_max_age_days=0 if refresh else self.settings.unchanged_max_age_days,
            currency=self.ways.caps.currency,
        )

    async def build_candidates(self, tell: Callable[[str], None]) -> str | None:
        """Build candidates anew, unless those in service are to stay for some more nights; if it fails, why.

        The night goes on then, with those of before, whatever it was that failed.

        Raises:
            ConfigurationError: the recipe cannot be used.
        """
        recipe = load_recipe(self.settings.candidate_recipe)
        build = partial(build_candidates, self.url, recipe, method=self.settings.candidate_method, tell=tell)
        try:
            if not await stays_in_service(self.engine, recipe, self.settings.candidates_every_days):
                await asyncio.to_thread(build)  # long statements: the heartbeat goes on meanwhile
        except RecstreamError as error:
            _log.warning("%s; the night goes on with those of before", error)
            return str(error)
        return None

    async def interrupted(self) -> Run | None:
        """The last night, if it ended with its process so lately that this one goes on with it.

        One that would be made otherwise now is not gone on with, nor one whose rows are gone, nor one over some
        customers only: this one is for everybody. Nor is one that was only planned: whoever planned it may have been
        cancelled before the run could be told.
        """
        run, hours = await find_run(self.engine, None), self.settings.take_up_hours
        if run is None or run.created_at is None or not (run.interrupted and run.everybody and run.begun):
            return None
        if datetime.now(UTC) - run.created_at >= timedelta(hours=hours):
            return None
        try:
            require_resumable(run, ranker_of(self.endpoint, self.ways.variants))
        except RunConflictError as conflict:
            _log.warning("%s; a night is planned anew", conflict)
            return None
        return run

    async def take_up(self, run_id: RunId) -> Run:
        """An earlier run, to go on with the customers whose slates are not complete.

        Raises:
            InputError: there is no such run.
            RunConflictError: it was made by another ranker, its rows were pruned, or another process works on it.
        """
        run = await find_run(self.engine, run_id)
        if run is None:
            raise InputError(f"there is no run {run_id}: `recstream runs` shows the last ones")
        require_resumable(run, ranker_of(self.endpoint, self.ways.variants))
        return run

    def answering_for(self, run: Run) -> AbstractAsyncContextManager[None]:
        """The run is running inside, wherever its shards are served; afterwards the ledger says how it ended."""
        return working_on(self.engine, run, self.settings.gates)

    def services_of(self, run: Run) -> AbstractAsyncContextManager[RunServices]:
        """All that the shards share that are served in this process."""
        return open_run_services(self.settings, self.url, self.endpoint, run)

    @asynccontextmanager
    async def working_on(self, run: Run) -> AsyncIterator[RunServices]:
        """Both at once, for who serves all shards himself."""
        async with self.answering_for(run), self.services_of(run) as services:
            yield services


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
                ways = ways_of(settings, endpoint)
                await require_answer(endpoint, ways.fallback)
                yield Night(settings, url, endpoint, engine, ways)


async def require_answer(endpoint: Endpoint, fallback: Endpoint | None) -> None:
    """Raise unless somebody answers at the endpoint, or at its fallback, and takes the key."""
    try:
        await _require_answer_at(endpoint)
    except (EndpointUnreachableError, EndpointFatalError) as error:
        if fallback is None:
            raise
        _log.warning("%s; the fallback is asked until it is back", error)
        await _require_answer_at(fallback)


async def _require_answer_at(endpoint: Endpoint) -> None:
    async with open_client(endpoint, concurrency=1) as client:
        await check_endpoint(client, endpoint)


@asynccontextmanager
async def working_on(engine: AsyncEngine, run: Run, gates: Gates) -> AsyncIterator[None]:
    """The run is running inside; afterwards it is published if its gates let it pass, and the ledger says how it ended.

    It is published however it ended, but by an interruption or a defect: what is complete is worth showing. Who cancels
    it is obeyed until then, and refused from then on. Who is cancelled while it begins finds it ended too.

    Raises:
        RunHaltedError: it was cancelled when its customers had been served.
        ShardTakenOverError: this process answers for the run no more.
    """
    await _begin(engine, run, gates)
    try:
        yield
        await take_no_more_orders(engine, run.run_id)
        figures, refusal = await _publish(engine, run, gates)
    except ShardTakenOverError:  # another process has taken the run up, or it was over before: it says how that ended
        raise
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


async def _begin(engine: AsyncEngine, run: Run, gates: Gates) -> None:
    try:
        await begin_run(engine, run.run_id)
    except asyncio.CancelledError as error:  # begun or not: nobody knows whether the last statement came through
        with suppress(DatabaseError):
            await _break_off(engine, run, gates, error)
        raise


async def _break_off(engine: AsyncEngine, run: Run, gates: Gates, error: BaseException) -> None:
    """Publish what is worth showing, unless a person broke the run off, and say in the ledger what did."""
    figures, refusal = None, None
    if isinstance(error, (RecstreamError, asyncio.CancelledError)):
        with suppress(DatabaseError):  # how the run ended is written down all the same
            error = await _heard_out(engine, run.run_id, error)
            if isinstance(error, RunHaltedError):
                await note_not_attempted(engine, run.run_id, run.day, error.short)
            if isinstance(error, RecstreamError) and not is_cancelled(error):
                figures, refusal = await _publish(engine, run, gates)
    state, reason = _broken_off(run.kind, error, figures)
    interrupted = not isinstance(error, Exception) and _order_of_a_person(error) is None
    await end_run(engine, run.run_id, state, with_refusal(reason, refusal), interrupted=interrupted)


def _order_of_a_person(error: BaseException) -> RunHaltedError | None:
    """Who cancels a task may say why: Ctrl-C and a cancellation in Prefect are a person's, a shutdown is not."""
    why = next(iter(error.args), None)
    return why if isinstance(error, asyncio.CancelledError) and isinstance(why, RunHaltedError) else None


async def _heard_out(engine: AsyncEngine, run_id: RunId, error: BaseException) -> BaseException:
    """What broke the run off: that a person has cancelled it meanwhile comes before all else."""
    try:
        await take_no_more_orders(engine, run_id)
    except RunHaltedError as cancelled:
        return cancelled
    return error


async def _publish(engine: AsyncEngine, run: Run, gates: Gates) -> tuple[Figures, str | None]:
    """What the run has come to, and why readers do not see it, if there is something to see. Gates are for nights."""
    if run.kind is RunKind.NIGHTLY:
        publication = await publish_night(engine, run.run_id, gates)
        return publication.figures, publication.refusal if publication.figures.served else None
    await publish_customer(engine, run.run_id)
    return await read_figures(engine, run.run_id), None


def _left(kind: RunKind, number: int, refusal: str | None) -> str:
    """How many customers are left. A refusal says itself what can be done."""
    customers = "1 customer has" if number == 1 else f"{number:,} customers have"
    return f"{customers} no complete slate" + ("" if refusal else _GOING_ON_WITH[kind][0])


def is_cancelled(error: BaseException) -> bool:
    """Whether a person has ordered the run to end at once."""
    return isinstance(error, RunHaltedError) and not error.drained


def _broken_off(kind: RunKind, error: BaseException, figures: Figures | None) -> tuple[RunState, str]:
    if isinstance(error, RunHaltedError) and not isinstance(error, BudgetSpentError):
        left = _GOING_ON_WITH[kind][1] if figures is None else _left(kind, figures.left, None)
        return RunState.CANCELLED, f"{error}; {left}"
    if isinstance(error, RecstreamError):
        return RunState.FAILED, str(error)
    if isinstance(error, Exception):
        return RunState.FAILED, f"{type(error).__name__}: {first_line(error)}"
    return RunState.CANCELLED, f"{_order_of_a_person(error) or 'interrupted'}; {_GOING_ON_WITH[kind][1]}"
