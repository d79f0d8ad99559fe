"""The statements that bring rows into the three tables.

Rows go by COPY into the temporary table `recstream_incoming` and from there into the shop's table. `recstream_seen`
keeps which line an id stood on first, so that memory stays flat however long the file is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import LiteralString, TypeAlias
from uuid import UUID

Values: TypeAlias = Sequence[str | int | float | bool | Decimal | UUID | datetime | None]


@dataclass(frozen=True, slots=True)
class TableStatements:
    """How rows come into one table.

    `copy` takes a line number and then the table's values. `merge` and `insert` return a row (is it new: bool) for each
    row that they wrote; `insert` changes no row that is there. `id_column` is None where an id may be on many lines.
    """

    id_column: str | None
    create: LiteralString
    copy: LiteralString
    merge: LiteralString
    insert: LiteralString


INTO_CUSTOMERS = TableStatements(
    id_column="customer_id",
    create="""
        CREATE TEMPORARY TABLE recstream_incoming (
            line bigint, id text, active boolean, time_zone text, attributes jsonb, digest uuid
        ) ON COMMIT DROP
    """,
    copy="COPY recstream_incoming (line, id, active, time_zone, attributes, digest) FROM STDIN",
    merge="""
        INSERT INTO customers AS known (customer_id, active, time_zone, attributes)
        SELECT id, active, time_zone, attributes FROM recstream_incoming ORDER BY id
        ON CONFLICT (customer_id) DO UPDATE
        SET active = excluded.active,
            time_zone = excluded.time_zone,
            attributes = excluded.attributes,
            updated_at = now()
        WHERE (known.active, known.time_zone, known.attributes)
            IS DISTINCT FROM (excluded.active, excluded.time_zone, excluded.attributes)
        RETURNING xmax = 0
    """,
    insert="""
        INSERT INTO customers (customer_id, active, time_zone, attributes)
        SELECT id, active, time_zone, attributes FROM recstream_incoming ORDER BY id
        ON CONFLICT (customer_id) DO NOTHING
        RETURNING true
    """,
)

INTO_PRODUCTS = TableStatements(
    id_column="product_id",
    create="""
        CREATE TEMPORARY TABLE recstream_incoming (
            line bigint, id text, name text, description text, brand text, category text, price numeric(14, 2),
            available boolean, hidden boolean, attributes jsonb, digest uuid
        ) ON COMMIT DROP
    """,
    copy="""
        COPY recstream_incoming
            (line, id, name, description, brand, category, price, available, hidden, attributes, digest)
        FROM STDIN
    """,
    merge="""
        INSERT INTO products AS known
            (product_id, name, description, brand, category, price, available, hidden, attributes)
        SELECT id, name, description, brand, category, price, available, hidden, attributes
        FROM recstream_incoming
        ORDER BY id
        ON CONFLICT (product_id) DO UPDATE
        SET name = excluded.name,
            description = excluded.description,
            brand = excluded.brand,
            category = excluded.category,
            price = excluded.price,
            available = excluded.available,
            hidden = excluded.hidden,
            attributes = excluded.attributes,
            updated_at = now()
        WHERE (known.name, known.description, known.brand, known.category, known.price,
               known.available, known.hidden, known.attributes)
            IS DISTINCT FROM
              (excluded.name, excluded.description, excluded.brand, excluded.category, excluded.price,
               excluded.available, excluded.hidden, excluded.attributes)
        RETURNING xmax = 0
    """,
    insert="""
        INSERT INTO products
            (product_id, name, description, brand, category, price, available, hidden, attributes)
        SELECT id, name, description, brand, category, price, available, hidden, attributes
        FROM recstream_incoming
        ORDER BY id
        ON CONFLICT (product_id) DO NOTHING
        RETURNING true
    """,
)

INSERT_EVENTS: LiteralString = """
    INSERT INTO events (event_key, customer_id, product_id, kind, value, text, occurred_at, run_id, rank, response)
    SELECT event_key, customer_id, product_id, kind, value, text, occurred_at, run_id, rank, response
    FROM recstream_incoming
    ORDER BY line
    ON CONFLICT (event_key) DO NOTHING
    RETURNING true
"""

INTO_EVENTS = TableStatements(
    id_column=None,
    create="""
        CREATE TEMPORARY TABLE recstream_incoming (
            line bigint, event_key uuid, customer_id text, product_id text, kind text, value double precision,
            text text, occurred_at timestamptz, run_id uuid, rank integer, response text
        ) ON COMMIT DROP
    """,
    copy="""
        COPY recstream_incoming
            (line, event_key, customer_id, product_id, kind, value, text, occurred_at, run_id, rank, response)
        FROM STDIN
    """,
    merge=INSERT_EVENTS,
    insert=INSERT_EVENTS,
)
