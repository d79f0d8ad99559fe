"""The two views that readers have, on a real database: whole slates, without what cannot be sold any more."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_connection
from pipeline.domain import CustomerId, ProductId, RunKind
from pipeline.gates import Gates
from pipeline.group_commit import open_group_commit
from pipeline.product_rules import ShopRule, end_rule, order_rule
from pipeline.publishing import publish_by_hand, publish_customer, publish_night, roll_back
from pipeline.reading import read_current_slate, read_rows, read_slate
from pipeline.run_states import begin_run
from tests.fixtures.readers import add_slates, runs_that_readers_see, what_readers_see
from tests.fixtures.shop import NOW, RANKER, add_event, add_product, add_run, end_slates, read, row_of

GATES = Gates()
PATIENCE_S = 30.0
SWITCHES = 30


@pytest.mark.parametrize(
    "since",
    [
        "UPDATE products SET available = false WHERE product_id = 'p2'",
        "UPDATE products SET hidden = true WHERE product_id = 'p2'",
        "DELETE FROM products WHERE product_id = 'p2'",
    ],
    ids=["sold out", "hidden", "gone from the catalog"],
)
async def test_what_cannot_be_sold_any_more_disappears_for_everybody(
    engine: AsyncEngine, database_url: str, since: str
) -> None:
    run = await add_slates(engine, database_url, a="complete", b="complete")
    await publish_night(engine, run.run_id, GATES)

    with open_connection(database_url, role=None) as shop:
        shop.execute(since)

    for customer_id in "ab":
        assert [product for _, product in await what_readers_see(engine, customer_id)] == ["p1", "p3"]


async def test_what_he_purchased_since_disappears_for_him_alone(engine: AsyncEngine, database_url: str) -> None:
    run = await add_slates(engine, database_url, a="complete", b="complete")
    await publish_night(engine, run.run_id, GATES)
    since = run.as_of + timedelta(days=1)
    await add_event(engine, "a", "purchase", product_id="p1", at=since)
    await add_event(engine, "a", "view", product_id="p2", at=since)

    assert [product for _, product in await what_readers_see(engine, "a")] == ["p2", "p3"]
    assert [product for _, product in await what_readers_see(engine, "b")] == ["p1", "p2", "p3"]


async def test_what_he_refused_since_disappears_for_him_alone(engine: AsyncEngine, database_url: str) -> None:
    run = await add_slates(engine, database_url, a="complete", b="complete")
    await publish_night(engine, run.run_id, GATES)
    since = run.as_of + timedelta(days=1)
    await add_event(engine, "a", "response", product_id="p1", value=0, at=since)
    await add_event(engine, "a", "response", product_id="p2", value=1, at=since)
    await add_event(engine, "a", "response", product_id="p3", at=since)
    await add_event(engine, "a", "rating", product_id="p2", value=0, at=since)
    await add_event(engine, "a", "response", product_id="p2", value=0, at=run.as_of - timedelta(days=1))

    assert [product for _, product in await what_readers_see(engine, "a")] == ["p2", "p3"]
    assert [product for _, product in await what_readers_see(engine, "b")] == ["p1", "p2", "p3"]


async def test_what_the_shop_bans_disappears_until_it_is_banned_no_more(engine: AsyncEngine, database_url: str) -> None:
    run = await add_slates(engine, database_url, a="complete", b="complete")
    await publish_night(engine, run.run_id, GATES)

    await order_rule(engine, ProductId("p2"), ShopRule.BAN, reason="recalled")
    await order_rule(engine, ProductId("p3"), ShopRule.PIN, reason="we like it")
    for customer_id in "ab":
        assert [product for _, product in await what_readers_see(engine, customer_id)] == ["p1", "p3"]

    await end_rule(engine, ProductId("p2"), ShopRule.BAN)
    assert [product for _, product in await what_readers_see(engine, "a")] == ["p1", "p2", "p3"]


async def test_a_purchase_of_something_without_an_id_hides_nothing(engine: AsyncEngine, database_url: str) -> None:
    run = await add_slates(engine, database_url, a="complete")
    await publish_night(engine, run.run_id, GATES)
    await add_event(engine, "a", "purchase", words="Laptop", at=run.as_of + timedelta(days=1))
    await add_event(engine, "a", "purchase", product_id="p3", at=run.as_of + timedelta(days=1))

    assert [product for _, product in await what_readers_see(engine, "a")] == ["p1", "p2"]


async def test_a_purchase_made_while_the_run_went_on_counts_as_one_since(
    engine: AsyncEngine, database_url: str
) -> None:
    await add_event(engine, "somebody", "view", product_id="p1", at=NOW)  # the run looks no further than this
    run = await add_slates(engine, database_url, a="complete")
    assert run.as_of == NOW
    await add_event(engine, "a", "purchase", product_id="p1", at=NOW + timedelta(seconds=1))
    await publish_night(engine, run.run_id, GATES)

    assert [product for _, product in await what_readers_see(engine, "a")] == ["p2", "p3"]


async def test_a_purchase_that_the_candidates_knew_of_hides_nothing(engine: AsyncEngine, database_url: str) -> None:
    await add_product(engine, "p1")
    await add_event(engine, "a", "purchase", product_id="p1", at=NOW)  # a repeat, recommended on purpose
    run = await add_slates(engine, database_url, a="complete")
    await publish_night(engine, run.run_id, GATES)

    assert [product for _, product in await what_readers_see(engine, "a")] == ["p1", "p2", "p3"]


async def test_a_slate_that_is_being_kept_is_seen_once(engine: AsyncEngine, database_url: str) -> None:
    night = await add_slates(engine, database_url, a="complete")
    for_one = await add_slates(engine, database_url, kind=RunKind.ON_DEMAND, b="complete")
    await publish_night(engine, night.run_id, GATES)
    await publish_customer(engine, for_one.run_id)
    seen = {customer_id: await what_readers_see(engine, customer_id) for customer_id in "ab"}
    slate = await read_slate(engine, CustomerId("a"))

    keep(database_url)

    assert {customer_id: await what_readers_see(engine, customer_id) for customer_id in "ab"} == seen
    assert await read_slate(engine, CustomerId("a")) == slate
    assert len(await read_rows(engine, night.run_id, CustomerId("a"))) == 3


async def test_a_slate_that_outlives_its_day_is_seen_as_before(engine: AsyncEngine, database_url: str) -> None:
    night = await add_slates(engine, database_url, a="complete")
    for_one = await add_slates(engine, database_url, kind=RunKind.ON_DEMAND, b="complete")
    await publish_night(engine, night.run_id, GATES)
    await publish_customer(engine, for_one.run_id)
    seen = {customer_id: await what_readers_see(engine, customer_id) for customer_id in "ab"}

    keep(database_url)
    with open_connection(database_url, role=None) as owner:
        owner.execute("DELETE FROM recommendations WHERE day > '2000-01-01'")
        owner.execute("DELETE FROM slates WHERE day > '2000-01-01'")

    assert {customer_id: await what_readers_see(engine, customer_id) for customer_id in "ab"} == seen
    assert len(await read_rows(engine, night.run_id, CustomerId("a"))) == 3


def keep(url: str) -> None:
    """Copy all slates to the partition that stays."""
    with open_connection(url, role=None) as owner:
        for table in ("slates", "recommendations"):
            columns = owner.execute(
                "SELECT string_agg(attname, ', ') FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'day'",
                [table],
            ).fetchone()
            assert columns is not None
            owner.execute(f"INSERT INTO {table} (day, {columns[0]}) SELECT '0001-01-01', {columns[0]} FROM {table}")


async def test_one_customer_is_read_in_the_partitions_of_his_slate_and_of_newer_nights_without_one(
    database_url: str,
) -> None:
    for days_ago in (5, 4, 3, 2, 1):
        add_former_night(database_url, days_ago, "ab")
    add_former_night(database_url, 0, "b")

    with open_connection(database_url) as connection:
        assert partitions_read(connection.execute(EXPLAIN, ["b"]).fetchone()) == {
            "slates_20240312",
            "recommendations_20240312",
        }
        assert partitions_read(connection.execute(EXPLAIN, ["a"]).fetchone()) == {
            "slates_20240312",
            "slates_kept",
            "slates_20240311",
            "recommendations_20240311",
        }


EXPLAIN = "EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM current_recommendations WHERE customer_id = %s ORDER BY rank"


def partitions_read(row: tuple[Any, ...] | None) -> set[str]:
    """The partitions that a plan did read."""
    assert row is not None
    return {
        node["Relation Name"]
        for node in nodes_of(row[0][0]["Plan"])
        if node["Actual Loops"] and node.get("Relation Name", "").startswith(("slates_", "recommendations_"))
    }


def nodes_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", []):
        yield from nodes_of(below)


def add_former_night(url: str, days_ago: int, customers: str) -> None:
    """A published run of a former day with complete slates."""
    with open_connection(url, role=None) as owner:
        day = owner.execute("SELECT date '2024-03-12' - %s::integer", [days_ago]).fetchone()
        named = {"run_id": uuid4(), "day": day[0] if day else None, "customers": list(customers)}
        for statement in _NIGHT:
            owner.execute(statement, named)


_NIGHT = (
    "INSERT INTO customers (customer_id) SELECT unnest(%(customers)s::text[]) ON CONFLICT DO NOTHING",
    "INSERT INTO products (product_id, name) VALUES ('p1', 'P'), ('p2', 'P'), ('p3', 'P') ON CONFLICT DO NOTHING",
    "SELECT recstream_prepare_day(%(day)s)",
    """INSERT INTO runs (run_id, kind, state, model, endpoint, provenance, slate_size, temperature, prompt_version,
                         code_version, as_of, day, shuffle_seed)
       VALUES (%(run_id)s, 'nightly', 'finished', 'm', 'e', 'language_model', 3, 0.1, 'v', 'v', %(day)s, %(day)s, 0)""",
    """INSERT INTO slates (run_id, customer_id, day, shard, state)
       SELECT %(run_id)s, unnest(%(customers)s::text[]), %(day)s, 0, 'complete'""",
    """INSERT INTO recommendations (run_id, customer_id, day, rank, product_id, product_name, relevance_score,
                                    provenance, attempt)
       SELECT %(run_id)s, customer_id, %(day)s, rank, 'p' || rank, 'P', 0.5, 'language_model', 1
       FROM unnest(%(customers)s::text[]) AS customer_id, generate_series(1, 3) AS rank""",
    """INSERT INTO published_runs (run_id, day, precedence, served_share, rows_per_slate, refused_share)
       VALUES (%(run_id)s, %(day)s, %(day)s::date + interval '3 hours', 1, 3, 0)""",
)


@dataclass
class Reader:
    """Reads the whole view again and again; what it saw is one entry for each read."""

    url: str
    seen: list[list[tuple[str, list[UUID], list[int]]]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    read_again: threading.Condition = field(default_factory=threading.Condition)

    def read_on(self) -> None:
        with open_connection(self.url, autocommit=True) as connection:
            while not self.stop.is_set():
                rows = connection.execute(
                    "SELECT customer_id, array_agg(DISTINCT run_id), array_agg(rank ORDER BY rank)"
                    " FROM current_recommendations GROUP BY customer_id ORDER BY customer_id"
                ).fetchall()
                with self.read_again:
                    self.seen.append(rows)
                    self.read_again.notify_all()

    def wait_for_a_read(self) -> None:
        """Until a read that began after this call has ended."""
        with self.read_again:
            wanted = len(self.seen) + 2
            assert self.read_again.wait_for(lambda: len(self.seen) >= wanted, PATIENCE_S)


@contextmanager
def reading(url: str) -> Iterator[Reader]:
    reader = Reader(url)
    thread = threading.Thread(target=reader.read_on)
    thread.start()
    try:
        yield reader
    finally:
        reader.stop.set()
        thread.join(PATIENCE_S)


async def test_readers_see_one_run_or_the_other_while_both_are_switched(engine: AsyncEngine, database_url: str) -> None:
    everybody = {f"c{number:02}": "complete" for number in range(20)}
    former, newer = [
        await add_slates(engine, database_url, kind=RunKind.NIGHTLY, ended=True, **everybody) for _ in range(2)
    ]
    await publish_night(engine, former.run_id, GATES)
    expected = []

    with reading(database_url) as reader:
        for number in range(SWITCHES):
            if number % 2 == 0:
                await publish_by_hand(engine, newer.run_id, GATES)
            else:
                await roll_back(engine)
            expected.append(newer.run_id if number % 2 == 0 else former.run_id)
            reader.wait_for_a_read()
            slate = await read_current_slate(engine, CustomerId("c07"))
            assert slate is not None
            assert (slate.run_id, [row.rank for row in slate.rows]) == (expected[-1], [1, 2, 3])

    told = []
    for rows in reader.seen:
        assert [customer_id for customer_id, _, _ in rows] == list(everybody)
        assert all(ranks == [1, 2, 3] for _, _, ranks in rows)
        (run_id,) = {UUID(str(run_id)) for _, runs, _ in rows for run_id in runs}
        told.append(run_id)
    switches = [run_id for before, run_id in zip([None, *told], told, strict=False) if run_id != before]
    assert switches in ([former.run_id, *expected], expected)


async def test_live_rows_are_those_of_runs_that_go_on(engine: AsyncEngine, database_url: str) -> None:
    ended = await add_slates(engine, database_url, a="complete")
    await publish_night(engine, ended.run_id, GATES)
    run = await add_run(engine, "a", "b")
    live = "SELECT customer_id, run_id, rank, slate_state FROM live_recommendations ORDER BY customer_id, rank"
    assert await read(engine, live) == []

    await begin_run(engine, run.run_id)
    await end_slates(engine, run, {"b": "streaming"})
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance) as writer:
        await writer.commit(row_of("b", 1))

    assert await read(engine, live) == [("b", run.run_id, 1, "streaming")]
    assert await runs_that_readers_see(engine) == {"a": ended.run_id}
