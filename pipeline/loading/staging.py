"""Brings chunks of judged rows into a shop's table; a row that only Postgres refuses is refused alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import psycopg

from pipeline.errors import first_line
from pipeline.loading.lines import Line, Refusal
from pipeline.loading.statements import TableStatements, Values

ROW_FAULTS = frozenset({"22", "23", "54", "P0"})  # data, constraint, size of a value, raised by a trigger
LOADING_LOCK = 0x7265_6373_7472_6561  # one load at a time: two in different orders could wait for each other for ever

CREATE_SEEN = """
    CREATE TEMPORARY TABLE recstream_seen (id text PRIMARY KEY, line bigint NOT NULL, digest uuid NOT NULL)
    ON COMMIT DROP
"""
REMEMBER_FIRST_LINES = """
    INSERT INTO recstream_seen (id, line, digest)
    SELECT DISTINCT ON (id) id, line, digest FROM recstream_incoming ORDER BY id, line
    ON CONFLICT (id) DO NOTHING
"""
# LIMIT keeps a lookup by index for each row of the chunk; a join would read all of the other table for every chunk.
TAKE_OUT_REPEATS = """
    DELETE FROM recstream_incoming AS incoming
    USING recstream_incoming AS repeat
    CROSS JOIN LATERAL (
        SELECT line, digest FROM recstream_seen WHERE recstream_seen.id = repeat.id LIMIT 1
    ) AS seen
    WHERE incoming.line = repeat.line AND repeat.line <> seen.line
    RETURNING incoming.line, incoming.id, seen.line, incoming.digest = seen.digest
"""
COUNT_STRANGERS = """
    SELECT count(*) FILTER (WHERE customer.is_known IS NULL),
           count(*) FILTER (WHERE product.is_known IS NULL AND incoming.product_id IS NOT NULL),
           count(*) FILTER (WHERE run.is_known IS NULL AND incoming.run_id IS NOT NULL)
    FROM recstream_incoming AS incoming
    LEFT JOIN LATERAL (
        SELECT true AS is_known FROM customers WHERE customers.customer_id = incoming.customer_id LIMIT 1
    ) AS customer ON true
    LEFT JOIN LATERAL (
        SELECT true AS is_known FROM products WHERE products.product_id = incoming.product_id LIMIT 1
    ) AS product ON true
    LEFT JOIN LATERAL (
        SELECT true AS is_known FROM runs WHERE runs.run_id = incoming.run_id LIMIT 1
    ) AS run ON true
"""


@dataclass(frozen=True, slots=True)
class StagedRow:
    """A judged line and the values that it gives to the table."""

    line: Line
    values: Values


@dataclass(slots=True)
class Landing:
    """What became of some rows; grows as chunks land."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    unknown_customers: int = 0
    unknown_products: int = 0
    unknown_runs: int = 0
    refusals: list[Refusal] = field(default_factory=list)

    def add(self, other: "Landing") -> None:
        """Count `other` in."""
        self.inserted += other.inserted
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.unknown_customers += other.unknown_customers
        self.unknown_products += other.unknown_products
        self.unknown_runs += other.unknown_runs
        self.refusals += other.refusals


def prepare(connection: psycopg.Connection, into: TableStatements) -> None:
    """Make the temporary tables; waits while another load of this database is going on. Needs an open transaction."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOADING_LOCK])
    connection.execute("DROP TABLE IF EXISTS pg_temp.recstream_incoming, pg_temp.recstream_seen")
    connection.execute(into.create)
    connection.execute(CREATE_SEEN)


def land(connection: psycopg.Connection, into: TableStatements, rows: Sequence[StagedRow]) -> Landing:
    """Bring `rows` into the table, inside the caller's transaction; needs `prepare`.

    If Postgres refuses them, each half is tried on its own, down to the one row that is at fault.
    """
    if not rows:
        return Landing()
    try:
        copy_in(connection, into, ((row.line.number, row.values) for row in rows))
        with connection.transaction():
            return _merge(connection, into, rows)
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate[:2] not in ROW_FAULTS:
            raise
        if len(rows) == 1:
            return Landing(refusals=[_refused_by_database(rows[0], error)])
    middle = len(rows) // 2
    landing = land(connection, into, rows[:middle])
    landing.add(land(connection, into, rows[middle:]))
    return landing


def copy_in(connection: psycopg.Connection, into: TableStatements, rows: Iterable[tuple[int, Values]]) -> None:
    """Put rows, each with its line number, in the place of those that `recstream_incoming` held."""
    connection.execute("TRUNCATE recstream_incoming")  # outside the savepoint, where it makes no new file
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(into.copy) as copy:
        for number, values in rows:
            copy.write_row((number, *values))


def _merge(connection: psycopg.Connection, into: TableStatements, rows: Sequence[StagedRow]) -> Landing:
    landing = Landing()
    if into.id_column is None:
        _count_strangers(connection, landing)
    else:
        landing.refusals += _repeats(connection, into.id_column, rows)
    written = [inserted for (inserted,) in connection.execute(into.merge)]
    landing.inserted = sum(written)
    landing.updated = len(written) - landing.inserted
    landing.unchanged = len(rows) - len(landing.refusals) - len(written)
    return landing


def _count_strangers(connection: psycopg.Connection, landing: Landing) -> None:
    counts = connection.execute(COUNT_STRANGERS).fetchone()
    if counts is not None:
        landing.unknown_customers, landing.unknown_products, landing.unknown_runs = counts


def _repeats(connection: psycopg.Connection, id_column: str, rows: Sequence[StagedRow]) -> list[Refusal]:
    connection.execute(REMEMBER_FIRST_LINES)
    repeats = sorted(connection.execute(TAKE_OUT_REPEATS).fetchall())
    differing = {line: (key, first) for line, key, first, is_equal in repeats if not is_equal}
    return [
        _refused_repeat(row.line, id_column, *differing[row.line.number])
        for row in rows
        if row.line.number in differing
    ]


def _refused_repeat(line: Line, id_column: str, key: str, first: int) -> Refusal:
    reason = f"{id_column} {key} stood on line {first} already, with other values"
    return Refusal(line.number, id_column, "repeated_id", reason, line.text())


def _refused_by_database(row: StagedRow, error: psycopg.Error) -> Refusal:
    reason = f"Postgres refuses it: {error.diag.message_primary or first_line(error)}"
    return Refusal(row.line.number, error.diag.column_name, "refused_by_database", reason, row.line.text())
