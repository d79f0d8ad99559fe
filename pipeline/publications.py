"""The ledger of published nights, read and written within the caller's transaction."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.database import PUBLISHING_LOCK
from pipeline.domain import RunId, RunKind, RunState
from pipeline.errors import InputError
from pipeline.gates import Figures, LastFigures
from pipeline.tables import published, published_runs, runs


@dataclass(frozen=True, slots=True)
class Publishable:
    """A run as publishing looks at it. `precedence` is None where it never was published."""

    run_id: RunId
    day: date
    kind: RunKind
    state: RunState
    reason: str | None
    created_at: datetime
    pruned_at: datetime | None
    precedence: datetime | None
    withdrawn_at: datetime | None


@dataclass(frozen=True, slots=True)
class Shown:
    """The night that readers see before others. `served_share` is of its customers, at its publication."""

    run_id: RunId
    published_at: datetime
    served_share: float
    rows_per_slate: float
    pruned_at: datetime | None


async def hold_publishing(connection: AsyncConnection) -> None:
    """Wait until nobody else changes what readers see, and keep everyone from it until this transaction ends."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(PUBLISHING_LOCK))))


async def find_publishable(connection: AsyncConnection, run_id: RunId) -> Publishable:
    """This run.

    Raises:
        InputError: there is none.
    """
    columns = [runs.c[name] for name in ("run_id", "day", "kind", "state", "reason", "created_at", "pruned_at")]
    wanted = (
        select(*columns, published_runs.c.precedence, published_runs.c.withdrawn_at)
        .outerjoin_from(runs, published_runs, published_runs.c.run_id == runs.c.run_id)
        .where(runs.c.run_id == run_id)
        .with_for_update(of=runs)  # nobody says meanwhile how it ended
    )
    row = (await connection.execute(wanted)).one_or_none()
    if row is None:
        raise unknown(run_id)
    return Publishable(
        RunId(row.run_id),
        row.day,
        RunKind(row.kind),
        RunState(row.state),
        row.reason,
        row.created_at,
        row.pruned_at,
        row.precedence,
        row.withdrawn_at,
    )


def unknown(run_id: RunId) -> InputError:
    """Our error for a run that is not there."""
    return InputError(f"there is no run {run_id}: `recstream runs` shows the last ones")


async def shown_night(connection: AsyncConnection) -> Shown | None:
    """The published night of greatest precedence; None where readers see no night."""
    wanted = (
        select(
            published_runs.c.run_id,
            published_runs.c.published_at,
            published_runs.c.served_share,
            published_runs.c.rows_per_slate,
            runs.c.pruned_at,
        )
        .join_from(published_runs, runs, runs.c.run_id == published_runs.c.run_id)
        .where(published_runs.c.withdrawn_at.is_(None))
        .order_by(published_runs.c.precedence.desc(), published_runs.c.run_id.desc())
        .limit(1)
    )
    row = (await connection.execute(wanted)).one_or_none()
    return None if row is None else Shown(RunId(row.run_id), *row[1:])


async def stands_behind_a_slate(connection: AsyncConnection, run_id: RunId) -> bool:
    """Whether a customer sees a slate that was made for him alone after the night's own place in the order."""
    place = select(published_runs.c.precedence).where(published_runs.c.run_id == run_id).scalar_subquery()
    newer = select(published.c.run_id).join_from(published, runs, runs.c.run_id == published.c.run_id)
    return bool(await connection.scalar(select(newer.where(runs.c.created_at > place).exists())))


async def last_figures(connection: AsyncConnection) -> LastFigures | None:
    """The figures of the night that readers see before others."""
    last = await shown_night(connection)
    return None if last is None else LastFigures(last.served_share, last.rows_per_slate)


async def write_publication(
    connection: AsyncConnection, run: Publishable, figures: Figures, precedence: datetime
) -> None:
    """Readers see the run from the commit on, also if it was withdrawn."""
    row = insert(published_runs).values(
        run_id=run.run_id, day=run.day, precedence=precedence, withdrawn_at=None, **_shares(figures)
    )
    renewed = {column.name: row.excluded[column.name] for column in published_runs.c if column.name != "run_id"}
    await connection.execute(row.on_conflict_do_update(index_elements=[published_runs.c.run_id], set_=renewed))


async def renew_figures(connection: AsyncConnection, run_id: RunId, figures: Figures) -> None:
    """The run is published and has gone on since."""
    of_this_run = published_runs.c.run_id == run_id
    await connection.execute(update(published_runs).where(of_this_run).values(**_shares(figures)))


async def withdraw(connection: AsyncConnection, run_id: RunId) -> None:
    """Readers do not see the run from the commit on."""
    of_this_run = published_runs.c.run_id == run_id
    await connection.execute(update(published_runs).where(of_this_run).values(withdrawn_at=func.now()))


async def read_clock(connection: AsyncConnection) -> datetime:
    """This moment, by the server's clock: whoever waited for the lock has it later than his transaction's begin."""
    moment: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    return moment


def _shares(figures: Figures) -> dict[str, float]:
    return {
        "served_share": figures.served_share,
        "rows_per_slate": figures.rows_per_slate,
        "refused_share": figures.refused_share,
    }
