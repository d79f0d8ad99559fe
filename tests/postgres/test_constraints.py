"""What the tables refuse to hold, whoever writes it."""

from collections.abc import Iterator
from datetime import date
from typing import LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from pipeline.database import libpq_url
from tests.fixtures.releases import as_superuser

RUN = UUID(int=7)
DAY = date(2026, 11, 23)
GOOD: dict[str, object] = {
    "run_id": RUN,
    "customer_id": "c",
    "day": DAY,
    "rank": 2,
    "product_id": "q",
    "relevance_score": 0.5,
    "provenance": "language_model",
    "attempt": 1,
}
FILLING: LiteralString = """
    INSERT INTO customers (customer_id) VALUES ('c');
    INSERT INTO products (product_id, name, price) VALUES ('p', 'Product', 9.99), ('q', 'Other', NULL);
    SELECT recstream_prepare_day('2026-11-23');
    INSERT INTO runs (run_id, kind, state, model, endpoint, provenance, slate_size, temperature,
                      prompt_version, code_version, as_of, day, shuffle_seed)
        VALUES ('00000000-0000-0000-0000-000000000007', 'nightly', 'running', 'm', 'http://e', 'language_model', 10,
                0.1, 'v', 'v', now(), '2026-11-23', 1);
    INSERT INTO slates (run_id, customer_id, day, shard, state)
        VALUES ('00000000-0000-0000-0000-000000000007', 'c', '2026-11-23', 0, 'streaming');
    INSERT INTO recommendations (run_id, customer_id, rank, day, product_id, product_name, relevance_score,
                                 provenance, attempt)
        VALUES ('00000000-0000-0000-0000-000000000007', 'c', 1, '2026-11-23', 'p', 'Product', 0.5, 'language_model',
                1);
"""


