"""Compares two sides in one look at the database: figures of each, and both slates of every customer in one pass."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.comparing.figures import Figures, read_figures
from pipeline.comparing.hits import Hits, HitTally
from pipeline.comparing.sides import Side
from pipeline.comparing.tallies import Likeness, LikenessTally
from pipeline.database import statement
from pipeline.persistence import persistent

_PAGE = 2_000  # customers in memory at a time


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides. `hits` is None where nothing was bought since; `notes` are what a reader of it has to know."""

    first: Figures
    second: Figures
    likeness: Likeness
    hits: Hits | None
    notes: tuple[str, ...]


@persistent
async def compare_sides(engine: AsyncEngine, first: Side, second: Side, *, days: int) -> Comparison:
    """Compare the complete slates of both sides; hits are looked for within so many days after both runs' `as_of`.

    Reads one state of the database from beginning to end. A customer whose slate was left as it was, because nothing
    had changed, counts with the slate that he kept.

    Raises:
        DatabaseError: the connection was lost on the way.
    """
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        window = await _window(connection, first, second, days)
        tally = _Tallies(LikenessTally(min(first.run.slate_size, second.run.slate_size)), HitTally())
        await _read_slates(connection, first, second, window, tally)
        figures = await read_figures(connection, first), await read_figures(connection, second)
    likeness = tally.likeness.whole()
    hits = tally.hits.whole(window.since, window.until, likeness.depth) if window.purchases else None
    notes = tuple(_notes(first, second, likeness, window, hits))
    return Comparison(*figures, likeness, hits, notes)


@dataclass(frozen=True, slots=True)
class _Window:
    since: datetime
    until: datetime
    purchases: bool


@dataclass(frozen=True, slots=True)
class _Tallies:
    likeness: LikenessTally
    hits: HitTally


async def _window(connection: AsyncConnection, first: Side, second: Side, days: int) -> _Window:
    since = max(first.run.as_of, second.run.as_of)
    until = since + timedelta(days=days)
    found = (await connection.execute(statement("compare_window"), {"since": since, "until": until})).one()
    return _Window(since, found.until, found.purchases)


async def _read_slates(
    connection: AsyncConnection, first: Side, second: Side, window: _Window, tallies: _Tallies
) -> None:
    sides = {
        "first_run": first.run.run_id,
        "first_day": first.run.day,
        "first_variant": first.name.variant,
        "second_run": second.run.run_id,
        "second_day": second.run.day,
        "second_variant": second.name.variant,
    }
    sources = (await connection.execute(statement("compare_sources"), sides)).one()
    slots = {
        **sides,
        "source_runs": sources.run_ids,
        "source_days": sources.days,
        "depth": tallies.likeness.depth,
        "since": window.since,
        "until": window.until,
    }
    both = statement("compare_slates_of_both").execution_options(yield_per=_PAGE)
    async with connection.stream(both, slots) as customers:
        async for one in customers:
            tallies.hits.add(one.first, one.second, one.bought or ())
            if one.first is not None and one.second is not None:
                tallies.likeness.add(one.first, one.second, same_slate=one.same_slate)


def _notes(first: Side, second: Side, likeness: Likeness, window: _Window, hits: Hits | None) -> Iterator[str]:
    for side in (first, second):
        if side.run.state.goes_on:
            yield f"run {side.run.run_id} is still going on: its figures are those of this moment"
        if side.run.variants and side.name.variant is None:
            yield f"run {side.run.run_id} tries variants: here they are together, with the control's model and prompt"
    if first.run.slate_size != second.run.slate_size:
        yield (
            f"the runs asked for {first.run.slate_size} and {second.run.slate_size} rows: "
            f"the first {likeness.depth} of each slate are compared"
        )
    if not likeness.customers:
        yield "no customer has a complete slate on both sides: how alike they rank cannot be told"
    elif likeness.same_slate:
        yield (
            f"{likeness.same_slate:,} of {likeness.customers:,} customers have one and the same slate on both sides, "
            "kept because nothing had changed: they count as wholly alike, and with what they bought"
        )
    yield from _notes_on_hits(first, second, window, hits)


def _notes_on_hits(first: Side, second: Side, window: _Window, hits: Hits | None) -> Iterator[str]:
    if not window.purchases:
        yield f"nobody has bought anything since {window.since:%Y-%m-%d %H:%M} UTC: there are no hits to compare yet"
    elif hits is None:
        yield "a side has no complete slate: there are no hits to compare"
    elif first.run.as_of != second.run.as_of:
        yield "the runs looked at the shop at different times: hits count from the later one on"
