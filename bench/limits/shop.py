"""The shop under the limits: customers with products of their own, 12 to 50 each: no two prompts weigh the same.

The name of a product begins with its customer, so that the server's log tells whom a request was for.
"""

import json
import random

import psycopg

from bench.limits.plan import MOST_CANDIDATES

_FEWEST_CANDIDATES = 12
_BRANDS = ("Aster", "Birch", "Cedar", "Dahlia", "Elder")
_CATEGORIES = ("Lamps", "Chairs", "Books", "Bottles", "Laptops", "Rugs", "Mugs")
_ADD_CUSTOMER = "INSERT INTO customers (customer_id, attributes) VALUES (%s, %s)"
_ADD_PRODUCT = "INSERT INTO products (product_id, name, brand, category, price) VALUES (%s, %s, %s, %s, %s)"


def fill_shop(connection: psycopg.Connection, customers: int) -> None:
    """Put the shop into an empty database; the same one every time."""
    drawn = random.Random(customers)
    with connection.cursor() as cursor:
        for number in range(1, customers + 1):
            customer = f"c{number:05d}"
            own = [f"{customer}-{place}" for place in range(1, drawn.randint(_FEWEST_CANDIDATES, MOST_CANDIDATES) + 1)]
            cursor.execute(_ADD_CUSTOMER, [customer, json.dumps(_attributes(drawn, own))])
            cursor.executemany(_ADD_PRODUCT, [_product(customer, place, name) for place, name in enumerate(own)])


def _attributes(drawn: random.Random, own: list[str]) -> dict[str, object]:
    return {
        "candidates": own,
        "preferred_brands": drawn.sample(_BRANDS, drawn.randint(1, 4)) + drawn.sample(_CATEGORIES, drawn.randint(1, 5)),
        "preferred_shopping_times": ["Weekend evenings"],
        "loyalty_status": drawn.choice(("Gold", "Silver", "none")),
        "average_monthly_spend": drawn.randint(20, 90),
    }


def _product(customer: str, place: int, product: str) -> tuple[str, str, str, str, int]:
    brand, category = _BRANDS[place % len(_BRANDS)], _CATEGORIES[place % len(_CATEGORIES)]
    return (product, f"{customer} {brand} number {place}", brand, category, 5 + 4 * place)
