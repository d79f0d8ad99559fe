"""The real shop, which lies beside the checkout and not in it: loaded into a database of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg import sql

from bench.folders import ROOT
from pipeline.database import libpq_url, open_connection
from pipeline.domain import CustomerId
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.errors import InputError
from pipeline.loading.load import load_file
from pipeline.loading.targets import TableName
from pipeline.schema import migrate

DATA = ROOT.parent / "shared" / "data"
_DATABASE = "real_shop"
_FILES: tuple[tuple[TableName, str], ...] = (
    ("customers", "customers.jsonl"),
    ("products", "products.csv"),
    ("events", "events.parquet"),
)
_TIME_ZONE = "Europe/London"


@contextmanager
def real_shop(server: EmbeddedPostgres, data: Path = DATA) -> Iterator[str]:
    """The address of a database with the whole shop in it.

    Raises:
        InputError: the files are not there.
    """
    missing = [name for _, name in _FILES if not (data / name).exists()]
    if missing:
        raise InputError(f"{data} has no {', '.join(missing)}: lay the real shop's files there, or name it with --data")
    with psycopg.connect(libpq_url(server.url()), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
    url = server.url(_DATABASE)
    migrate(url)
    with TemporaryDirectory() as rejects, open_connection(url) as connection:
        for table, name in _FILES:
            load_file(
                connection,
                table,
                data / name,
                mapping={},
                time_zone=_TIME_ZONE,
                rejects=Path(rejects) / f"{table}.jsonl",
            )
        connection.execute("ANALYZE")
    yield url


def first_customers(url: str, count: int) -> list[CustomerId]:
    """As many customers as are asked for, in the order in which a run takes them."""
    with psycopg.connect(libpq_url(url)) as connection:
        found = connection.execute(
            "SELECT customer_id FROM customers WHERE active ORDER BY customer_id LIMIT %s", [count]
        )
        return [CustomerId(row[0]) for row in found]
