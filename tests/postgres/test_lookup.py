"""Candidates looked up in a build, from a real catalog: where they come from, what rules take out, at which cost."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import AdaptedConnection, Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.builds import Build
from pipeline.candidates.further import Spellings, read_further
from pipeline.candidates.lookup import BuiltCandidates
from pipeline.candidates.opening import CandidateWishes, open_candidates
from pipeline.candidates.page import MOST_KEPT, MOST_OWNED, MOST_SCORED, Links, read_page
from pipeline.candidates.popular import PopularCandidates
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.candidates.rules import Rules
from pipeline.domain import Candidates, CustomerId, FoundBy, ProductId, Profile, Rule
from tests.fixtures.built import add_build
from tests.fixtures.shop import NOW, add_customer, add_event, add_product, change

BOUGHT = {"lamp": (1, 40.0, 40.0)}
LEADS = {"lamp": {"bulb": 0.9, "shade": 0.5}, "desk": {"chair": 0.8, "bulb": 0.3}}
WISHES = CandidateWishes(10, CandidateRecipe(), Rules(), "retrieval", popularity_days=30, every_days=1)


@pytest.fixture
async def shop(engine: AsyncEngine) -> AsyncEngine:
    """More products than places: five that have names and twenty that nobody looks at."""
    for name in ("lamp", "desk", "bulb", "shade", "chair"):
        await add_product(engine, name, category="Furniture" if name in {"desk", "chair"} else "Light", price=20)
    for number in range(20):
        await add_product(engine, f"z{number:02}", category="Rest")
    return engine


async def source_of(
    engine: AsyncEngine,
    build: Build,
    *,
    rules: Rules | None = None,
    most: int = 10,
    most_kept: int = MOST_KEPT,
    **recipe: float,
) -> BuiltCandidates:
    return await BuiltCandidates.open(
        engine,
        build,
        NOW,
        recipe=CandidateRecipe(**recipe),
        rules=rules or Rules(),
        most=most,
        order="retrieval",
        seed=0,
        most_kept=most_kept,
    )


async def found_for(source: BuiltCandidates, customer_id: str) -> Candidates:
    return (await source.candidates([Profile(CustomerId(customer_id))]))[CustomerId(customer_id)]


def kinds(candidates: Candidates) -> dict[str, FoundBy]:
    return {it.product.product_id: it.found_by for it in candidates.found}


def of_kind(candidates: Candidates, kind: FoundBy) -> list[str]:
    return [it.product.product_id for it in candidates.found if it.found_by is kind]


async def test_what_his_purchases_lead_to_is_summed_and_comes_best_first(shop: AsyncEngine) -> None:
    bought = {"desk": (1, 3.0, 3.0), "lamp": (1, 40.0, 40.0)}
    source = await source_of(shop, await add_build(shop, neighbours=LEADS, histories={"c": bought}))

    found = await found_for(source, "c")

    assert of_kind(found, FoundBy.NEIGHBOURS) == ["bulb", "chair", "shade"]
    assert [it.score for it in found.found if it.found_by is FoundBy.NEIGHBOURS] == pytest.approx([1.2, 0.8, 0.5])
    assert of_kind(found, FoundBy.REPEAT) == ["desk", "lamp"]
    assert len(found) == 10
    assert (found.as_of, found.build_id) == (NOW, 1)


async def test_what_he_bought_after_the_build_counts_as_bought(shop: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT}, as_of=NOW - timedelta(days=2))
    await add_event(shop, "c", "purchase", product_id="desk", at=NOW - timedelta(days=1))
    await add_event(shop, "c", "purchase", product_id="bulb", at=NOW - timedelta(days=1))
    await add_event(shop, "c", "purchase", product_id="shade", at=NOW + timedelta(seconds=1))  # not yet

    found = await found_for(await source_of(shop, build, rules=Rules(bought_days=2)), "c")

    assert of_kind(found, FoundBy.NEIGHBOURS) == ["chair", "shade"]
    assert of_kind(found, FoundBy.REPEAT) == ["lamp"]
    assert sorted(found.removed) == [(Rule.BOUGHT, "bulb"), (Rule.BOUGHT, "desk")]


async def test_a_book_is_bought_once_and_coffee_again(engine: AsyncEngine) -> None:
    for name, category in (("novel", "Books"), ("beans", "Coffee"), ("filter", "Coffee")):
        await add_product(engine, name, category=category)
    bought = {"beans": (9, 90.0, 6.0), "filter": (1, 4.0, 4.0), "novel": (1, 300.0, 300.0)}
    build = await add_build(engine, histories={"c": bought})
    rules = Rules(bought_days_of={"Books": "ever", "Coffee": 5})

    found = await found_for(await source_of(engine, build, rules=rules), "c")

    assert kinds(found) == {"beans": FoundBy.REPEAT}
    assert sorted(found.removed) == [(Rule.BOUGHT, "filter"), (Rule.BOUGHT, "novel")]


async def test_rules_take_out_what_they_say_and_it_is_recorded(shop: AsyncEngine) -> None:
    leads = {"lamp": {"bulb": 0.9, "shade": 0.8, "chair": 0.7, "desk": 0.6, "z00": 0.5, "z01": 0.4}}
    build = await add_build(shop, neighbours=leads, histories={"c": BOUGHT})
    await add_customer(shop, "c", excluded_categories=["furniture", 7, None], excluded_brands=["Lux"], price_to=50)
    for statement in (
        "UPDATE products SET available = false WHERE product_id = 'bulb'",
        "UPDATE products SET hidden = true WHERE product_id = 'shade'",
        "UPDATE products SET brand = 'LUX' WHERE product_id = 'z00'",
        "UPDATE products SET price = 51 WHERE product_id = 'z01'",
    ):
        await change(shop, statement)
    await add_event(shop, "c", "response", product_id="z02", value=0, at=NOW - timedelta(days=179))
    await add_event(shop, "c", "response", product_id="z03", value=0, at=NOW - timedelta(days=181))
    await add_event(shop, "c", "response", product_id="z04", value=1, at=NOW - timedelta(days=1))

    found = await found_for(await source_of(shop, build, most=20), "c")

    assert set(found.removed) >= {
        (Rule.OUT_OF_STOCK, "bulb"),
        (Rule.HIDDEN, "shade"),
        (Rule.EXCLUDED_CATEGORY, "chair"),
        (Rule.EXCLUDED_CATEGORY, "desk"),
        (Rule.EXCLUDED_BRAND, "z00"),
        (Rule.PRICE_BAND, "z01"),
        (Rule.REFUSED, "z02"),
    }
    assert {"z03", "z04"} <= kinds(found).keys()
    assert not {"bulb", "shade", "chair", "desk", "z00", "z01", "z02"} & kinds(found).keys()


@pytest.mark.parametrize("stated", [{"price_to": "cheap"}, {"excluded_brands": 7}, {"excluded_categories": {}}])
async def test_attributes_of_another_form_rule_nothing_out(shop: AsyncEngine, stated: dict[str, object]) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT})
    await add_customer(shop, "c", active=True, time_zone=None, **stated)

    assert of_kind(await found_for(await source_of(shop, build), "c"), FoundBy.NEIGHBOURS) == ["bulb", "shade"]


async def test_a_text_is_read_as_the_list_or_number_that_it_holds(shop: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT})
    await change(shop, "UPDATE products SET brand = 'Acme, Inc' WHERE product_id = 'bulb'")
    await change(shop, "UPDATE products SET brand = 'Foo', price = 30 WHERE product_id IN ('shade', 'chair')")
    await add_customer(shop, "c", excluded_brands="Bar; foo")
    await add_customer(shop, "d", excluded_brands="Acme, Inc", excluded_categories="light|furniture", price_to=" 10.5 ")
    source = await source_of(shop, build, most=30)

    found, others = await found_for(source, "c"), await found_for(source, "d")

    assert {it for it in found.removed if it[0] is Rule.EXCLUDED_BRAND} == {
        (Rule.EXCLUDED_BRAND, "shade"),
        (Rule.EXCLUDED_BRAND, "chair"),
    }
    assert (Rule.EXCLUDED_BRAND, "bulb") in others.removed
    assert {(Rule.EXCLUDED_CATEGORY, name) for name in ("lamp", "desk", "shade", "chair")} <= set(others.removed)
    await change(shop, "UPDATE customers SET attributes = '{\"price_to\": \" 10.5 \"}' WHERE customer_id = 'd'")
    assert {rule for rule, _ in (await found_for(source, "d")).removed} == {Rule.PRICE_BAND}


async def test_names_of_up_to_a_thousand_characters_can_be_excluded(shop: AsyncEngine) -> None:
    build = await add_build(shop)
    await change(shop, "UPDATE products SET brand = repeat('B', 1000) WHERE product_id = 'bulb'")
    await change(shop, "UPDATE products SET category = repeat('C', 1000) WHERE product_id = 'lamp'")
    await add_customer(shop, "c", excluded_brands=["b" * 1000], excluded_categories=["c" * 1000])

    found = await found_for(await source_of(shop, build, most=30), "c")

    assert set(found.removed) == {(Rule.EXCLUDED_BRAND, "bulb"), (Rule.EXCLUDED_CATEGORY, "lamp")}


async def test_a_price_band_of_any_size_is_a_number(shop: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT})
    await change(shop, "INSERT INTO customers (customer_id, attributes) VALUES ('c', '{\"price_to\": 1e400}')")

    assert of_kind(await found_for(await source_of(shop, build), "c"), FoundBy.NEIGHBOURS) == ["bulb", "shade"]


async def test_what_the_shop_pins_comes_first_and_what_it_bans_is_nowhere(shop: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT})
    for rule, product_id in (("pin", "z07"), ("ban", "bulb"), ("pin", "z09"), ("ban", "z09"), ("ban", "z00")):
        await change(
            shop,
            "INSERT INTO product_rules (product_id, rule, reason, ordered_by) VALUES (:product_id, :rule, 'r', 'o')",
            product_id=product_id,
            rule=rule,
        )

    found = await found_for(await source_of(shop, build, most=30), "c")

    assert found.found[0].product.product_id == "z07"
    assert of_kind(found, FoundBy.PINNED) == ["z07"]
    assert not {"bulb", "z09", "z00"} & kinds(found).keys()
    assert (Rule.BANNED, "bulb") in found.removed


async def test_newcomers_have_places_of_their_own(shop: AsyncEngine) -> None:
    build = await add_build(
        shop, neighbours=LEADS, newcomers={"lamp": {"z05": 0.9, "z06": 0.4}}, histories={"c": BOUGHT}
    )

    assert of_kind(await found_for(await source_of(shop, build, newcomer_share=0.1), "c"), FoundBy.NEWCOMER) == ["z05"]
    assert of_kind(await found_for(await source_of(shop, build, newcomer_share=0.0), "c"), FoundBy.NEWCOMER) == []


async def test_who_has_bought_nothing_gets_what_is_popular_where_he_looked_and_searched(shop: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS)
    for number in range(3):
        await add_event(shop, f"b{number}", "purchase", product_id="z11", at=NOW - timedelta(days=1))
    await add_event(shop, "viewer", "view", product_id="desk", at=NOW - timedelta(days=1))
    await add_event(shop, "searcher", "search", words="a light, please", at=NOW - timedelta(days=1))
    source = await source_of(shop, build, most=6)

    assert next(iter(kinds(await found_for(source, "stranger")))) == "z11"
    assert set(list(kinds(await found_for(source, "viewer")))[:2]) == {"chair", "desk"}
    assert set(list(kinds(await found_for(source, "searcher")))[:3]) == {"bulb", "lamp", "shade"}
    assert set(kinds(await found_for(source, "stranger")).values()) == {FoundBy.POPULAR}


async def test_of_a_catalog_with_fewer_products_than_places_all_are_candidates(shop: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT | {"z01": (1, 9.0, 9.0)}})
    await change(shop, "UPDATE products SET hidden = true WHERE product_id = 'z19'")

    found = await found_for(await source_of(shop, build, most=30), "c")

    assert len(found) == 24
    assert len(of_kind(found, FoundBy.CATALOG)) == 20
    assert of_kind(found, FoundBy.REPEAT) == ["z01", "lamp"]


async def test_of_a_catalog_with_as_many_products_as_places_none_is_only_popular(shop: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT})

    found = await found_for(await source_of(shop, build, most=25), "c")
    fewer = await found_for(await source_of(shop, build, most=24), "c")

    assert len(found) == 25
    assert len(of_kind(found, FoundBy.CATALOG)) == 22
    assert of_kind(found, FoundBy.POPULAR) == of_kind(fewer, FoundBy.CATALOG) == []


@pytest.fixture
async def wide_shop(engine: AsyncEngine) -> AsyncEngine:
    """Of 400 products the first 100 are the favourites, in order; the last 40 are of another kind and cheap."""
    await change(
        engine,
        "INSERT INTO products (product_id, name, category, brand, price) "
        "SELECT 'p' || n, n, CASE WHEN n < 460 THEN 'Dear' ELSE 'MÜLL' END, 'Straße', CASE WHEN n < 460 THEN 50 ELSE 5 "
        "END FROM generate_series(100, 499) AS n",
    )
    return engine


async def test_no_place_stays_empty_while_the_catalog_has_something_for_him(wide_shop: AsyncEngine) -> None:
    build = await add_build(wide_shop, histories={"banded": {"p100": (1, 9.0, 9.0)}})
    await add_customer(wide_shop, "banded", price_to=10)
    await add_customer(wide_shop, "stranger", excluded_categories=["dear"])
    await add_customer(wide_shop, "other", excluded_categories=["müll"], price_from=49)
    await add_customer(wide_shop, "nothing", excluded_brands=["STRASSE"])
    await add_customer(wide_shop, "much", price_from=1)
    source = await source_of(wide_shop, build, most=20)

    together = await source.candidates(
        [Profile(CustomerId(it)) for it in ("banded", "stranger", "other", "nothing", "much")]
    )

    cheap = [f"p{number}" for number in range(460, 480)]
    assert list(kinds(together[CustomerId("banded")])) == cheap
    assert list(kinds(together[CustomerId("stranger")])) == cheap
    assert list(kinds(together[CustomerId("other")])) == [f"p{number}" for number in range(100, 120)]
    assert len(together[CustomerId("much")]) == 20
    assert not together[CustomerId("nothing")].found
    assert {rule for rule, _ in together[CustomerId("nothing")].removed} == {Rule.EXCLUDED_BRAND}


@pytest.mark.parametrize(("rules", "repeats"), [(Rules(), 6), (Rules(bought_days="ever"), 0)])
async def test_who_has_bought_the_favourites_gets_what_is_new_to_him(
    wide_shop: AsyncEngine, rules: Rules, repeats: int
) -> None:
    bought = {f"p{number}": (1, 20.0, 20.0) for number in range(100, 200)}
    build = await add_build(wide_shop, histories={"c": bought})
    await change(wide_shop, "UPDATE products SET hidden = true WHERE product_id = 'p200'")
    await add_event(wide_shop, "c", "response", product_id="p201", value=0, at=NOW - timedelta(days=1))

    found = await found_for(await source_of(wide_shop, build, most=20, rules=rules), "c")

    assert len(found) == 20
    assert len(of_kind(found, FoundBy.REPEAT)) == repeats
    assert of_kind(found, FoundBy.POPULAR) == [f"p{number}" for number in range(202, 222 - repeats)]


async def test_who_has_bought_all_that_he_may_have_gets_as_much_of_it_as_there_are_places(
    wide_shop: AsyncEngine,
) -> None:
    bought = {f"p{number}": (1, 20.0, 20.0) for number in range(300, 500)}
    leads = {"p300": {f"p{number}": 1.0 for number in range(100, 130)}}
    build = await add_build(wide_shop, neighbours=leads, histories={"c": bought})
    await change(wide_shop, "UPDATE products SET hidden = true WHERE product_id < 'p440'")

    assert len(of_kind(await found_for(await source_of(wide_shop, build, most=20), "c"), FoundBy.REPEAT)) == 20


async def test_the_catalog_is_looked_through_for_those_alone_who_have_places_left(wide_shop: AsyncEngine) -> None:
    build = await add_build(wide_shop)
    await add_customer(wide_shop, "c", excluded_categories=["dear"])
    source = await source_of(wide_shop, build, most=20)

    with counted(wide_shop) as statements:
        await source.candidates([Profile(CustomerId(it)) for it in ("a", "b")])
    with counted(wide_shop) as more:
        await source.candidates([Profile(CustomerId(it)) for it in ("a", "b", "c")])
    with counted(wide_shop) as spelt_already:
        await source.candidates([Profile(CustomerId("c"))])

    assert (len(statements), len(more), len(spelt_already)) == (2, 5, 4)


@pytest.mark.parametrize("most", [100, 60])
async def test_of_a_small_catalog_every_place_is_filled_whatever_leads_where(engine: AsyncEngine, most: int) -> None:
    await change(
        engine, "INSERT INTO products (product_id, name) SELECT 'p' || n, n FROM generate_series(100, 199) AS n"
    )
    leads = {"p100": {f"p{number}": 1.0 / number for number in range(101, 199)}}
    build = await add_build(engine, neighbours=leads, histories={"c": {"p100": (1, 9.0, 9.0), "p150": (2, 9.0, 9.0)}})

    with counted(engine) as statements:
        found = await found_for(await source_of(engine, build, most=most), "c")

    assert len(found) == most
    assert len([it for it in statements if "candidate_products" in it or "products" in it]) <= 4


async def test_every_refusal_of_a_customer_who_refuses_much_holds(wide_shop: AsyncEngine) -> None:
    build = await add_build(wide_shop)
    for number in range(100, 400):
        at = NOW - timedelta(hours=number)
        await add_event(wide_shop, "c", "response", product_id=f"p{number}", value=0, at=at)

    found = await found_for(await source_of(wide_shop, build, most=150), "c")

    assert sorted(kinds(found)) == [f"p{number}" for number in range(400, 500)]


async def test_a_refusal_holds_for_so_many_days_and_no_longer(shop: AsyncEngine) -> None:
    build = await add_build(shop)
    await add_event(shop, "c", "response", product_id="bulb", value=0, at=NOW - timedelta(days=180))
    await add_event(shop, "c", "response", product_id="desk", value=0, at=NOW - timedelta(days=180, seconds=-1))

    assert (await found_for(await source_of(shop, build, most=30), "c")).removed == ((Rule.REFUSED, "desk"),)


async def test_a_purchase_at_the_as_of_time_of_the_build_counts_once(shop: AsyncEngine) -> None:
    at = NOW - timedelta(days=9)
    build = await add_build(shop, histories={"c": {"desk": (2, 3.0, 3.0), "lamp": (3, 3.0, 3.0)}}, as_of=at)
    await add_event(shop, "c", "purchase", product_id="desk", at=at)

    assert of_kind(await found_for(await source_of(shop, build), "c"), FoundBy.REPEAT) == ["lamp", "desk"]


async def test_the_age_of_the_build_is_added_to_the_days_since_a_purchase(shop: AsyncEngine) -> None:
    build = await add_build(shop, histories={"c": {"desk": (1, 2.0, 2.0)}}, as_of=NOW - timedelta(days=2))

    bought = await found_for(await source_of(shop, build, rules=Rules(bought_days=5)), "c")
    free = await found_for(await source_of(shop, build, rules=Rules(bought_days=4)), "c")

    assert bought.removed == ((Rule.BOUGHT, "desk"),)
    assert of_kind(free, FoundBy.REPEAT) == ["desk"]


async def test_a_newcomer_that_rules_take_out_makes_room_for_the_next(shop: AsyncEngine) -> None:
    build = await add_build(shop, newcomers={"lamp": {"z05": 0.9, "z06": 0.4}}, histories={"c": BOUGHT})
    await change(shop, "UPDATE products SET hidden = true WHERE product_id = 'z05'")

    assert of_kind(await found_for(await source_of(shop, build, newcomer_share=0.1), "c"), FoundBy.NEWCOMER) == ["z06"]


async def test_what_he_searched_for_comes_before_what_he_looked_at(shop: AsyncEngine) -> None:
    build = await add_build(shop)
    await add_event(shop, "c", "view", product_id="desk", at=NOW - timedelta(days=1))
    await add_event(shop, "c", "search", words="light", at=NOW - timedelta(days=2))

    assert list(kinds(await found_for(await source_of(shop, build, most=4), "c"))) == ["bulb", "chair", "lamp", "desk"]


async def test_a_customer_with_many_products_is_found_the_same_alone_and_among_others(
    engine: AsyncEngine, admin: AsyncEngine
) -> None:
    await change(
        engine, "INSERT INTO products (product_id, name) SELECT 'p' || n, n FROM generate_series(1000, 1999) AS n"
    )
    ids = [f"p{number}" for number in range(1000, 2000)]
    bought = dict.fromkeys(ids[:900], (1, 9.0, 9.0))
    leads = {ids[MOST_SCORED - 1]: {ids[990]: 1.0}, ids[MOST_SCORED]: {ids[991]: 5.0}}
    others = {"d": dict.fromkeys(ids[450:900], (1, 9.0, 9.0))}
    build = await add_build(engine, neighbours=leads, histories={"c": bought} | others)
    await change(admin, "UPDATE candidate_products SET recent_buyers = 50 WHERE product_id BETWEEN 'p1600' AND 'p1650'")

    alone = await found_for(await source_of(engine, build, most=30), "c")
    together = await source_of(engine, build, most=30)
    await found_for(together, "d")

    assert await found_for(together, "c") == alone
    assert of_kind(alone, FoundBy.NEIGHBOURS) == [ids[990]]


async def test_an_own_list_obeys_the_rules_and_says_what_they_took_out(shop: AsyncEngine) -> None:
    build = await add_build(shop, histories={"c": {"lamp": (1, 40.0, 40.0), "desk": (1, 1.0, 1.0)}})
    await change(shop, "UPDATE products SET hidden = true WHERE product_id = 'chair'")
    await add_customer(shop, "c", price_to=10)
    await change(shop, "UPDATE products SET price = 5 WHERE product_id IN ('lamp', 'desk', 'bulb')")
    await add_event(shop, "c", "response", product_id="bulb", value=0, at=NOW - timedelta(days=1))
    await change(
        shop, "INSERT INTO product_rules (product_id, rule, reason, ordered_by) VALUES ('z07', 'pin', 'r', 'o')"
    )
    own = tuple(map(ProductId, ("shade", "lamp", "bulb", "desk", "chair", "z01")))
    profile = Profile(CustomerId("c"), pinned_candidates=own)

    found = (await (await source_of(shop, build)).candidates([profile]))[CustomerId("c")]

    assert list(kinds(found).items()) == [("z07", FoundBy.PINNED), ("lamp", FoundBy.PINNED), ("z01", FoundBy.PINNED)]
    assert found.removed == (
        (Rule.PRICE_BAND, "shade"),
        (Rule.REFUSED, "bulb"),
        (Rule.BOUGHT, "desk"),
        (Rule.HIDDEN, "chair"),
    )


async def test_a_list_of_his_own_is_kept_to(shop: AsyncEngine) -> None:
    source = await source_of(shop, await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT}))
    profile = Profile(CustomerId("c"), pinned_candidates=(ProductId("z03"), ProductId("bulb")))

    found = (await source.candidates([profile]))[CustomerId("c")]

    assert list(kinds(found).items()) == [("z03", FoundBy.PINNED), ("bulb", FoundBy.PINNED)]


async def test_ids_of_two_hundred_characters_are_found_as_others_are(engine: AsyncEngine) -> None:
    long = [letter * 200 for letter in "abc"]
    for product_id in long:
        await add_product(engine, product_id)
    customer = "ü" * 200
    build = await add_build(
        engine, neighbours={long[0]: {long[1]: 1.0}}, histories={customer: {long[0]: (1, 9.0, 9.0)}}
    )

    found = await found_for(await source_of(engine, build), customer)

    assert kinds(found) == {long[0]: FoundBy.REPEAT, long[1]: FoundBy.NEIGHBOURS, long[2]: FoundBy.CATALOG}


async def test_a_product_that_has_vanished_from_the_catalog_is_no_candidate(
    shop: AsyncEngine, admin: AsyncEngine
) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT})
    await change(admin, "DELETE FROM products WHERE product_id IN ('bulb', 'lamp')")

    found = await found_for(await source_of(shop, build), "c")

    assert not {"bulb", "lamp"} & kinds(found).keys()
    assert of_kind(found, FoundBy.NEIGHBOURS) == ["shade"]


@contextmanager
def counted(engine: AsyncEngine) -> Iterator[list[str]]:
    """The statements that go to the database meanwhile."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)


