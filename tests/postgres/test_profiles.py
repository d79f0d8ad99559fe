"""Profiles read from a real database: nine segments, bounded, as of a moment, a page in one statement."""

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import CustomerId, Profile
from pipeline.profiles import MAX_PINNED, read_profiles, unfinished_customers
from pipeline.segments import MAX_ITEMS, MAX_SEGMENT_CHARACTERS, ShopHabits
from tests.fixtures.shop import (
    ARTICLE_CUSTOMER,
    NOW,
    SATURDAY_EVENING,
    add_article_shop,
    add_customer,
    add_event,
    add_product,
    add_run,
    change,
    end_slates,
    read,
)

HABITS = ShopHabits()
MANY_EVENTS = """
    INSERT INTO events (event_key, customer_id, kind, value, text, occurred_at)
    SELECT gen_random_uuid(),
           CAST(:customer AS text) || CASE WHEN :customers > 1 THEN '-' || n % :customers ELSE '' END,
           (ARRAY['purchase', 'view', 'rating', 'search', 'response', 'return'])[1 + (n / :customers) % 6], n % 5,
           'Thing number ' || n, CAST(:newest AS timestamptz) - n * interval '1 minute'
    FROM generate_series(0, :events - 1) AS n
"""


async def profile_of(
    engine: AsyncEngine, customer_id: CustomerId, habits: ShopHabits = HABITS, later: timedelta = timedelta(0)
) -> Profile:
    return (await read_profiles(engine, [customer_id], NOW + later, habits))[customer_id]


async def segments_of(engine: AsyncEngine, customer_id: CustomerId, habits: ShopHabits = HABITS) -> dict[str, str]:
    return dict((await profile_of(engine, customer_id, habits)).segments)


@contextmanager
def statements_counted(engine: AsyncEngine) -> Iterator[list[str]]:
    """Every statement that the engine sends, the pool's own look at a connection aside."""
    seen: list[str] = []

    def see(
        connection: Connection,
        cursor: DBAPICursor,
        words: str,
        parameters: object,
        context: ExecutionContext | None,
        executemany: bool,
    ) -> None:
        seen.append(words)

    event.listen(engine.sync_engine, "before_cursor_execute", see)
    try:
        yield seen
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", see)


async def test_the_articles_customer_reads_as_in_the_article(engine: AsyncEngine) -> None:
    await add_article_shop(engine)

    profile = await profile_of(engine, ARTICLE_CUSTOMER)

    assert profile.as_text().splitlines() == [
        "Recent purchases: Laptop, Wireless Headphones, Smart Watch",
        "Frequently browsed categories: Electronics, Books, Fitness Equipment",
        "Product ratings: Laptop: 5 stars, Wireless Headphones: 4 stars",
        "Recent searches: best budget laptops 2023, latest sci-fi books, yoga mats",
        "Preferred brands: Apple, AllBirds, Bench",
        "Responses to earlier recommendations: Product123: interested, Product456: not interested",
        "Loyalty status: Gold Member",
        "Average monthly spend: $500",
        "Preferred shopping times: Weekend evenings",
    ]
    assert profile.pinned_candidates == tuple(str(number) for number in range(1, 11))


async def test_events_about_the_catalog_are_told_by_its_names_brands_and_categories(engine: AsyncEngine) -> None:
    customer = await add_customer(engine, "c")
    await add_product(engine, "1", "Trail Shoe", brand="Bench", category="Fashion")
    for days_ago in (3, 2):
        at = SATURDAY_EVENING - timedelta(days=days_ago)
        await add_event(engine, customer, "purchase", product_id="1", value=60, at=at)
    await add_event(engine, customer, "view", product_id="1")
    await add_event(engine, customer, "rating", product_id="1", value=4.5)
    await add_event(engine, customer, "response", product_id="1", value=1)

    assert await segments_of(engine, customer) == {
        "Recent purchases": "Trail Shoe",
        "Frequently browsed categories": "Fashion",
        "Product ratings": "Trail Shoe: 4.5 stars",
        "Preferred brands": "Bench",
        "Responses to earlier recommendations": "Trail Shoe: interested",
        "Average monthly spend": "$120",
    }


