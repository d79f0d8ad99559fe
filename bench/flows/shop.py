"""The shops of the bench, each in a database of its own: many customers alike, or the demo shop several times over."""

import psycopg
from psycopg import sql

from pipeline.database import libpq_url, open_connection
from pipeline.demo_shop.populate import populate
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.schema import migrate

_PRODUCTS = """
INSERT INTO products (product_id, name, brand, category, price)
SELECT 'p' || number, 'Product ' || number, 'Brand ' || mod(number, 7), 'Category ' || mod(number, 11), 5 + number / 2
FROM generate_series(0, 199) AS number
"""
_CUSTOMERS = """
INSERT INTO customers (customer_id, attributes)
SELECT 'c' || lpad(number::text, 7, '0'), jsonb_build_object('candidates', (
    SELECT jsonb_agg('p' || mod(number * 7 + place * 3, 200)) FROM generate_series(1, 12) AS place
))
FROM generate_series(1, %s) AS number
"""
_MORE_CUSTOMERS = """
INSERT INTO customers (customer_id, active, time_zone, attributes)
SELECT customer_id || '-' || copy, active, time_zone, attributes FROM customers, generate_series(2, %s) AS copy
"""
_MORE_EVENTS = """
INSERT INTO events (event_key, customer_id, product_id, kind, value, text, occurred_at)
SELECT gen_random_uuid(), customer_id || '-' || copy, product_id, kind, value, text, occurred_at
FROM events, generate_series(2, %s) AS copy
"""


def another_database(server: EmbeddedPostgres, name: str) -> str:
    """The address of a new database of this name, with recstream's tables and no rows."""
    with psycopg.connect(libpq_url(server.url()), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = server.url(name)
    migrate(url)
    return url


def fill_alike(url: str, customers: int) -> None:
    """So many customers, with twelve candidates each, of two hundred products."""
    with open_connection(url, role=None) as connection:
        connection.execute(_PRODUCTS)
        connection.execute(_CUSTOMERS, [customers])
        connection.execute("ANALYZE")


def fill_copies(url: str, copies: int) -> None:
    """The demo shop's customers, and what they have done, so many times over."""
    with open_connection(url, role=None) as connection:
        populate(connection)
        connection.execute(_MORE_CUSTOMERS, [copies])
        connection.execute(_MORE_EVENTS, [copies])
        connection.execute("ANALYZE")