async def test_a_page_of_customers_and_strangers_is_two_statements(shop: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={f"c{number}": BOUGHT for number in range(100)})
    source = await source_of(shop, build)
    page = [Profile(CustomerId(f"c{number}")) for number in range(150)]

    with counted(shop) as statements:
        found = await source.candidates(page)
    with counted(shop) as nothing:
        assert await source.candidates([]) == {}

    assert len(statements) == 2
    assert nothing == []
    assert found.keys() == {profile.customer_id for profile in page}
    assert of_kind(found[CustomerId("c7")], FoundBy.NEIGHBOURS) == ["bulb", "shade"]
    assert of_kind(found[CustomerId("c149")], FoundBy.NEIGHBOURS) == []


async def test_what_a_product_leads_to_is_read_once(shop: AsyncEngine, admin: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT, "d": BOUGHT})
    source = await source_of(shop, build)
    first = await found_for(source, "c")
    await change(admin, "DELETE FROM candidate_neighbours")

    assert of_kind(await found_for(source, "d"), FoundBy.NEIGHBOURS) == of_kind(first, FoundBy.NEIGHBOURS)


async def test_what_one_page_relies_upon_is_not_forgotten_by_another(shop: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT, "d": {"desk": (1, 9.0, 9.0)}})
    source = await source_of(shop, build, most_kept=1)
    alone = await found_for(source, "c")  # what a lamp leads to is kept

    with held_back(shop, "c") as (waits, goes_on):
        other_page = asyncio.create_task(found_for(source, "c"))  # and is not read again for this page
        await asyncio.wait_for(waits.wait(), 10)
        await found_for(source, "d")  # keeps what a desk leads to in its place
        goes_on.set()
        found = await asyncio.wait_for(other_page, 10)

    assert of_kind(alone, FoundBy.NEIGHBOURS) == ["bulb", "shade"]
    assert found == alone


