"""What was bought of the slates that customers saw, beside what was popular at the same moment, with intervals.

A purchase counts for the slate that its customer saw at that moment: published before it, and not yet followed by
another. Where one run is named, everything counts that was bought within the days after its publication.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.comparing.intervals import wilson
from pipeline.database import statement
from pipeline.domain import RunId
from pipeline.evaluating.live_figures import Alike, LiveFigures, live_figures
from pipeline.evaluating.live_nights import Night, Window, read_nights, window_of
from pipeline.evaluating.live_notes import Known, note_on_nothing, notes_on
from pipeline.evaluating.live_report import LiveReport, RankResponses
from pipeline.evaluating.report import Interval
from pipeline.persistence import persistent
from pipeline.variant_entries import CONTROL

POPULARITY_DAYS: Final = 14
LIVE_DAYS: Final = 14
LIVE_SEED: Final = 7


@persistent
async def evaluate_live(
    engine: AsyncEngine, *, days: int = LIVE_DAYS, run_id: RunId | None = None, seed: int = LIVE_SEED
) -> LiveReport:
    """Judge the slates of the nights published within the last `days` days; or of one run, `days` after that.

    Reads one state of the database from beginning to end, in statements that give back counts alone.

    Raises:
        InputError: there is no such run, readers never saw it, or its rows were pruned.
        DatabaseError: a statement was refused, or the connection was lost on the way.
    """
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        now: datetime = (await connection.execute(statement("live_now"))).scalar_one()
        window = Window(now - timedelta(days=days), now, days, run_id)
        found = await read_nights(connection, window)
        if run_id is not None:
            window = window_of(found, window)
        nights = [night for night in found if not night.pruned]
        if not nights:
            return _nothing(window, seed, pruned=len(found))
        return await _judged(connection, window, nights, seed, pruned=len(found) - len(nights))


async def _judged(
    connection: AsyncConnection, window: Window, nights: Sequence[Night], seed: int, *, pruned: int
) -> LiveReport:
    slots = await _slots(connection, window, nights)
    cells = await _cells(connection, slots)
    buyers = sum(cell.customers for cell in cells if cell.bought)
    same_variants = all(night.variants == nights[0].variants for night in nights)
    figures = live_figures(cells, seed, control=CONTROL, by_variant=same_variants) if buyers else LiveFigures((), ())
    everybody = (await connection.execute(statement("live_buyers"), _moments(window))).scalar_one()
    responses = await _responses(connection, slots)
    return LiveReport(
        since=window.since,
        until=window.until,
        days=window.days,
        popularity_days=POPULARITY_DAYS,
        seed=seed,
        nights=tuple(night.told for night in nights),
        customers=sum(cell.customers for cell in cells),
        buyers=buyers,
        bought=sum(cell.customers * cell.bought for cell in cells),
        hits=figures.hits,
        variants=figures.variants,
        responses=responses,
        notes=tuple(
            notes_on(Known(window, nights, pruned, buyers, everybody - buyers, bool(responses), same_variants))
        ),
    )


def _moments(window: Window) -> dict[str, datetime]:
    return {"since": window.since, "until": window.until}


async def _slots(connection: AsyncConnection, window: Window, nights: Sequence[Night]) -> dict[str, object]:
    which = {"run_ids": [night.run_id for night in nights], "days": [night.day for night in nights]}
    sources = (await connection.execute(statement("live_sources"), which)).one()
    named = window.run_id is not None
    return {
        **_moments(window),
        **which,
        "as_ofs": [night.as_of for night in nights],
        "seen_from": [night.published_at for night in nights],
        "seen_until": [night.seen_until for night in nights],
        "precedences": [night.precedence for night in nights],
        "source_runs": sources.run_ids,
        "source_days": sources.days,
        "popularity_days": POPULARITY_DAYS,
        "is_named": named,
    }


async def _cells(connection: AsyncConnection, slots: dict[str, object]) -> list[Alike]:
    rows = await connection.execute(statement("live_hits"), slots)
    return [
        Alike(
            variant=row.variant,
            customers=row.customers,
            bought=row.bought,
            ours={5: row.ours_5, 10: row.ours_10},
            popular={5: row.popular_5, 10: row.popular_10},
        )
        for row in rows
    ]


async def _responses(connection: AsyncConnection, slots: dict[str, object]) -> tuple[RankResponses, ...]:
    wanted = {name: slots[name] for name in ("since", "until", "source_runs", "source_days")}
    rows = await connection.execute(statement("live_responses"), wanted)
    return tuple(
        RankResponses(
            row.rank,
            row.shown,
            row.clicked,
            row.bought,
            row.refused,
            Interval(row.clicked / row.shown, *wilson(row.clicked, row.shown)),
        )
        for row in rows
    )


def _nothing(window: Window, seed: int, *, pruned: int) -> LiveReport:
    """The report where no night is left to judge: the reason alone."""
    note = note_on_nothing(window, pruned)
    return LiveReport(window.since, window.until, window.days, POPULARITY_DAYS, seed, (), 0, 0, 0, (), (), (), (note,))
