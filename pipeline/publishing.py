"""Decides what readers see: a night is published or withdrawn by one row, a slate made on demand by its pointer."""

from dataclasses import dataclass

from sqlalchemy import and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import statement
from pipeline.domain import RunId, RunKind, SlateState
from pipeline.errors import InputError, RunConflictError
from pipeline.gates import Figures, Gates, advice, judge, rolled_back, without_refusal
from pipeline.persistence import persistent
from pipeline.publications import (
    Publishable,
    Shown,
    find_publishable,
    hold_publishing,
    last_figures,
    read_clock,
    renew_figures,
    shown_night,
    stands_behind_a_slate,
    unknown,
    withdraw,
    write_publication,
)
from pipeline.tables import published, runs, slates


@dataclass(frozen=True, slots=True)
class Publication:
    """What became of a run that was to be published. `refusal` is why readers do not see it; None if they do.

    `changed` is false where it was so before.
    """

    run_id: RunId
    figures: Figures
    changed: bool
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Rollback:
    """A night that readers see no more, and the one they see now. `changed` is false where it was so before."""

    run_id: RunId
    changed: bool
    shown: Shown | None


@persistent
async def read_figures(engine: AsyncEngine, run_id: RunId) -> Figures:
    """What the run has come to by now. Its rows are counted, which takes seconds for a million customers.

    Raises:
        InputError: there is no such run.
    """
    async with engine.connect() as connection:
        row = (await connection.execute(statement("run_figures"), {"run_id": run_id})).one_or_none()
    if row is None:
        raise unknown(run_id)
    return Figures(
        row.planned,
        row.complete,
        row.rows,
        row.committed,
        row.refused,
        unchanged=row.unchanged,
        kept_rows=row.kept_rows,
        filled_up=row.filled_up,
    )


@persistent
async def publish_night(engine: AsyncEngine, run_id: RunId, gates: Gates) -> Publication:
    """Publish a night that has ended, if its gates let it pass.

    Its precedence is the moment of its planning: what was made for a customer meanwhile is not undone. A night that is
    published stays so, and one that was rolled back is left to whoever did that.

    Raises:
        InputError: there is no such run.
    """
    figures = await read_figures(engine, run_id)
    async with engine.begin() as connection:
        await hold_publishing(connection)
        run = await find_publishable(connection, run_id)
        if run.withdrawn_at is not None:
            return Publication(run_id, figures, changed=False, refusal=rolled_back(run_id, run.withdrawn_at))
        if run.precedence is not None:
            await renew_figures(connection, run_id, figures)
            return Publication(run_id, figures, changed=False)
        refusal = await _refusal(connection, run_id, figures, gates)
        if refusal is None:
            await write_publication(connection, run, figures, run.created_at)
        return Publication(run_id, figures, changed=refusal is None, refusal=refusal)


@persistent
async def publish_by_hand(engine: AsyncEngine, run_id: RunId, gates: Gates, *, force: bool = False) -> Publication:
    """Let readers see a night before all others, if its gates let it pass or with `force`.

    Raises:
        InputError: there is no such run.
        RunConflictError: it was made on demand, or pruned; or it goes on, and `force` is not given.
    """
    figures = await read_figures(engine, run_id)
    async with engine.begin() as connection:
        await hold_publishing(connection)
        run = await find_publishable(connection, run_id)
        _require_publishable(run, force=force)
        _require_something(run, figures)
        first = await shown_night(connection)
        if first is not None and first.run_id == run_id and not await stands_behind_a_slate(connection, run_id):
            return Publication(run_id, figures, changed=False)
        refusal = None if force else await _refusal(connection, run_id, figures, gates)
        if refusal is None:
            await write_publication(connection, run, figures, await read_clock(connection))
            await _no_more_refused(connection, run)
        return Publication(run_id, figures, changed=refusal is None, refusal=refusal)


