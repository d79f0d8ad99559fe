"""What becomes of a run: it is begun, it ends, and one whose process died is marked. Postgres refuses all else."""

from uuid import UUID

from sqlalchemy import ColumnElement, Update, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import statement
from pipeline.domain import Ending, OrderKind, RunId, RunKind, RunState, SlateState
from pipeline.errors import InputError, RunConflictError
from pipeline.order_book import write_order
from pipeline.persistence import persistent
from pipeline.tables import llm_calls, runs, slates

_ENDED = (RunState.FAILED, RunState.CANCELLED)

# Kept with the run, so that a list of runs need not look at a million slates each.
_COST = (
    select(func.sum(slates.c.cost))
    .where(slates.c.run_id == runs.c.run_id, slates.c.day == runs.c.day)
    .correlate(runs)
    .scalar_subquery()
)
_UNCHANGED = (
    select(func.count())
    .where(slates.c.run_id == runs.c.run_id, slates.c.day == runs.c.day, slates.c.state == SlateState.UNCHANGED)
    .correlate(runs)
    .scalar_subquery()
)
_DIED = {
    RunKind.NIGHTLY: "its process died; `recstream resume` goes on with it",
    RunKind.ON_DEMAND: "its process died; `recstream recommend` makes the slate anew",
}


@persistent
async def begin_run(engine: AsyncEngine, run_id: RunId) -> None:
    """The run is being worked on from now on.

    One that had ended begins anew: an order to drain or to cancel it stands no more, a pause and a limit do.

    Raises:
        InputError: there is no such run.
        RunConflictError: it has finished, or its rows were pruned; there is nothing left to do.
    """
    async with engine.begin() as connection:
        former = await _state_of(connection, run_id)
        if former is RunState.FINISHED:
            raise RunConflictError(f"run {run_id} has finished: start a new one with `recstream run`")
        if await connection.scalar(select(runs.c.pruned_at).where(_is(run_id))) is not None:
            raise RunConflictError(f"the rows of run {run_id} were pruned: start a new one with `recstream run`")
        if former in _ENDED:
            await write_order(connection, run_id, OrderKind.RESUME)
        await connection.execute(_going_on(run_id))


async def move_run(connection: AsyncConnection, run_id: RunId, state: RunState) -> None:
    """Another state of a run that goes on. The caller holds its row."""
    await connection.execute(update(runs).where(_is(run_id)).values(state=state))


@persistent
async def end_run(engine: AsyncEngine, run_id: RunId, state: RunState, reason: str | None = None) -> None:
    """Nobody works on the run any more. One that has finished stays so, whoever says what later.

    Raises:
        InputError: there is no such run.
    """
    async with engine.begin() as connection:
        former = await _state_of(connection, run_id)
        if former is RunState.FINISHED:
            return
        if former in _ENDED and former is not state:
            # Somebody took this process for dead, as after the loss of the connection that holds the night.
            await connection.execute(_going_on(run_id))
        told = {"state": state, "reason": reason, "ended_at": func.now(), "cost": _COST, "unchanged": _UNCHANGED}
        await connection.execute(update(runs).where(_is(run_id)).values(**told))


@persistent
async def end_dead_runs(engine: AsyncEngine) -> None:
    """Mark the runs whose process died, and their attempts that were in flight. The caller holds the night."""
    async with engine.begin() as connection:
        for run_id, day, kind in (await connection.execute(statement("dead_runs"))).all():
            await connection.execute(
                update(runs)
                .where(_is(run_id))
                .values(state=RunState.FAILED, reason=_DIED[RunKind(kind)], ended_at=func.now(), cost=_COST)
            )
            await connection.execute(
                update(llm_calls)
                .where(llm_calls.c.run_id == run_id, llm_calls.c.day == day, llm_calls.c.ending == Ending.IN_FLIGHT)
                .values(ending=Ending.DIED, ended_at=func.now())
            )


async def _state_of(connection: AsyncConnection, run_id: RunId) -> RunState:
    """The run's state, which nobody changes before this transaction has ended."""
    state = await connection.scalar(select(runs.c.state).where(_is(run_id)).with_for_update())
    if state is None:
        raise InputError(f"there is no run {run_id}: `recstream runs` shows the last ones")
    return RunState(state)


def _is(run_id: UUID) -> ColumnElement[bool]:
    return runs.c.run_id == run_id


def _going_on(run_id: RunId) -> Update:
    return (
        update(runs)
        .where(_is(run_id))
        .values(
            state=RunState.RUNNING,
            started_at=func.coalesce(runs.c.started_at, func.now()),
            ending_at=None,
            ended_at=None,
            reason=None,
        )
    )