@pytest.fixture
def filled(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to a migrated database with a row in each of the main tables; every statement is its own."""
    with as_superuser(database_url) as connection:
        connection.execute(FILLING)
        yield connection


@pytest.mark.parametrize("price", ["-0.01", "NaN", "Infinity"])
def test_a_price_is_a_number_from_zero(filled: psycopg.Connection, price: str) -> None:
    with pytest.raises(psycopg.Error):
        filled.execute("INSERT INTO products (product_id, name, price) VALUES ('new', 'New', %s::numeric)", (price,))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO customers (customer_id) VALUES ('')",
        "INSERT INTO customers (customer_id, attributes) VALUES ('d', '[]')",
        "INSERT INTO products (product_id, name) VALUES ('', 'No id')",
        "INSERT INTO products (product_id, name) VALUES ('new', '  ')",
        "INSERT INTO products (product_id, name) VALUES ('new', NULL)",
        "INSERT INTO products (product_id, name) VALUES ('p', 'The same id')",
        "INSERT INTO products (product_id, name, attributes) VALUES ('new', 'New', '1')",
    ],
)
def test_a_customer_and_a_product_have_an_id_and_a_name(filled: psycopg.Connection, statement: LiteralString) -> None:
    with pytest.raises(psycopg.IntegrityError):
        filled.execute(statement)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("wish", "1", "Laptop"),
        ("rating", "NaN", "Laptop"),
        ("rating", "Infinity", "Laptop"),
        ("rating", "-Infinity", "Laptop"),
        ("purchase", "1", None),
    ],
)
def test_an_event_has_a_known_kind_a_finite_value_and_something_it_is_about(
    filled: psycopg.Connection, kind: str, value: str, words: str | None
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        filled.execute(
            "INSERT INTO events (event_key, customer_id, kind, value, text, occurred_at) "
            "VALUES (gen_random_uuid(), 'c', %s, %s::double precision, %s, now())",
            (kind, value, words),
        )


@pytest.mark.parametrize("column", ["kind", "state", "provenance", "slate_size"])
def test_a_run_has_known_words_and_asks_for_something(filled: psycopg.Connection, column: str) -> None:
    wrong = 0 if column == "slate_size" else "unheard of"
    with pytest.raises(psycopg.errors.CheckViolation):
        filled.execute(sql.SQL("UPDATE runs SET {} = %s").format(sql.Identifier(column)), (wrong,))


def test_a_slate_has_a_known_state(filled: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        filled.execute("UPDATE slates SET state = 'nearly'")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"relevance_score": 1.01}, psycopg.errors.CheckViolation),
        ({"relevance_score": -0.01}, psycopg.errors.CheckViolation),
        ({"relevance_score": float("nan")}, psycopg.errors.CheckViolation),
        ({"rank": 0}, psycopg.errors.CheckViolation),
        ({"attempt": 0}, psycopg.errors.CheckViolation),
        ({"provenance": "somebody"}, psycopg.errors.CheckViolation),
        ({"rank": 1}, psycopg.errors.UniqueViolation),
        ({"product_id": "p"}, psycopg.errors.UniqueViolation),
        ({"day": date(2000, 1, 1)}, psycopg.errors.CheckViolation),
        ({"day": None}, psycopg.errors.CheckViolation),
    ],
)
def test_a_recommendation_is_refused_unless_it_has_a_place_of_its_own(
    filled: psycopg.Connection, change: dict[str, object], refusal: type[psycopg.Error]
) -> None:
    with pytest.raises(refusal):
        insert_recommendation(filled, GOOD | change)
    insert_recommendation(filled, GOOD)


def insert_recommendation(connection: psycopg.Connection, row: dict[str, object]) -> None:
    connection.execute(
        """INSERT INTO recommendations (run_id, customer_id, day, rank, product_id, product_name, relevance_score,
                                        provenance, attempt)
           VALUES (%(run_id)s, %(customer_id)s, %(day)s, %(rank)s, %(product_id)s, 'A product', %(relevance_score)s,
                   %(provenance)s, %(attempt)s)""",
        row,
    )


@pytest.mark.parametrize("day", ["2026-11-22", "2026-11-24", "2000-01-01"])
def test_a_day_that_nobody_prepared_has_no_place(filled: psycopg.Connection, day: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
        filled.execute("INSERT INTO slates (run_id, customer_id, day, shard) VALUES (%s, 'd', %s, 0)", (RUN, day))


def test_preparing_a_day_again_changes_nothing(filled: psycopg.Connection) -> None:
    partitions = "SELECT inhrelid::regclass::text FROM pg_inherits ORDER BY 1"
    before = filled.execute(partitions).fetchall()
    filled.execute("SELECT recstream_prepare_day('2026-11-23')")

    assert filled.execute(partitions).fetchall() == before
    assert filled.execute("SELECT count(*) FROM slates_20261123").fetchone() == (1,)


def test_a_day_is_prepared_while_readers_and_writers_hold_the_tables(
    filled: psycopg.Connection, database_url: str
) -> None:
    with psycopg.connect(libpq_url(database_url)) as writer:
        writer.execute("UPDATE slates SET attempts = attempts + 1")
        writer.execute("SELECT FROM current_recommendations, live_recommendations, rejections, llm_calls")
        insert_recommendation(writer, GOOD)
        filled.execute("SET lock_timeout = '10s'")
        filled.execute("SELECT recstream_prepare_day('2026-11-24')")
        writer.commit()
    assert filled.execute("SELECT count(*) FROM recommendations").fetchone() == (2,)


def test_a_slate_is_updated_where_it_stands(filled: psycopg.Connection) -> None:
    found = filled.execute("SELECT relname, reloptions FROM pg_class WHERE relname LIKE '%20261123'")
    options: dict[str, list[str] | None] = dict(found.fetchall())

    assert options["slates_20261123"] == options["llm_calls_20261123"] == ["fillfactor=70"]
    assert options["recommendations_20261123"] is None
