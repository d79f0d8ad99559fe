"""Shops as nobody would draw them: one customer who is most of the shop, and one product that is in every basket."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.building import BuildMethod, build_candidates
from pipeline.candidates.lookup import BuiltCandidates
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.candidates.rules import Rules
from pipeline.database import open_connection
from pipeline.domain import CustomerId, FoundBy, Profile

AS_OF: Final = datetime(2026, 6, 15, 12, tzinfo=UTC)
PRODUCTS: Final = 5_000
CUSTOMERS: Final = 60
TASTES: Final = 4
SHOP: Final = """
INSERT INTO products (product_id, name) SELECT 'p' || n, 'Product ' || n FROM generate_series(0, %s) AS n
"""
OTHERS: Final = """
INSERT INTO customers (customer_id) SELECT 'c' || n FROM generate_series(0, %s) AS n UNION SELECT 'new'
"""
# Everybody buys p0, and the two products of his taste.
BASKETS: Final = """
INSERT INTO events (event_key, customer_id, product_id, kind, value, occurred_at)
SELECT gen_random_uuid(), 'c' || customer, 'p' || product, 'purchase', 1,
       CAST(%(as_of)s AS timestamptz) - interval '5 days'
FROM generate_series(1, %(customers)s) AS customer,
     LATERAL (VALUES (0), (1 + customer %% %(tastes)s), (1 + %(tastes)s + customer %% %(tastes)s)) AS bought (product)
"""
NEWEST: Final = """
INSERT INTO events (event_key, customer_id, product_id, kind, value, occurred_at)
SELECT gen_random_uuid(), 'new', product, 'purchase', 1, CAST(%(as_of)s AS timestamptz) - interval '5 days'
FROM (VALUES ('p0'), ('p1')) AS bought (product)
"""
OF_HIS_TASTE: Final = f"p{1 + TASTES}"  # whoever bought p1 bought this too
# c0 buys a product of the catalog every second, all of them in turn.
HEAVY: Final = """
INSERT INTO events (event_key, customer_id, product_id, kind, value, occurred_at)
SELECT CAST(lpad(to_hex(n), 32, '0') AS uuid), 'c0', 'p' || n %% %(products)s, 'purchase', 1,
       CAST(%(as_of)s AS timestamptz) - make_interval(days => 20, secs => n)
FROM generate_series(1, %(purchases)s) AS n
"""
INDEXES: Final = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'events' AND indexname <> 'events_pkey'"


@contextmanager
def without_indexes(connection: psycopg.Connection) -> Iterator[None]:
    """Written row by row they take longer than all that is tested."""
    indexes = connection.execute(INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    yield
    for _, definition in indexes:
        connection.execute(definition)


def fill(url: str, *, heavy: int) -> None:
    """A shop of sixty customers, and `new` who has half of what his taste buys. c0 has bought so many times."""
    with open_connection(url, role=None) as connection:
        connection.execute(SHOP, [PRODUCTS - 1])
        connection.execute(OTHERS, [CUSTOMERS])
        connection.execute(BASKETS, {"customers": CUSTOMERS, "tastes": TASTES, "as_of": AS_OF})
        connection.execute(NEWEST, {"as_of": AS_OF})
        with without_indexes(connection):
            connection.execute(HEAVY, {"products": PRODUCTS, "purchases": heavy, "as_of": AS_OF})
        connection.execute("ANALYZE events")


async def found(engine: AsyncEngine, url: str, method: BuildMethod, *customers: str) -> dict[str, dict[str, FoundBy]]:
    """What is found for each of these customers, the best ten and how, in a build that is made now."""
    build = build_candidates(url, CandidateRecipe(), as_of=AS_OF, method=method)
    source = await BuiltCandidates.open(
        engine, build, AS_OF, recipe=build.recipe, rules=Rules(), most=10, order="retrieval", seed=0
    )
    lists = await source.candidates([Profile(CustomerId(it)) for it in customers])
    return {it: {each.product.product_id: each.found_by for each in lists[CustomerId(it)].found} for it in customers}


def best_neighbour(ranked: Mapping[str, FoundBy]) -> str:
    return next(product for product, found_by in ranked.items() if found_by is FoundBy.NEIGHBOURS)


@pytest.mark.timeout(240)
async def test_one_customer_with_two_million_purchases_has_candidates_and_so_have_the_others(
    engine: AsyncEngine, database_url: str
) -> None:
    fill(database_url, heavy=2_000_000)

    lists = await found(engine, database_url, "sql", "c0", "new")

    assert len(lists["c0"]) == len(lists["new"]) == 10
    assert FoundBy.REPEAT in lists["c0"].values()
    assert best_neighbour(lists["new"]) == OF_HIS_TASTE


@pytest.mark.parametrize("method", ["sql", "scipy"])
async def test_a_product_in_every_basket_drives_nobodys_taste_out(
    engine: AsyncEngine, database_url: str, method: BuildMethod
) -> None:
    fill(database_url, heavy=1)

    lists = await found(engine, database_url, method, "new", "c1")

    assert best_neighbour(lists["new"]) == OF_HIS_TASTE  # of eight products that are all bought with p0
    assert len(lists["c1"]) == 10
