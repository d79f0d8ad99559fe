"""Gives an order to a run that is going on: checked against what stands, and written down with who and when."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import NIGHT_LOCK, statement
from pipeline.domain import OrderKind, RunId, RunKind, RunState
from pipeline.errors import InputError, RunConflictError
from pipeline.order_book import write_order
from pipeline.orders.standing import StandingOrders
from pipeline.orders.watching import processes_of
from pipeline.run_states import move_run
from pipeline.tables import runs

_GOING_ON = [state for state in RunState if state.goes_on]
_MOVES = {
    (OrderKind.DRAIN, RunState.RUNNING): RunState.DRAINING,
    (OrderKind.CONTINUE, RunState.DRAINING): RunState.RUNNING,
}


@dataclass(frozen=True, slots=True)
class Given:
    """An order that is written down. `processes` is how many work on the run now and will hear of it.

    `alive` is false where nobody holds the run any more: its process has died.
    """

    run_id: UUID
    kind: OrderKind
    concurrency: int | None
    order_id: int
    processes: int
    alive: bool


async def give_order(
    engine: AsyncEngine,
    run_id: RunId | None,
    kind: OrderKind,
    concurrency: int | None = None,
    through: str | None = None,
) -> Given:
    """Order this of a run, or of the nightly one that is going on. Its processes obey within seconds.

    `through` is what it came through, where its giver is not who this process runs as.

    Raises:
        InputError: there is no such run.
        RunConflictError: no nightly run is going on; the run has ended, or is being published; or the order makes no
            sense as things stand.
    """
    async with engine.begin() as connection:
        found, state, is_ending = await _held(connection, run_id)
        rows = (await connection.execute(statement("standing_orders"), {"run_id": found})).all()
        nonsense = _over(state, is_ending=is_ending) or _nonsense(state, StandingOrders.of(rows), kind, concurrency)
        if nonsense is not None:
            raise RunConflictError(f"run {found} {nonsense}")
        order_id = await write_order(connection, found, kind, concurrency, through)
        if (kind, state) in _MOVES:
            await move_run(connection, found, _MOVES[kind, state])
        processes, _ = await processes_of(connection, found, order_id)
        alive = processes > 0 or await _is_worked_on(connection, found)
    return Given(found, kind, concurrency, order_id, processes, alive)


async def _is_worked_on(connection: AsyncConnection, run_id: RunId) -> bool:
    """Whether somebody holds the run, also before its processes have said that they live, and after."""
    asked = {"run_id": run_id, "night": NIGHT_LOCK}
    worked_on: bool = (await connection.execute(statement("is_worked_on"), asked)).scalar_one()
    return worked_on


async def _held(connection: AsyncConnection, run_id: RunId | None) -> tuple[RunId, RunState, bool]:
    """The run, its state, and whether it is ending: nobody else ends it or orders anything in this transaction."""
    row = (
        await connection.execute(
            select(runs.c.run_id, runs.c.state, runs.c.ending_at)
            .where(_wanted(run_id))
            .order_by(runs.c.created_at.desc())
            .limit(1)
            .with_for_update(key_share=True)
        )
    ).one_or_none()
    if row is not None:
        return RunId(row.run_id), RunState(row.state), row.ending_at is not None
    if run_id is None:
        raise RunConflictError("no nightly run is going on: `recstream runs` shows the last ones; name one that does")
    raise InputError(f"there is no run {run_id}: `recstream runs` shows the last ones")


def _wanted(run_id: RunId | None) -> ColumnElement[bool]:
    if run_id is not None:
        return runs.c.run_id == run_id
    return (runs.c.kind == RunKind.NIGHTLY) & runs.c.state.in_(_GOING_ON)


def _over(state: RunState, *, is_ending: bool) -> str | None:
    """Why nothing at all can be ordered any more; None while something can."""
    if not state.goes_on:
        left = "" if state is RunState.FINISHED else "; `recstream resume` goes on with what is left"
        return f"has ended ({state}): nothing can be ordered of it any more{left}"
    return "is ending: its slates are made and being published" if is_ending else None


def _nonsense(state: RunState, standing: StandingOrders, kind: OrderKind, concurrency: int | None) -> str | None:
    """Why this cannot be ordered as things stand; None where it can."""
    if standing.cancel is not None:
        return f"was cancelled {standing.cancel.given()}: it is ending"
    match kind:
        case OrderKind.PAUSE | OrderKind.DRAIN:
            return _stopped(state, standing, kind)
        case OrderKind.CONTINUE if standing.pause is None and standing.drain is None:
            return "is neither paused nor draining: there is nothing to take back"
        case OrderKind.LIMIT:
            return _limited(standing, concurrency)
    return None


def _stopped(state: RunState, standing: StandingOrders, kind: OrderKind) -> str | None:
    if standing.drain is not None:
        return f"is draining, as ordered {standing.drain.given()}: `recstream continue` takes that back"
    if kind is OrderKind.PAUSE and standing.pause is not None:
        return f"is paused already, {standing.pause.given()}: `recstream continue` ends it"
    if kind is OrderKind.DRAIN and state is RunState.PLANNED:
        return "has not begun: drain it once it runs, or `recstream cancel` it"
    return None


def _limited(standing: StandingOrders, concurrency: int | None) -> str | None:
    if standing.limit is None:
        return "has no limit that could be taken away" if concurrency is None else None
    if standing.limit.concurrency == concurrency:
        return f"is limited to {concurrency} already, {standing.limit.given()}"
    return None
