"""Looks the whole catalog through for the few customers who have empty places still: one statement for all of them."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.candidates.builds import Build
from pipeline.candidates.page import Known, number_of
from pipeline.database import statement
from pipeline.domain import CustomerId, ProductId


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
) -> dict[CustomerId, list[ProductId]]:
    """For each of these customers the `most` most popular products that he may have and has not bought."""
    asked = [
        {
            "customer_id": customer_id,
            "price_from": known.wants.price_from,
            "price_to": known.wants.price_to,
            "brands": await spellings.of(connection, known.wants.excluded_brands),
            "categories": await spellings.of(connection, known.wants.excluded_categories),
            "numbers": list(known.habits),
            "product_ids": sorted({*known.wants.bought, *known.wants.refused}),
        }
        for customer_id, known in customers.items()
    ]
    parameters = {"asked": json.dumps(asked), "build_id": number_of(build), "most": most}
    found: defaultdict[CustomerId, list[ProductId]] = defaultdict(list)
    for row in await connection.execute(statement("candidate_further"), parameters):
        found[CustomerId(row.customer_id)].append(ProductId(row.product_id))
    return found
