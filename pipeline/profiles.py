"""Reads profiles from Postgres: the customers of one page in one statement, however long their histories are."""

from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import date, datetime

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import CustomerId, ProductId, Profile, RunId, SlateState
from pipeline.persistence import persistent
from pipeline.runs import LEFT
from pipeline.segments import History, ShopHabits, segments_of

PAGE = 200
MAX_PINNED = 500


async def unfinished_customers(
    engine: AsyncEngine,
    run_id: RunId,
    day: date,
    shard: int,
    left: Collection[SlateState] = LEFT,
    *,
    page: int = PAGE,
) -> AsyncGenerator[list[CustomerId]]:
    """Yield the shard's customers whose slates are in one of these states, a page at a time, by keyset.

    Memory stays flat, and whoever has been served meanwhile is not met again.
    """
    wanted = {"run_id": run_id, "day": day, "shard": shard, "left": [str(state) for state in left], "page": page}
    after = ""
    while customer_ids := await _page_of_customers(engine, wanted | {"after": after}):
        yield customer_ids
        after = customer_ids[-1]


@persistent
async def _page_of_customers(engine: AsyncEngine, wanted: dict[str, object]) -> list[CustomerId]:
    async with engine.connect() as connection:
        found = await connection.scalars(statement("unfinished_customers"), wanted)
        return [CustomerId(customer_id) for customer_id in found]


@persistent
async def read_profiles(
    engine: AsyncEngine, customer_ids: Sequence[CustomerId], as_of: datetime, habits: ShopHabits
) -> dict[CustomerId, Profile]:
    """The profiles of these customers as they stood at `as_of`; who is not in the database is not in the answer."""
    async with engine.connect() as connection:
        found = await connection.execute(
            statement("customer_histories"),
            {"customer_ids": list(customer_ids), "as_of": as_of, "most_pinned": MAX_PINNED},
        )
        profiles = [_profile(row, as_of, habits) for row in found.mappings()]
    return {profile.customer_id: profile for profile in profiles}


def _profile(row: RowMapping, as_of: datetime, habits: ShopHabits) -> Profile:
    history = History(
        time_zone=row["time_zone"],
        attributes=row["attributes"],
        purchases=tuple(
            (label, brand, datetime.fromisoformat(occurred_at)) for label, brand, occurred_at in row["purchases"] or ()
        ),
        categories=tuple(row["categories"] or ()),
        ratings=tuple((label, value) for label, value in row["ratings"] or ()),
        searches=tuple(row["searches"] or ()),
        responses=tuple((label, value, did) for label, value, did in row["responses"] or ()),
        spent=row["spent"],
        spending_since=row["spending_since"],
    )
    return Profile(
        customer_id=CustomerId(row["customer_id"]),
        segments=segments_of(history, as_of, habits),
        pinned_candidates=tuple(dict.fromkeys(map(ProductId, row["pinned_candidates"] or ()))),
    )
