"""The article's own example: one customer and ten products, as texts and as records for the tables."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, TypedDict
from zoneinfo import ZoneInfo

from pipeline.loading.event_records import EventKind, EventRecord
from pipeline.loading.records import CustomerRecord, ProductRecord

ARTICLE_CUSTOMER_ID: Final = "12345"
ARTICLE_PROFILE_TEXT: Final = """\
Customer ID: 12345
Recent Purchases: [Laptop, Wireless Headphones, Smart Watch]
Frequently Browsed Categories: [Electronics, Books, Fitness Equipment]
Product Ratings: {Laptop: 5 stars, Wireless Headphones: 4 stars}
Recent Search History: [best budget laptops 2023, latest sci-fi books, yoga mats]
Preferred Brands: [Apple, AllBirds, Bench]
Responses to Previous Recommendations: {Product123: Interested, Product456: Not Interested}
Loyalty Program Status: Gold Member
Average Monthly Spend: $500
Preferred Shopping Times: Weekend Evenings
"""


class ArticleProduct(TypedDict):
    """A product as the article's program hands it over."""

    product_id: int
    product_name: str


ARTICLE_PRODUCTS: Final[list[ArticleProduct]] = [
    {
        "product_id": 1,
        "product_name": "Apple MacBook Air (2023) - Latest model, high performance, portable",
    },
    {
        "product_id": 2,
        "product_name": "Sony WH-1000XM4 Wireless Headphones - Noise-canceling, long battery life",
    },
    {
        "product_id": 3,
        "product_name": "Apple Watch Series 7 - Advanced fitness tracking, seamless integration with Apple ecosystem",
    },
    {"product_id": 4, "product_name": "Kindle Oasis - Premium e-reader with adjustable warm light"},
    {"product_id": 5, "product_name": "AllBirds Wool Runners - Comfortable, eco-friendly sneakers"},
    {"product_id": 6, "product_name": "Manduka PRO Yoga Mat - High-quality, durable, eco-friendly"},
    {
        "product_id": 7,
        "product_name": "Bench Hooded Jacket - Stylish, durable, suitable for outdoor activities",
    },
    {"product_id": 8, "product_name": "GoPro HERO9 Black - 5K video, waterproof, for action photography"},
    {
        "product_id": 9,
        "product_name": "Nespresso Vertuo Next Coffee Machine - Quality coffee, easy to use, compact design",
    },
    {
        "product_id": 10,
        "product_name": "Project Hail Mary by Andy Weir - Latest sci-fi book from a renowned author",
    },
]

_ON_THE_SHELF: Final[dict[int, tuple[str | None, str, str]]] = {
    1: ("Apple", "Electronics", "1099.00"),
    2: ("Sony", "Electronics", "278.00"),
    3: ("Apple", "Electronics", "399.00"),
    4: ("Amazon", "Electronics", "249.99"),
    5: ("AllBirds", "Fashion", "110.00"),
    6: ("Manduka", "Fitness Equipment", "129.00"),
    7: ("Bench", "Fashion", "89.90"),
    8: ("GoPro", "Electronics", "349.99"),
    9: ("Nespresso", "Home & Kitchen", "179.00"),
    10: (None, "Books", "14.99"),
}
_HOME: Final = ZoneInfo("America/New_York")
_LAST_SATURDAY_EVENING: Final = datetime(2026, 10, 24, 20, 30, tzinfo=_HOME)

# Newest first, a week apart each: profiles show the newest first, and the article's order is theirs.
_HISTORY: Final[tuple[tuple[EventKind, tuple[tuple[str, float | None], ...]], ...]] = (
    ("purchase", (("Laptop", None), ("Wireless Headphones", None), ("Smart Watch", None))),
    (
        "view",
        (
            ("Electronics", None),
            ("Electronics", None),
            ("Books", None),
            ("Electronics", None),
            ("Books", None),
            ("Fitness Equipment", None),
        ),
    ),
    ("rating", (("Laptop", 5.0), ("Wireless Headphones", 4.0))),
    ("search", (("best budget laptops 2023", None), ("latest sci-fi books", None), ("yoga mats", None))),
    ("response", (("Product123", 1.0), ("Product456", 0.0))),
)


def article_customer() -> CustomerRecord:
    """Customer 12345; what no event tells is in the attributes, and so are the ten products to rank for him."""
    return CustomerRecord(
        customer_id=ARTICLE_CUSTOMER_ID,
        time_zone=_HOME.key,
        loyalty_status="Gold Member",
        average_monthly_spend=500,
        preferred_brands=["Apple", "AllBirds", "Bench"],
        preferred_shopping_times="Weekend evenings",
        candidates=[str(product["product_id"]) for product in ARTICLE_PRODUCTS],
    )


def article_products() -> list[ProductRecord]:
    """The ten products, with the brand, category and price that a catalog has beside the article's text."""
    return [_on_the_shelf(product) for product in ARTICLE_PRODUCTS]


def _on_the_shelf(product: ArticleProduct) -> ProductRecord:
    brand, category, price = _ON_THE_SHELF[product["product_id"]]
    return ProductRecord(
        product_id=str(product["product_id"]),
        name=product["product_name"],
        brand=brand,
        category=category,
        price=Decimal(price),
    )


def article_events() -> Iterator[EventRecord]:
    """What customer 12345 did, in words of his own (no product of the catalog), on weekend evenings of his home."""
    for minutes, (kind, told) in enumerate(_HISTORY):
        for weeks, (text, value) in enumerate(told):
            evening = _LAST_SATURDAY_EVENING - timedelta(weeks=weeks)
            yield EventRecord.model_validate(
                {
                    "customer_id": ARTICLE_CUSTOMER_ID,
                    "kind": kind,
                    "text": text,
                    "value": value,
                    "occurred_at": evening + timedelta(minutes=10 * minutes),
                },
                context=UTC,
            )