@persistent
async def publish_customer(engine: AsyncEngine, run_id: RunId) -> int:
    """Publish the complete slates of a run that was made on demand; returns how many pointers moved.

    A customer without a complete one keeps the slate he had, and so does one whose slate is of a newer run.
    """
    begun = select(runs.c.created_at).where(runs.c.run_id == run_id).scalar_subquery()
    newer = select(runs.c.run_id).where(runs.c.created_at > begun)
    day = select(runs.c.day).where(runs.c.run_id == run_id).scalar_subquery()
    complete = select(slates.c.customer_id, slates.c.run_id, slates.c.day).where(
        slates.c.run_id == run_id, slates.c.day == day, slates.c.state == SlateState.COMPLETE
    )
    switch = insert(published).from_select(["customer_id", "run_id", "day"], complete)
    switch = switch.on_conflict_do_update(
        index_elements=[published.c.customer_id],
        set_={"run_id": switch.excluded.run_id, "day": switch.excluded.day, "published_at": func.now()},
        where=and_(published.c.run_id != switch.excluded.run_id, published.c.run_id.not_in(newer)),
    )
    async with engine.begin() as connection:
        await hold_publishing(connection)
        return (await connection.execute(switch.execution_options(preserve_rowcount=True))).rowcount


async def roll_back(engine: AsyncEngine, run_id: RunId | None = None) -> Rollback:
    """Take a night away from its readers, by default the one they see before others: they see what was before it.

    Raises:
        InputError: there is no such run, or no night is published.
        RunConflictError: this run was never published, or it was made on demand.
    """
    return await _roll_back(engine, run_id or await _first(engine))


@persistent
async def _roll_back(engine: AsyncEngine, run_id: RunId) -> Rollback:
    async with engine.begin() as connection:
        await hold_publishing(connection)
        run = await find_publishable(connection, run_id)
        _require_published(run)
        if run.withdrawn_at is None:
            await withdraw(connection, run_id)
        return Rollback(run_id, run.withdrawn_at is None, await shown_night(connection))


@persistent
async def _first(engine: AsyncEngine) -> RunId:
    async with engine.connect() as connection:
        first = await shown_night(connection)
    if first is None:
        raise InputError("no night is published: there is nothing to roll back")
    return first.run_id


async def _refusal(connection: AsyncConnection, run_id: RunId, figures: Figures, gates: Gates) -> str | None:
    reasons = judge(figures, await last_figures(connection), gates)
    return advice(reasons, figures, run_id) if reasons else None


async def _no_more_refused(connection: AsyncConnection, run: Publishable) -> None:
    """The ledger says no more that the run is not published."""
    of_this_run = runs.c.run_id == run.run_id
    await connection.execute(update(runs).where(of_this_run).values(reason=without_refusal(run.reason)))


def _require_publishable(run: Publishable, *, force: bool) -> None:
    _require_night(run)
    if run.pruned_at is not None:
        raise RunConflictError(
            f"the rows of run {run.run_id} were pruned on {run.pruned_at:%Y-%m-%d}: it cannot be published any more"
        )
    if run.state.goes_on and not force:
        raise RunConflictError(
            f"run {run.run_id} is still going on: wait for its end, or let readers see each slate of it once it is "
            f"complete with `recstream publish {run.run_id} --force`"
        )


def _require_something(run: Publishable, figures: Figures) -> None:
    """Refuse a night that has ended without a slate: it would show nothing, and the next one be held against it."""
    if figures.served == 0 and not run.state.goes_on:
        raise RunConflictError(
            f"run {run.run_id} has no complete slate, so readers would see nothing of it: "
            f"`recstream resume {run.run_id}` makes what is missing, `recstream run` begins anew"
        )


def _require_published(run: Publishable) -> None:
    _require_night(run)
    if run.precedence is None:
        raise RunConflictError(
            f"run {run.run_id} was not published as a night: `recstream status {run.run_id}` says what readers see"
        )


def _require_night(run: Publishable) -> None:
    if run.kind is not RunKind.NIGHTLY:
        raise RunConflictError(
            f"run {run.run_id} was made on demand: its slate is published by itself when it is complete, "
            "and replaced by the next one"
        )
