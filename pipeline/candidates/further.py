"""Looks the whole catalog through for the few customers who have empty places still: one statement for all of them."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypedDict

from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.candidates.builds import Build
from pipeline.candidates.page import Known, number_of
from pipeline.database import statement
from pipeline.domain import CustomerId, ProductId

FAVOURITES: Final = 50_000  # so many are put in order in a fraction of what a million takes


class Spellings:
    """How brands and categories are written in the catalog, by their form without regard to case: read once."""

    def __init__(self) -> None:
        self._known: Mapping[str, Collection[str]] | None = None

    async def of(self, connection: AsyncConnection, names: Collection[str]) -> list[str]:
        """Every spelling of these names, which are in their form without regard to case."""
        if not names:
            return []
        if self._known is None:
            self._known = await _read_spellings(connection)
        return [spelling for name in sorted(names) for spelling in self._known.get(name, ())]


async def _read_spellings(connection: AsyncConnection) -> Mapping[str, Collection[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in await connection.execute(statement("catalog_spellings")):
        found[row.name.casefold()].append(row.name)
    return found


async def read_further(
    connection: AsyncConnection,
    build: Build | None,
    customers: Mapping[CustomerId, Known],
    most: int,
    spellings: Spellings,
    *,
    favourites: int = FAVOURITES,
) -> dict[CustomerId, list[ProductId]]:
    """For each of these customers the `most` most popular products that he may have and has not bought.

    Of a catalog of more than `favourites` so many are looked at first, which is enough for all but the choosiest.
    """
    asked = [await _asked(connection, customer_id, known, spellings) for customer_id, known in customers.items()]
    if build is None or build.products <= favourites:
        return await _read(connection, build, asked, most, within=None)
    found = await _read(connection, build, asked, most, within=favourites)
    want_more = [one for one in asked if len(found.get(one["customer_id"], ())) < most]
    return {**found, **(await _read(connection, build, want_more, most, within=None) if want_more else {})}


class _Asked(TypedDict):
    """What is asked for one customer, as the statement reads it; names are keys of an object."""

    customer_id: CustomerId
    price_from: float | None
    price_to: float | None
    brands: dict[str, None]
    categories: dict[str, None]
    numbers: list[int]
    product_ids: dict[ProductId, None]


async def _asked(connection: AsyncConnection, customer_id: CustomerId, known: Known, spellings: Spellings) -> _Asked:
    wants = known.wants
    return {
        "customer_id": customer_id,
        "price_from": wants.price_from,
        "price_to": wants.price_to,
        "brands": dict.fromkeys(await spellings.of(connection, wants.excluded_brands)),
        "categories": dict.fromkeys(await spellings.of(connection, wants.excluded_categories)),
        "numbers": list(known.last_days),
        "product_ids": dict.fromkeys((*wants.bought, *wants.refused)),
    }


async def _read(
    connection: AsyncConnection, build: Build | None, asked: Sequence[_Asked], most: int, *, within: int | None
) -> dict[CustomerId, list[ProductId]]:
    parameters = {"asked": json.dumps(asked), "build_id": number_of(build), "most": most, "within": within}
    found: defaultdict[CustomerId, list[ProductId]] = defaultdict(list)
    for row in await connection.execute(statement("candidate_further"), parameters):
        found[CustomerId(row.customer_id)].append(ProductId(row.product_id))
    return found
