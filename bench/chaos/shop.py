"""The shop of chaos: customers with twenty products each, of their own, renamed before each run."""

import json
from dataclasses import dataclass

import psycopg

from bench.chaos.names import customer_id, product_id

CANDIDATES = 20
SLATE_SIZE = 10
_BRANDS = ("Aster", "Birch", "Cedar", "Dahlia", "Elder")
_CATEGORIES = ("Lamps", "Chairs", "Books", "Bottles", "Laptops", "Rugs", "Mugs")


@dataclass(frozen=True, slots=True)
class Shop:
    """The number of its customers."""

    customers: int

    def fill(self, connection: psycopg.Connection) -> None:
        """Put the shop into an empty database."""
        with connection.cursor() as cursor:
            for number in range(1, self.customers + 1):
                customer = customer_id(number)
                own = [product_id(customer, place) for place in range(1, CANDIDATES + 1)]
                cursor.execute(_ADD_CUSTOMER, [customer, json.dumps(_attributes(number, own))])
                cursor.executemany(_ADD_PRODUCT, [_product(place, product) for place, product in enumerate(own)])


def rename_products(connection: psycopg.Connection, mark: int) -> None:
    """Call every product anew, for the run of this mark: see `bench.chaos.names`."""
    connection.execute("UPDATE products SET name = 'r' || %s::text || ' ' || product_id", [mark])


_ADD_CUSTOMER = "INSERT INTO customers (customer_id, attributes) VALUES (%s, %s)"
_ADD_PRODUCT = "INSERT INTO products (product_id, name, brand, category, price) VALUES (%s, %s, %s, %s, %s)"


def _attributes(number: int, candidates: list[str]) -> dict[str, object]:
    """What the ranker's scores come from: no two products of a customer need score alike."""
    return {
        "candidates": candidates,
        "preferred_brands": [_BRANDS[number % len(_BRANDS)], _CATEGORIES[number % len(_CATEGORIES)]],
        "average_monthly_spend": 20 + number % 60,
    }


def _product(place: int, product: str) -> tuple[str, str, str, str, int]:
    return (product, product, _BRANDS[place % len(_BRANDS)], _CATEGORIES[place % len(_CATEGORIES)], 5 + 4 * place)
