"""What becomes of a run: it is begun, it ends, and one whose process died is marked. Postgres refuses all else."""

import asyncio
from collections.abc import Mapping
from datetime import date
from uuid import UUID

from sqlalchemy import ColumnElement, Update, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import NIGHT_LOCK, statement
from pipeline.domain import Ending, OrderKind, RunId, RunKind, RunState, SlateState
from pipeline.errors import InputError, RunConflictError
from pipeline.order_book import write_order
from pipeline.persistence import persistent
from pipeline.shard_ledger import ALIVE_S
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

_ENDS: Mapping[str, str] = {OrderKind.CANCEL: "cancelled", OrderKind.DRAIN: "drained"}
"""The orders that end a run, and what it is called that one has ended."""


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
async def end_run(
    engine: AsyncEngine, run_id: RunId, state: RunState, reason: str | None = None, *, interrupted: bool = False
) -> None:
    """Nobody works on the run any more. One that has finished stays so, whoever says what later.

    One that was `interrupted` ended with its process, and not for a reason of its own: the next night may take it up.

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
        told = {"state": state, "reason": reason, "interrupted": interrupted}
        counted = {"ended_at": func.now(), "cost": _COST, "unchanged": _UNCHANGED}
        await connection.execute(update(runs).where(_is(run_id)).values(**told, **counted))


@persistent
async def end_dead_runs(engine: AsyncEngine) -> None:
    """Mark the runs whose process died, and their attempts that were in flight. The caller holds the night."""
    async with engine.begin() as connection:
        for run_id, day, kind in (await connection.execute(statement("dead_runs"))).all():
            await _mark_dead(connection, run_id, day, RunKind(kind))


async def end_abandoned_runs(engine: AsyncEngine, *, look_again_s: float = 5.0) -> list[RunId]:
    """As `end_dead_runs`, for who does not hold the night and keeps nobody from it; returns which they were.

    Nobody holds such a run, and none of its processes has been seen lately; nor is it so a while later, when somebody
    whom the database had lost for a moment has taken his lock again.
    """
    if not await _abandoned(engine, mark=False):
        return []
    await asyncio.sleep(look_again_s)
    return await _abandoned(engine, mark=True)


@persistent
async def _abandoned(engine: AsyncEngine, *, mark: bool) -> list[RunId]:
    found: list[RunId] = []
    after = UUID(int=0)
    while True:
        async with engine.begin() as connection:
            going_on = (await connection.execute(statement("hold_going_run"), {"after": after})).one_or_none()
            if going_on is None:
                return found
            after = going_on.run_id
            if not await _is_held(connection, RunId(after)):
                found.append(RunId(after))
                if mark:
                    await _mark_dead(connection, RunId(after), going_on.day, RunKind(going_on.kind))


async def _is_held(connection: AsyncConnection, run_id: RunId) -> bool:
    """Whether somebody works on the run. The caller holds its row: who takes the run from now on waits for him."""
    if await connection.scalar(statement("is_worked_on"), {"run_id": run_id, "night": NIGHT_LOCK}):
        return True
    asked = {"run_id": run_id, "order_id": 0, "alive_s": ALIVE_S}
    return bool((await connection.execute(statement("processes_of_run"), asked)).one().processes)


async def _mark_dead(connection: AsyncConnection, run_id: RunId, day: date, kind: RunKind) -> None:
    """As failed; one that a person had ordered to end is cancelled as ordered, and nobody goes on with it unasked."""
    died: dict[str, object] = {"state": RunState.FAILED, "reason": _DIED[kind], "interrupted": True}
    standing = (await connection.execute(statement("standing_orders"), {"run_id": run_id})).all()
    ordered = next((it for it in standing if it.kind in _ENDS), None)
    if ordered is not None:
        reason = f"{_ENDS[ordered.kind]} by {ordered.ordered_by}; {_DIED[kind]}"
        died = {"state": RunState.CANCELLED, "reason": reason, "interrupted": False}
    await connection.execute(update(runs).where(_is(run_id)).values(**died, ended_at=func.now(), cost=_COST))
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
            interrupted=False,
        )
    )