async def test_no_more_is_kept_than_there_is_room_for(shop: AsyncEngine, admin: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT, "d": {"desk": (1, 9.0, 9.0)}})
    source = await source_of(shop, build, most_kept=1)
    for customer_id in ("c", "d"):
        await found_for(source, customer_id)
    await change(admin, "DELETE FROM candidate_neighbours")

    assert of_kind(await found_for(source, "d"), FoundBy.NEIGHBOURS) == ["chair", "bulb"]
    assert of_kind(await found_for(source, "c"), FoundBy.NEIGHBOURS) == []


@contextmanager
def held_back(engine: AsyncEngine, customer_id: str) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """The first event tells that this customer's page is about to be read; it is not before the second is set."""
    waits, goes_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        waits.set()
        await goes_on.wait()

    def hold(connection: Connection, _cursor: object, _statement: str, asked: object, *_: object) -> None:
        if isinstance(asked, dict) and asked.get("customer_ids") == [customer_id]:
            driver: object = connection.connection.dbapi_connection
            assert isinstance(driver, AdaptedConnection)
            driver.run_async(lambda _: wait())

    event.listen(engine.sync_engine, "before_cursor_execute", hold)
    try:
        yield waits, goes_on
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", hold)


async def test_of_a_large_catalog_the_favourites_are_enough_for_all_but_the_choosiest(
    wide_shop: AsyncEngine, admin: AsyncEngine
) -> None:
    build = await add_build(wide_shop)
    await change(admin, "UPDATE candidate_products SET recent_buyers = 1 WHERE product_id BETWEEN 'p130' AND 'p189'")
    await change(admin, "UPDATE candidate_products SET buyers = 1 WHERE product_id BETWEEN 'p180' AND 'p189'")
    await change(wide_shop, "UPDATE products SET hidden = true WHERE product_id = 'p181'")
    await add_customer(wide_shop, "easy", price_from=1)
    await add_customer(wide_shop, "choosy", price_to=10)
    whole = await both_further(wide_shop, build)

    with counted(wide_shop) as statements:
        found = await both_further(wide_shop, replace(build, products=400), favourites=60)

    assert found == whole
    assert found[CustomerId("easy")] == [
        "p180",
        *(f"p{number}" for number in range(182, 190)),
        *(f"p{n}" for n in range(130, 141)),
    ]
    assert found[CustomerId("choosy")] == [f"p{number}" for number in range(460, 480)]
    assert len([it for it in statements if "known" in it and "passing" in it]) == 2


