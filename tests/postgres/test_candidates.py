"""Candidates chosen from a real catalog: what may be recommended to a customer, most promising first."""

from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.popular import PopularCandidates
from pipeline.database import statement
from pipeline.domain import Candidate, Candidates, CustomerId, FoundBy, Product, ProductId, Profile, Rule
from pipeline.profiles import read_profiles
from pipeline.segments import ShopHabits
from tests.fixtures.shop import (
    ARTICLE_CUSTOMER,
    NOW,
    add_article_shop,
    add_customer,
    add_event,
    add_product,
    change,
    read,
)


async def candidates_of(
    engine: AsyncEngine, customer_id: str, *pinned: str, days: int = 30, most: int = 50
) -> list[str]:
    source = await PopularCandidates.open(engine, NOW, days=days, most=most)
    profile = Profile(CustomerId(customer_id), pinned_candidates=tuple(map(ProductId, pinned)))
    found = await source.candidates([profile])
    assert found.keys() == {customer_id}
    return [product.product_id for product in found[CustomerId(customer_id)].offered]


async def bought(engine: AsyncEngine, product_id: str, buyers: int, *, days_ago: int = 1) -> None:
    for number in range(buyers):
        at = NOW - timedelta(days=days_ago)
        await add_event(engine, f"buyer {number}", "purchase", product_id=product_id, at=at)


async def viewed(engine: AsyncEngine, customer_id: str, category: str, times: int) -> None:
    for minute in range(times):
        await add_event(engine, customer_id, "view", words=category, at=NOW - timedelta(minutes=minute))


async def test_the_articles_customer_gets_his_ten_products_in_their_order(engine: AsyncEngine) -> None:
    await add_article_shop(engine)
    await bought(engine, "7", buyers=5)
    profiles = await read_profiles(engine, [ARTICLE_CUSTOMER], NOW, ShopHabits())
    source = await PopularCandidates.open(engine, NOW, days=30, most=50)

    found = await source.candidates(list(profiles.values()))

    assert [product.product_id for product in found[ARTICLE_CUSTOMER].offered] == [
        str(number) for number in range(1, 11)
    ]


async def test_a_product_carries_what_the_ranking_reads(engine: AsyncEngine) -> None:
    await add_product(engine, "1", "Trail Shoe", brand="Bench", category="Fashion", price=59.9)
    source = await PopularCandidates.open(engine, NOW, days=30, most=50)
    shoe = Product(ProductId("1"), "Trail Shoe", "Bench", "Fashion", 59.9)

    pinned = Profile(CustomerId("pinned"), pinned_candidates=(ProductId("1"),))
    found = await source.candidates([Profile(CustomerId("free")), pinned])
    assert found == {
        "free": Candidates((Candidate(shoe, 1.0, FoundBy.CATALOG),), (shoe,), NOW),
        "pinned": Candidates((Candidate(shoe, 1.0, FoundBy.PINNED),), (shoe,), NOW),
    }


async def test_popularity_in_his_categories_comes_first_and_the_categories_take_turns(engine: AsyncEngine) -> None:
    for product_id, category, buyers in (
        ("tent", "Outdoor", 2),
        ("stove", "Outdoor", 1),
        ("novel", "Books", 1),
        ("atlas", "Books", 0),
        ("phone", "Electronics", 5),
        ("charger", "Electronics", 4),
    ):
        await add_product(engine, product_id, category=category)
        await bought(engine, product_id, buyers)
    await viewed(engine, "c", "Books", 3)
    await viewed(engine, "c", "Outdoor", 2)

    assert await candidates_of(engine, "c") == ["novel", "tent", "atlas", "stove", "phone", "charger"]


async def test_a_customer_of_whom_nothing_is_known_gets_what_the_shop_sells(engine: AsyncEngine) -> None:
    for product_id, buyers in (("a", 0), ("b", 2), ("c", 1)):
        await add_product(engine, product_id)
        await bought(engine, product_id, buyers)

    assert await candidates_of(engine, "cold") == ["b", "c", "a"]


async def test_popularity_counts_buyers_of_the_last_days_alone(engine: AsyncEngine) -> None:
    for product_id in ("lately", "long ago", "later", "often by one"):
        await add_product(engine, product_id)
    await bought(engine, "lately", buyers=2)
    await bought(engine, "long ago", buyers=3, days_ago=31)
    await bought(engine, "later", buyers=4, days_ago=-1)
    for _ in range(5):
        await add_event(engine, "fan", "purchase", product_id="often by one", at=NOW)

    assert await candidates_of(engine, "c") == ["lately", "often by one", "later", "long ago"]