async def test_what_he_was_merely_shown_hides_no_answer_of_his(engine: AsyncEngine) -> None:
    customer = await add_customer(engine, "c")
    await add_product(engine, "1", "Trail Shoe")
    await add_event(engine, customer, "response", product_id="1", value=0, response="refused")
    for number in range(40):
        at = SATURDAY_EVENING + timedelta(minutes=number)
        await add_event(engine, customer, "response", product_id="1", response="shown", at=at)
    await add_event(engine, customer, "response", product_id="gone", value=1, response="clicked")

    assert await segments_of(engine, customer) == {"Responses to earlier recommendations": "Trail Shoe: not interested"}


async def test_a_customer_of_whom_nothing_is_known_has_no_segment(engine: AsyncEngine) -> None:
    customer = await add_customer(engine, "cold")

    assert await profile_of(engine, customer) == Profile(customer)


async def test_who_is_not_in_the_database_is_not_in_the_answer(engine: AsyncEngine) -> None:
    await add_customer(engine, "here")

    found = await read_profiles(engine, [CustomerId("here"), CustomerId("gone")], NOW, HABITS)

    assert set(found) == {"here"}


@pytest.mark.parametrize(
    ("time_zone", "habit"),
    [("UTC", "Weekend evenings"), ("Asia/Tokyo", "Weekend nights"), ("America/Los_Angeles", "Weekend afternoons")],
)
async def test_shopping_times_are_those_of_the_customers_own_clock(
    engine: AsyncEngine, time_zone: str, habit: str
) -> None:
    customer = await add_customer(engine, "c", time_zone=time_zone)
    for weeks_ago in range(3):
        at = SATURDAY_EVENING - timedelta(weeks=weeks_ago)
        await add_event(engine, customer, "purchase", words="Book", at=at)

    assert (await segments_of(engine, customer))["Preferred shopping times"] == habit


async def test_the_shops_time_zone_and_currency_hold_for_who_states_none(engine: AsyncEngine) -> None:
    customer = await add_customer(engine, "c", time_zone="Middle/Earth", average_monthly_spend=70)
    for weeks_ago in range(3):
        at = SATURDAY_EVENING - timedelta(weeks=weeks_ago)
        await add_event(engine, customer, "purchase", words="Book", at=at)

    found = await segments_of(engine, customer, ShopHabits("Asia/Tokyo", "€"))

    assert found["Preferred shopping times"] == "Weekend nights"
    assert found["Average monthly spend"] == "€70"


async def test_spend_is_of_the_last_year_less_returns(engine: AsyncEngine) -> None:
    customer = await add_customer(engine, "c")
    for days_ago, kind, value in ((400, "purchase", 9000), (360, "purchase", 1300), (30, "return", 100)):
        await add_event(engine, customer, kind, words="Sofa", value=value, at=NOW - timedelta(days=days_ago))

    assert (await segments_of(engine, customer))["Average monthly spend"] == f"${1200 / (360 / (365 / 12)):,.0f}"


async def test_what_happened_after_the_as_of_time_is_not_seen(engine: AsyncEngine) -> None:
    customer = await add_customer(engine, "c")
    for kind in ("purchase", "view", "rating", "search", "response"):
        await add_event(engine, customer, kind, words="Later", value=1, at=NOW + timedelta(seconds=1))

    assert await segments_of(engine, customer) == {}
    assert len((await profile_of(engine, customer, later=timedelta(seconds=1))).segments) == 6


async def test_fifty_thousand_events_read_as_briefly_as_fifty_and_newest_first(engine: AsyncEngine) -> None:
    for customer, events in (("few", 60), ("many", 50_000)):
        await add_customer(engine, customer)
        await change(engine, MANY_EVENTS, customer=customer, customers=1, events=events, newest=NOW)

    few = await profile_of(engine, CustomerId("few"))
    many = await profile_of(engine, CustomerId("many"))

    assert [title for title, _ in few.segments] == [title for title, _ in many.segments]
    for (title, short), (_, long) in zip(few.segments, many.segments, strict=True):
        assert len(long) <= MAX_SEGMENT_CHARACTERS
        if title != "Average monthly spend":
            assert long == short, "the newest events are the same ones"
    newest = ", ".join(f"Thing number {number}" for number in range(0, MAX_ITEMS * 6, 6))
    assert dict(many.segments)["Recent purchases"] == newest