async def both_further(engine: AsyncEngine, build: Build, **bound: int) -> dict[CustomerId, list[ProductId]]:
    """What the whole catalog has for these two, by the statement alone."""
    customers = [CustomerId("easy"), CustomerId("choosy")]
    async with engine.connect() as connection:
        known = await read_page(connection, build, customers, NOW, refused_days=1, newcomers=False, links=Links())
        return dict(await read_further(connection, build, known, 20, Spellings(), **bound))


async def test_of_a_customer_with_very_many_products_the_newest_count(engine: AsyncEngine) -> None:
    await change(
        engine,
        "INSERT INTO products (product_id, name) SELECT 'p' || 10000 + n, n FROM generate_series(1, 3000) AS n",
    )
    ids = [f"p{10_000 + number}" for number in range(1, 3001)]
    bought = {product_id: (1, 10.0 + place, 10.0 + place) for place, product_id in enumerate(ids[:2500])}
    leads = {ids[0]: {ids[2999]: 1.0, ids[5]: 0.9}, ids[MOST_OWNED + 1]: {ids[2998]: 5.0}}
    build = await add_build(engine, neighbours=leads, histories={"c": bought})

    found = await found_for(await source_of(engine, build, most=100), "c")

    assert of_kind(found, FoundBy.NEIGHBOURS) == [ids[2999]]
    assert len(of_kind(found, FoundBy.REPEAT)) == 30
    assert len(found) == 100


async def test_without_a_build_popularity_serves_and_says_so(
    shop: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert isinstance(await open_candidates(shop, NOW, WISHES), PopularCandidates)
    assert [record.message for record in caplog.records] == [
        "no candidates have been built yet: all are offered what is popular (`recstream candidates build`)"
    ]


async def test_the_same_is_found_wherever_and_whenever_it_is_looked_up(shop: AsyncEngine) -> None:
    build = await add_build(shop, neighbours=LEADS, histories={"c": BOUGHT, "d": {"desk": (2, 9.0, 1.0)}})
    profiles: Sequence[Profile] = [Profile(CustomerId("c")), Profile(CustomerId("d"))]

    alone = [await found_for(await source_of(shop, build), customer_id) for customer_id in ("c", "d")]
    together = await (await source_of(shop, build)).candidates(profiles[::-1])

    assert [together[CustomerId("c")], together[CustomerId("d")]] == alone
