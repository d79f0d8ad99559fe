"""The demo shop as generated: the article's example to the letter, and a shop with the structure that shops have."""

from collections import Counter, defaultdict
from functools import cache
from hashlib import sha256
from zoneinfo import ZoneInfo

from pipeline.demo_shop import ARTICLE_CUSTOMER_ID, ARTICLE_PRODUCTS, ARTICLE_PROFILE_TEXT
from pipeline.demo_shop.article import article_customer, article_events, article_products
from pipeline.demo_shop.generate import PERIOD_BEGINS, PERIOD_ENDS, DemoShop, generate


@cache
def shop() -> DemoShop:
    return generate()


def told(kind: str) -> list[tuple[str | None, float | None]]:
    """The article customer's events of one kind, newest first."""
    events = sorted(article_events(), key=lambda event: event.occurred_at, reverse=True)
    return [(event.text, event.value) for event in events if event.kind == kind]


def test_the_articles_customer_did_what_the_article_says_newest_first() -> None:
    assert told("purchase") == [("Laptop", None), ("Wireless Headphones", None), ("Smart Watch", None)]
    assert told("rating") == [("Laptop", 5), ("Wireless Headphones", 4)]
    assert told("search") == [("best budget laptops 2023", None), ("latest sci-fi books", None), ("yoga mats", None)]
    assert told("response") == [("Product123", 1), ("Product456", 0)]
    assert Counter(text for text, _ in told("view")).most_common() == [
        ("Electronics", 3),
        ("Books", 2),
        ("Fitness Equipment", 1),
    ]


def test_the_articles_customer_shops_on_weekend_evenings_of_his_home() -> None:
    home = ZoneInfo(article_customer().time_zone or "")
    times = [event.occurred_at.astimezone(home) for event in article_events()]
    assert all(time.weekday() >= 5 and 18 <= time.hour < 24 for time in times)


def test_the_articles_products_have_their_names_ids_and_prices() -> None:
    records = article_products()
    assert [record.product_id for record in records] == [str(number) for number in range(1, 11)]
    assert [record.name for record in records] == [product["product_name"] for product in ARTICLE_PRODUCTS]
    assert records[0].name == "Apple MacBook Air (2023) - Latest model, high performance, portable"
    assert records[9].name == "Project Hail Mary by Andy Weir - Latest sci-fi book from a renowned author"
    assert all(record.price and record.category for record in records)
    assert article_customer().candidates == [record.product_id for record in records]


def test_the_articles_text_names_all_that_the_records_hold() -> None:
    assert f"Customer ID: {ARTICLE_CUSTOMER_ID}" in ARTICLE_PROFILE_TEXT
    for event in article_events():
        assert event.text is not None
        assert event.text in ARTICLE_PROFILE_TEXT
    for brand in article_customer().preferred_brands:
        assert brand in ARTICLE_PROFILE_TEXT
    assert str(article_customer().loyalty_status) in ARTICLE_PROFILE_TEXT


def test_the_shop_is_the_same_every_time_and_everywhere() -> None:
    assert generate() == shop()
    digest = sha256()
    for record in (*shop().customers, *shop().products, *shop().events):
        digest.update(record.model_dump_json(exclude_defaults=True).encode())
    assert digest.hexdigest() == "a9c50c2d2d863efa971ffa405a3c8af0c0cb1126575f7ac70489ba54e3510942"
    assert generate(seed=7) != shop()


def test_the_shop_has_its_size_and_every_kind_of_event_in_its_period() -> None:
    assert (len(shop().customers), len(shop().products)) == (200, 2_000)
    assert 19_000 <= len(shop().events) <= 21_000
    kinds = Counter(event.kind for event in shop().events)
    assert set(kinds) == {"purchase", "return", "view", "rating", "search", "response"}
    assert min(kinds.values()) >= 100
    assert len({event.event_key() for event in shop().events}) == len(shop().events)
    assert all(PERIOD_BEGINS <= event.occurred_at < PERIOD_ENDS for event in shop().events)


def test_products_have_names_of_their_own_and_some_are_hidden_or_out_of_stock() -> None:
    products = shop().products
    assert len({product.name for product in products}) == len(products)
    assert not {product.product_id for product in products} & {str(number) for number in range(1, 11)}
    assert 0.04 <= sum(not product.available for product in products) / len(products) <= 0.08
    assert 0.01 <= sum(product.hidden for product in products) / len(products) <= 0.03
    assert all(product.price and product.price > 0 for product in products)


def test_a_brand_belongs_to_one_category() -> None:
    categories = defaultdict(set)
    for product in shop().products:
        categories[product.brand].add(product.category)
    assert all(len(found) == 1 for found in categories.values())


def test_some_customers_are_cold_and_the_others_have_tastes() -> None:
    category_of = {product.product_id: product.category for product in shop().products}
    bought: dict[str, Counter[str | None]] = defaultdict(Counter)
    for event in shop().events:
        if event.kind == "purchase" and event.product_id:
            bought[event.customer_id][category_of[event.product_id]] += 1
    assert len(shop().customers) - len({event.customer_id for event in shop().events}) == 16
    often = [counted for counted in bought.values() if counted.total() >= 20]
    loyal = [sum(times for _, times in counted.most_common(3)) / counted.total() for counted in often]
    assert min(loyal) > 0.6  # 12 categories: without tastes, three would hold about a third


def test_winter_things_sell_in_winter_and_garden_things_in_summer() -> None:
    category_of = {product.product_id: product.category for product in shop().products}
    sold: dict[str | None, Counter[bool]] = defaultdict(Counter)
    for event in shop().events:
        if event.kind == "purchase" and event.product_id:
            sold[category_of[event.product_id]][4 <= event.occurred_at.month <= 9] += 1
    assert sold["Winter Sports"][False] > 2 * sold["Winter Sports"][True]
    assert sold["Garden"][True] > 2 * sold["Garden"][False]


def test_what_is_returned_or_rated_was_purchased_before() -> None:
    purchased = set()
    for event in sorted(shop().events, key=lambda event: event.occurred_at):
        if event.kind == "purchase":
            purchased.add((event.customer_id, event.product_id))
        elif event.kind in {"return", "rating"}:
            assert (event.customer_id, event.product_id) in purchased


def test_searches_are_made_of_words_of_products() -> None:
    names = " ".join(product.name.lower() for product in shop().products)
    assert all(event.text in names for event in shop().events if event.kind == "search" and event.text)