@pytest.mark.parametrize("pinned", [(), ("sold out", "hidden", "mine", "free", "unheard of")])
async def test_what_is_just_purchased_hidden_or_sold_out_never_appears(
    engine: AsyncEngine, pinned: tuple[str, ...]
) -> None:
    await add_product(engine, "sold out", available=False, category="Books")
    await add_product(engine, "hidden", hidden=True, category="Books")
    await add_product(engine, "mine", category="Books")
    await add_product(engine, "free", category="Books")
    for product_id in ("sold out", "hidden", "mine"):
        await bought(engine, product_id, buyers=3)
    await viewed(engine, "c", "Books", 1)
    await add_event(engine, "c", "purchase", product_id="mine", at=NOW - timedelta(days=2))

    assert await candidates_of(engine, "c", *pinned) == ["free"]


async def test_what_was_purchased_long_ago_may_stand_on_his_own_list_and_is_popular_no_more(
    engine: AsyncEngine,
) -> None:
    await add_product(engine, "mine")
    await add_product(engine, "free")
    await add_event(engine, "c", "purchase", product_id="mine", at=NOW - timedelta(days=500))

    assert await candidates_of(engine, "c") == ["free"]
    assert await candidates_of(engine, "c", "mine", "free") == ["mine", "free"]


async def test_where_nobody_bought_lately_all_who_ever_did_count(engine: AsyncEngine) -> None:
    for product_id, buyers in (("a", 1), ("b", 3), ("c", 2), ("d", 0)):
        await add_product(engine, product_id)
        await bought(engine, product_id, buyers, days_ago=31)
    for number in range(5):
        await add_event(engine, f"later {number}", "purchase", product_id="d", at=NOW + timedelta(days=1))

    assert await candidates_of(engine, "cold") == ["b", "c", "a", "d"]


async def test_without_a_build_the_same_rules_hold(engine: AsyncEngine) -> None:
    for name in ("banned", "bought", "dear", "lux", "pinned", "refused", "toy", "wanted"):
        await add_product(
            engine,
            name,
            category="Toys" if name == "toy" else "Rest",
            brand="LUX" if name == "lux" else None,
            price=60 if name == "dear" else 20,
        )
    await add_customer(engine, "c", excluded_brands=["Lux"], excluded_categories=["toys"], price_to=50)
    await add_event(engine, "c", "response", product_id="refused", value=0, at=NOW - timedelta(days=1))
    await add_event(engine, "c", "purchase", product_id="bought", at=NOW - timedelta(days=1))
    for rule, product_id in (("ban", "banned"), ("pin", "pinned")):
        await change(
            engine,
            "INSERT INTO product_rules (product_id, rule, reason, ordered_by) VALUES (:product_id, :rule, 'r', 'o')",
            product_id=product_id,
            rule=rule,
        )
    source = await PopularCandidates.open(engine, NOW, days=30, most=50)

    found = (await source.candidates([Profile(CustomerId("c"))]))[CustomerId("c")]

    assert [(it.product.product_id, it.found_by) for it in found.found] == [
        ("pinned", FoundBy.PINNED),
        ("wanted", FoundBy.CATALOG),
    ]
    assert set(found.removed) == {
        (Rule.BOUGHT, "bought"),
        (Rule.REFUSED, "refused"),
        (Rule.EXCLUDED_BRAND, "lux"),
        (Rule.EXCLUDED_CATEGORY, "toy"),
        (Rule.PRICE_BAND, "dear"),
    }


async def test_without_a_build_a_price_band_that_no_favourite_fits_leaves_no_place_empty(engine: AsyncEngine) -> None:
    for number in range(60):
        await add_product(engine, f"p{number:02}", price=5 if number >= 50 else 100)
    await add_customer(engine, "c", price_to=10)

    assert await candidates_of(engine, "c", most=5) == [f"p{number}" for number in range(50, 55)]


async def test_without_a_build_categories_of_a_customer_who_purchased_much_come_first(engine: AsyncEngine) -> None:
    for number in range(40):
        await add_product(engine, f"p{number:02}", category="Books" if number >= 10 else "Rest")
    for number in range(10, 35):
        await add_event(engine, "c", "purchase", product_id=f"p{number}", at=NOW - timedelta(days=number))

    assert (await candidates_of(engine, "c", most=20))[:6] == ["p35", "p36", "p37", "p38", "p39", "p00"]


