"""One customer's current slate as a reader of the table gets it, and whether it is what he must see."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from bench.write.database import connected
from bench.write.rows import customer_id
from bench.write.shop import Shop
from pipeline.domain import RunId

SeenRow = tuple[UUID, int, str]
"""The run, the rank, and the product's id."""

_READ = """
SELECT run_id, rank, product_id, product_name, relevance_score, provenance, committed_at, published_at
FROM current_recommendations
WHERE customer_id = %s
ORDER BY rank
"""


@asynccontextmanager
async def slate_reader(url: str) -> AsyncIterator[Callable[[int], Awaitable[list[SeenRow]]]]:
    """Reads the slate of a customer, told by his number: a prepared statement, with a reader's rights."""
    async with connected(url) as connection:
        await connection.execute("SET ROLE recstream_reader")

        async def read(customer: int) -> list[SeenRow]:
            found = await connection.execute(_READ, [customer_id(customer)], prepare=True)
            return [(run_id, rank, product_id) for run_id, rank, product_id, *_ in await found.fetchall()]

        yield read


def night_of(shop: Shop, nights: Sequence[RunId], customer: int, rows: Sequence[SeenRow]) -> int | None:
    """The night (from 0) whose slate these rows are, whole and in order; None if they are no night's."""
    if not rows or rows[0][0] not in nights:
        return None
    run_id = rows[0][0]
    night = nights.index(RunId(run_id))
    wanted = [(run_id, rank, product_id) for rank, product_id in shop.seen(customer, night)]
    return night if list(rows) == wanted else None
