"""Puts a drawn shop into the tables, as fast as COPY takes it."""

from collections.abc import Iterator

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from pyarrow import csv

from bench.candidates.generating import Purchases, ShopSize, group_of

_BLOCK = 250_000
_CUSTOMERS = """
INSERT INTO customers (customer_id, time_zone)
SELECT 'c' || lpad(number::text, 7, '0'), 'UTC' FROM generate_series(0, %(customers)s - 1) AS number
"""
_PRODUCT = "COPY products (product_id, name, brand, category, price) FROM STDIN"
_EVENT = "COPY events (event_key, customer_id, product_id, kind, value, occurred_at) FROM STDIN (FORMAT csv)"
_OTHER_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = current_schema() AND tablename = 'events' AND indexdef NOT LIKE '%UNIQUE%'
"""


def fill(connection: psycopg.Connection, size: ShopSize, purchases: Purchases) -> None:
    """The shop's customers, products and purchases, in tables that are empty; analysed, in one transaction.

    `connection` acts as the owner of the tables, for indexes are made when the rows are in.
    """
    with connection.transaction():
        connection.execute(_CUSTOMERS, {"customers": size.customers})
        _copy_products(connection, size.products)
        indexes = connection.execute(_OTHER_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        _copy_events(connection, size, purchases)
        for _, definition in indexes:
            connection.execute(definition)
    connection.execute("ANALYZE customers, products, events")


def customer_id(number: int) -> str:
    """The id of the customer with this number."""
    return f"c{number:07d}"


def product_id(number: int) -> str:
    """The id of the product with this number."""
    return f"p{number:05d}"


def _copy_products(connection: psycopg.Connection, products: int) -> None:
    with connection.cursor().copy(_PRODUCT) as copy:
        for number in range(products):
            group = group_of(number)
            copy.write_row(
                (
                    product_id(number),
                    f"Thing {number} of group {group}",
                    f"Brand {number % 500}",
                    f"Category {group}",
                    5 + number % 90,
                )
            )


def _copy_events(connection: psycopg.Connection, size: ShopSize, purchases: Purchases) -> None:
    with connection.cursor().copy(_EVENT) as copy:
        for lines in _lines(size, purchases):
            copy.write(lines)


def _lines(size: ShopSize, purchases: Purchases) -> Iterator[bytes]:
    options = csv.WriteOptions(include_header=False)
    customers = pa.array([customer_id(number) for number in range(size.customers)])
    products = pa.array([product_id(number) for number in range(size.products)])
    for begin in range(0, len(purchases.seconds), _BLOCK):
        end = min(begin + _BLOCK, len(purchases.seconds))
        keys = pa.array(np.arange(begin, end)).cast(pa.string())
        columns = {
            "event_key": pc.utf8_lpad(keys, 32, "0"),  # decimal digits are hexadecimal ones too
            "customer_id": customers.take(purchases.customers[begin:end]),
            "product_id": products.take(purchases.products[begin:end]),
            "kind": pa.repeat("purchase", end - begin),
            "value": pa.repeat(10, end - begin),
            "occurred_at": pa.array(purchases.seconds[begin:end]).cast(pa.timestamp("s", "UTC")),
        }
        sink = pa.BufferOutputStream()
        csv.write_csv(pa.table(columns), sink, options)
        yield sink.getvalue().to_pybytes()
