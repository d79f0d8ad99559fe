"""Fills the tables with the shop of `bench.write.shop`: three nights for every customer, and what goes with them."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from bench.write.database import connected
from bench.write.rows import PROVENANCE, SLATE_SIZE
from bench.write.shop import NIGHTS, Shop
from pipeline.domain import RunId

_CUSTOMERS = """
INSERT INTO customers (customer_id, time_zone, attributes)
SELECT 'c' || lpad(number::text, 8, '0'), 'UTC', '{"loyalty_status": "gold"}'
FROM generate_series(1, %(known)s) AS number
"""
_PRODUCTS = """
INSERT INTO products (product_id, name, brand, category, price, available, hidden)
SELECT 'p' || number, 'Product ' || number || ' of a shop with names of this length', 'Brand ' || number %% 500,
       'Category ' || number %% 50, 10 + number %% 90, number %% 50 <> 7, number %% 200 = 11
FROM generate_series(1, %(products)s) AS number
"""
# For each customer two purchases before all nights; and after them, for one in ten, of what the last night recommends.
_EVENTS = """
INSERT INTO events (event_key, customer_id, product_id, kind, value, occurred_at)
SELECT gen_random_uuid(), 'c' || lpad(customer::text, 8, '0'), 'p' || customer * number %% %(products)s + 1,
       'purchase', 10, %(begun)s::timestamptz - interval '30 days'
FROM (SELECT customer, generate_series(1, 2) AS number FROM generate_series(1, %(customers)s) AS customer) AS purchase
UNION ALL
SELECT gen_random_uuid(), 'c' || lpad(customer::text, 8, '0'),
       'p' || (customer * 31 + %(night)s * 1009 + 3 * 97) %% %(products)s + 1, 'purchase', 10, now()
FROM generate_series(10, %(customers)s, 10) AS customer
"""

_RUN = """
INSERT INTO runs (run_id, kind, state, model, endpoint, provenance, slate_size, temperature, prompt_version,
                  code_version, as_of, day, shuffle_seed, created_at, started_at, ended_at)
VALUES (%(run_id)s, 'nightly', 'finished', 'bench', 'bench', %(provenance)s, %(slate_size)s, 0, 'bench', 'bench',
        %(begun)s, %(day)s, 0, %(begun)s, %(begun)s, %(begun)s::timestamptz + interval '1 hour')
"""
_SLATES = """
INSERT INTO slates (run_id, day, customer_id, shard, state, lease, attempts, ending, candidate_ids, input_hash,
                    tokens_in, tokens_out, first_row_s, last_row_s, whole_s)
SELECT %(run_id)s, %(day)s, 'c' || lpad(customer::text, 8, '0'), (customer - 1) / 1000, 'complete', 1, 1, 'enough',
       candidates.ids, '0123456789abcdef', 1500, 120, 0.4, 2, 2.1
FROM generate_series(1, %(customers)s) AS customer,
     (SELECT array_agg('p' || number) AS ids FROM generate_series(10001, 10030) AS number) AS candidates
"""
_CALLS = """
INSERT INTO llm_calls (run_id, day, customer_id, attempt, lease, request_id, model, status, ending, tokens_in,
                       tokens_out, tokens_estimated, first_byte_s, whole_s, started_at, ended_at, refused_objects)
SELECT %(run_id)s, %(day)s, 'c' || lpad(customer::text, 8, '0'), 1, 1, 'chatcmpl-' || customer, 'bench', 200, 'enough',
       1500, 120, false, 0.3, 2.1, %(begun)s, %(begun)s, (customer %% 50 = 0)::integer
FROM generate_series(1, %(customers)s) AS customer
"""
_REJECTIONS = """
INSERT INTO rejections (run_id, day, customer_id, attempt, number, reason, detail, raw)
SELECT %(run_id)s, %(day)s, 'c' || lpad(customer::text, 8, '0'), 1, 1, 'unknown_candidate', 'of none that were offered',
       '{"i": 99, "s": 50}'
FROM generate_series(50, %(customers)s, 50) AS customer
"""
_ROWS = """
INSERT INTO recommendations
    (run_id, day, provenance, customer_id, rank, product_id, product_name, relevance_score, attempt)
SELECT %(run_id)s, %(day)s, %(provenance)s, 'c' || lpad(customer::text, 8, '0'), rank,
       'p' || product, 'Product ' || product || ' of a shop with names of this length', 1 - rank / 100.0, 1
FROM (
    SELECT customer, rank, (customer * 31 + %(night)s * 1009 + rank * 97) %% %(products)s + 1 AS product
    FROM (SELECT customer, generate_series(1, %(slate_size)s) AS rank
          FROM generate_series(1, %(customers)s) AS customer) AS place
) AS placed
"""

# While it is filled, the server neither looks for work of its own nor writes whole pages to its log every few seconds.
_HASTE = (
    "ALTER SYSTEM SET autovacuum = off",
    "ALTER SYSTEM SET max_wal_size = '4GB'",
    "SELECT pg_reload_conf()",
)
_CALM = (
    "ALTER SYSTEM RESET autovacuum",
    "ALTER SYSTEM RESET max_wal_size",
    "SELECT pg_reload_conf()",
    "CHECKPOINT",
)
_TABLES = ("customers", "products", "events", "runs", "slates", "llm_calls", "rejections", "recommendations")


async def fill(url: str, shop: Shop) -> list[RunId]:
    """Write the shop and its nights, oldest first; they lie on the days before today, and none is published.

    The filling alone does without durability. Afterwards all is on the disk, and the planner knows the tables.
    """
    run_ids = [RunId(uuid4()) for _ in range(NIGHTS)]
    nights = [_night(shop, night, run_id) for night, run_id in enumerate(run_ids)]
    for values in nights:  # one after the other: each takes a lock for as long as it makes tables
        await _execute(url, ["SELECT recstream_prepare_day(%(day)s)"], values)
    await _execute(url, _HASTE, None)
    await asyncio.gather(
        _execute(url, (_CUSTOMERS, _PRODUCTS, _EVENTS), nights[-1]),
        *(_execute(url, (_RUN, _SLATES, _CALLS, _REJECTIONS, _ROWS), values) for values in nights),
    )
    await asyncio.gather(*(_execute(url, [f"VACUUM (ANALYZE) {table}"], None) for table in _TABLES))
    await _execute(url, _CALM, None)
    return run_ids


def _night(shop: Shop, night: int, run_id: RunId) -> dict[str, object]:
    begun = datetime.now(UTC) - timedelta(days=NIGHTS - night)
    return {
        "run_id": run_id,
        "night": night,
        "begun": begun,
        "day": begun.date(),
        "provenance": PROVENANCE,
        "slate_size": SLATE_SIZE,
        "customers": shop.customers,
        "known": shop.known,
        "products": shop.products,
    }


async def _execute(url: str, statements: Sequence[str], values: dict[str, object] | None) -> None:
    async with connected(url) as connection:
        await connection.execute("SET synchronous_commit = off")
        for statement in statements:
            await connection.execute(statement, values)