async def test_attributes_of_five_megabytes_come_out_bounded(engine: AsyncEngine) -> None:
    customer = await add_customer(
        engine,
        "c",
        loyalty_status="Gold " * 1_000_000,
        preferred_brands=["Apple", "x" * 1_000_000, *(f"Brand {number}" for number in range(100_000))],
        diary="dear " * 1_000_000,
        candidates=["p" * 100_000, *range(10_000)],
    )

    profile = await profile_of(engine, customer)
    (row,) = await read(engine, statement("customer_histories").text, **parameters_of(customer))

    assert len(str(row)) < 20_000, "the bound holds in the database already"
    assert len(profile.as_text()) < 9 * (MAX_SEGMENT_CHARACTERS + 50)
    assert dict(profile.segments)["Preferred brands"].startswith("Apple, xxxx")
    assert profile.pinned_candidates == tuple(str(number) for number in range(MAX_PINNED - 1))


def parameters_of(*customer_ids: CustomerId) -> dict[str, object]:
    return {"customer_ids": list(customer_ids), "as_of": NOW, "most_pinned": MAX_PINNED}


@pytest.mark.parametrize("candidates", ["7", 7, None, {"7": 1}, [], [None]])
async def test_a_list_of_candidates_that_is_none_pins_nothing(engine: AsyncEngine, candidates: object) -> None:
    customer = await add_customer(engine, "c", candidates=candidates)

    assert (await profile_of(engine, customer)).pinned_candidates == ()


async def test_attributes_of_unexpected_types_are_left_out(engine: AsyncEngine) -> None:
    customer = await add_customer(
        engine,
        "c",
        loyalty_status=["Gold"],
        preferred_brands=[1, None, {"name": "Apple"}],
        average_monthly_spend="much",
        preferred_shopping_times={"weekend": True},
    )

    assert await segments_of(engine, customer) == {}


async def test_events_of_one_moment_always_read_the_same(engine: AsyncEngine, admin: AsyncEngine) -> None:
    customer = await add_customer(engine, "c")
    for number in range(80):
        await add_event(engine, customer, "search", words=f"word {number}")
    before = await segments_of(engine, customer)

    await change(engine, "UPDATE events SET value = value")  # every row moves to another place in the table
    await change(admin, "CREATE TABLE turned AS SELECT * FROM events ORDER BY event_key DESC")
    await change(admin, "TRUNCATE events")
    await change(admin, "INSERT INTO events SELECT * FROM turned")

    assert await segments_of(engine, customer) == before


async def test_pages_visit_every_unfinished_customer_once_in_one_statement_each(engine: AsyncEngine) -> None:
    names = [f"customer {number}" for number in range(23)]
    run = await add_run(engine, *names)
    await end_slates(engine, run, {"customer 3": "complete", "customer 22": "complete", "customer 4": "failed"})

    visited: list[CustomerId] = []
    with statements_counted(engine) as statements:
        async with aclosing(unfinished_customers(engine, run.run_id, run.day, 0, page=5)) as pages:
            async for page in pages:
                assert len(page) <= 5
                visited += (await read_profiles(engine, page, NOW, HABITS)).keys()

    assert sorted(visited) == sorted(set(names) - {"customer 3", "customer 22"})
    assert len(statements) == 5 + 1 + 5, "a statement for each page of ids, one for the end, one for each page read"


async def test_a_customer_completed_while_the_pages_go_on_is_not_visited(engine: AsyncEngine) -> None:
    run = await add_run(engine, "a", "b", "c")

    visited: list[CustomerId] = []
    async with aclosing(unfinished_customers(engine, run.run_id, run.day, 0, page=1)) as pages:
        async for page in pages:
            visited += page
            if page == ["a"]:
                await end_slates(engine, run, {"b": "complete"})

    assert visited == ["a", "c"]


async def test_histories_are_read_through_the_index(engine: AsyncEngine, admin: AsyncEngine) -> None:
    await change(engine, MANY_EVENTS, customer="c", customers=2_000, events=200_000, newest=NOW)
    await change(engine, "INSERT INTO customers (customer_id) SELECT DISTINCT customer_id FROM events")
    await change(engine, "INSERT INTO products (product_id, name) SELECT n, n FROM generate_series(1, 2000) AS n")
    await change(admin, "ANALYZE events, customers, products")
    page = [CustomerId(f"c-{number}") for number in range(200)]

    explained = await read(engine, "EXPLAIN " + statement("customer_histories").text, **parameters_of(*page))

    plan = "\n".join(str(line) for (line,) in explained)
    assert (plan.count("events_by_customer"), plan.count("events_answers")) == (5, 1), plan
    assert plan.count(" on events ") == 6, plan
