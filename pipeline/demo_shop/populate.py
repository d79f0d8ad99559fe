"""Puts the demo shop into a database: only rows that are not there yet, and none that is not its own."""

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from pipeline.demo_shop.article import article_customer, article_events, article_products
from pipeline.demo_shop.generate import generate
from pipeline.loading.staging import copy_in, prepare
from pipeline.loading.targets import CUSTOMERS, EVENTS, PRODUCTS, RecordT, Target


@dataclass(frozen=True, slots=True)
class DemoShopReport:
    """What the demo shop consists of, the article's example included, and how many of its rows were new."""

    customers: int
    products: int
    events: int
    inserted: int


def populate(connection: psycopg.Connection) -> DemoShopReport:
    """Put the article's example and the generated shop into customers, products and events, in one transaction.

    A row that is there already stays as it is, whoever made it; a second call changes nothing.
    """
    shop = generate()
    customers = (article_customer(), *shop.customers)
    products = (*article_products(), *shop.products)
    events = (*article_events(), *shop.events)
    with connection.transaction():
        inserted = _add(connection, CUSTOMERS, customers)
        inserted += _add(connection, PRODUCTS, products)
        inserted += _add(connection, EVENTS, events)
    return DemoShopReport(len(customers), len(products), len(events), inserted)


def _add(connection: psycopg.Connection, target: Target[RecordT], records: Iterable[RecordT]) -> int:
    prepare(connection, target.into)
    copy_in(connection, target.into, enumerate(map(target.values, records), start=1))
    return connection.execute(target.into.insert).rowcount