async def test_a_purchase_after_the_as_of_time_is_not_known(engine: AsyncEngine) -> None:
    await add_product(engine, "p")
    await add_event(engine, "c", "purchase", product_id="p", at=NOW + timedelta(seconds=1))

    assert await candidates_of(engine, "c") == ["p"]
    assert await candidates_of(engine, "c", "p") == ["p"]


async def test_a_product_pinned_twice_is_one_candidate(engine: AsyncEngine) -> None:
    await add_product(engine, "p")
    await add_product(engine, "q")
    customer = await add_customer(engine, "c", candidates=["q", "p", "q"])
    profiles = await read_profiles(engine, [customer], NOW, ShopHabits())

    assert await candidates_of(engine, "c", *profiles[customer].pinned_candidates) == ["q", "p"]


async def test_an_empty_catalog_has_no_candidates(engine: AsyncEngine) -> None:
    await viewed(engine, "c", "Books", 1)

    assert await candidates_of(engine, "c") == []
    assert await candidates_of(engine, "c", "p") == []


async def test_a_page_without_customers_has_no_candidates(engine: AsyncEngine) -> None:
    source = await PopularCandidates.open(engine, NOW, days=30, most=50)

    assert await source.candidates([]) == {}


async def test_there_are_never_more_candidates_than_asked_for(engine: AsyncEngine) -> None:
    await change(
        engine,
        "INSERT INTO products (product_id, name, category) SELECT n, n, 'Category ' || n % 7 "
        "FROM generate_series(100, 399) AS n",
    )
    await viewed(engine, "c", "Category 3", 1)

    found = await candidates_of(engine, "c", most=40)

    assert len(found) == len(set(found)) == 40
    assert await candidates_of(engine, "c", *map(str, range(100, 200)), most=40) == list(map(str, range(100, 140)))


async def test_who_purchased_the_favourites_gets_what_comes_after_them(engine: AsyncEngine) -> None:
    for number in range(20):
        await add_product(engine, f"p{number:02}")
    for number in range(10):
        await add_event(engine, "c", "purchase", product_id=f"p{number:02}", at=NOW)

    assert await candidates_of(engine, "c", most=10) == [f"p{number:02}" for number in range(10, 20)]


async def test_candidates_are_the_same_wherever_the_rows_lie(engine: AsyncEngine, admin: AsyncEngine) -> None:
    await change(
        engine,
        "INSERT INTO products (product_id, name, category) SELECT n, n, 'Category ' || n % 7 "
        "FROM generate_series(1, 200) AS n",
    )
    await change(
        engine,
        "INSERT INTO events (event_key, customer_id, product_id, kind, occurred_at) "
        "SELECT gen_random_uuid(), 'c' || n % 50, 1 + n % 200, 'view', CAST(:now AS timestamptz) "
        "FROM generate_series(1, 20000) AS n",
        now=NOW,
    )
    before = await candidates_of(engine, "c7")

    await change(admin, "CREATE TABLE turned AS SELECT * FROM events ORDER BY event_key DESC")
    await change(admin, "TRUNCATE events")
    await change(admin, "INSERT INTO events SELECT * FROM turned")
    await change(engine, "UPDATE products SET description = 'moved to another place in the table'")

    assert await candidates_of(engine, "c7") == before


async def test_categories_and_purchases_are_read_through_the_index(engine: AsyncEngine, admin: AsyncEngine) -> None:
    await change(
        engine,
        "INSERT INTO events (event_key, customer_id, product_id, kind, occurred_at) "
        "SELECT gen_random_uuid(), 'c' || n % 2000, n % 500, CASE n % 3 WHEN 0 THEN 'purchase' ELSE 'view' END, "
        "CAST(:now AS timestamptz) - n * interval '1 minute' FROM generate_series(1, 100000) AS n",
        now=NOW,
    )
    await change(engine, "INSERT INTO products (product_id, name) SELECT n, n FROM generate_series(0, 499) AS n")
    await change(admin, "ANALYZE events, products")
    page = [f"c{number}" for number in range(200)]

    explained = await read(
        engine,
        "EXPLAIN " + statement("candidate_page").text,
        customer_ids=page,
        as_of=NOW,
        build_id=0,
        built_as_of=NOW - timedelta(days=9_000),
        refused_days=180,
        newcomers=True,
        most_owned=1_000,
        most_scored=500,
        most_refused=5_000,
        few=20,
        known=[],
    )

    plan = "\n".join(str(line) for (line,) in explained)
    assert "Seq Scan on events" not in plan
    assert plan.count("events_by_customer") >= 3, plan
