"""Removes every trace of one customer from the database, or finds where there still is one.

His rows go in one transaction, while no run is planned. The texts of others that name him are changed after it, a table
at a time: they are many, and whoever plans or publishes does not wait for their reading.

What is compared where:

- columns called `customer_id`, and the list of customers that a run was planned for: exactly;
- the texts that recstream writes beside (reasons, errors, the raw text of refused objects): see `pipeline.mentions`;
- every other column, when it is verified that nothing is left: as texts are, and only for an id that is hardly anything
  else. Nothing is changed there: what a shop says of its products is the shop's.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from pipeline.database import HISTORIES_LOCK
from pipeline.domain import CustomerId
from pipeline.errors import RunConflictError
from pipeline.mentions import Mentions
from pipeline.upkeep import execute, hold_publishing, open_owner

_RUNS_PATIENCE = "30s"
_FREE_TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "runs": ("reason",),
    "slates": ("ending", "reason"),
    "rejections": ("detail", "raw"),
    "llm_calls": ("request_id", "model", "error"),
}
_FAMILIES = ("slates", "recommendations", "rejections", "llm_calls")  # in this order: no slate, no more rows


@dataclass(frozen=True, slots=True)
class OurTable:
    """A table of recstream, a partition of one, or what a shop has put in its place (`is_table` false)."""

    name: str
    is_table: bool
    columns: tuple[str, ...]

    @property
    def family(self) -> str:
        """The table that this is, or is a partition of."""
        return next((family for family in _FAMILIES if self.name.startswith(f"{family}_")), self.name)

    @property
    def free_texts(self) -> tuple[str, ...]:
        """The columns in which recstream writes sentences."""
        return _FREE_TEXTS.get(self.family, ())


@dataclass(frozen=True, slots=True)
class TablesErased:
    """What was removed, or in a dry run would be: rows by table, and texts that named him in rows of others.

    `known` is false where the customers table had no such customer. `of_the_shop` are the shop's own views: what is
    behind them, the shop must erase.
    """

    known: bool
    rows: Mapping[str, int]
    texts: Mapping[str, int]
    of_the_shop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TablesVerified:
    """What was looked at, in rows by table, and where he was found, in rows by place (`table.column`)."""

    looked_at: Mapping[str, int]
    found: Mapping[str, int] = field(default_factory=dict)


def erase_from_tables(url: str, customer_id: CustomerId, *, dry_run: bool = False) -> TablesErased:
    """Remove the customer; whoever serves him at this moment can write nothing more of him.

    A dry run reads alone: nobody waits for it.

    Raises:
        RunConflictError: a run is being planned, or something published, for too long.
        DatabaseError: the server cannot be reached, refused a statement, or does not let this login act as the owner.
    """
    with open_owner(url) as connection:
        if dry_run:
            with connection.transaction():
                tables = find_our_tables(connection)
                rows = _count_rows(connection, tables, customer_id)
        else:
            with connection.transaction():
                _hold_runs(connection)
                tables = find_our_tables(connection)
                rows = _delete_rows(connection, tables, customer_id)
        texts = _erase_texts(connection, tables, Mentions(customer_id), dry_run=dry_run)
    of_the_shop = tuple(table.name for table in tables if not table.is_table)
    return TablesErased(bool(rows.get("customers")), rows, texts, of_the_shop)


def verify_tables(url: str, customer_id: CustomerId) -> TablesVerified:
    """Look for the customer in every column of every table.

    Raises:
        DatabaseError: the server cannot be reached, refused a statement, or does not let this login act as the owner.
    """
    looked_at: dict[str, int] = {}
    found: Counter[str] = Counter()
    mentions = Mentions(customer_id)
    with open_owner(url) as connection, connection.transaction():
        for table in find_our_tables(connection):
            looked_at[table.name] = _count(connection, sql.SQL("SELECT count(*) FROM {}"), table)
            found += _found_in(connection, table, mentions)
    return TablesVerified(looked_at, dict(found))


def find_our_tables(connection: psycopg.Connection) -> list[OurTable]:
    """Every table of recstream, partitions by themselves, in the order in which rows are to be deleted."""
    found = [OurTable(name, is_table, tuple(columns)) for name, is_table, columns in execute(connection, "our_tables")]
    return sorted(found, key=_place_in_order)


def _place_in_order(table: OurTable) -> tuple[int, bool]:
    """What is kept comes after the days: a copy that is being made holds its slate, and is there when that is free."""
    return _FAMILIES.index(table.family) if table.family in _FAMILIES else -1, table.name.endswith("_kept")


def _hold_runs(connection: psycopg.Connection) -> None:
    """Until the transaction ends no run is planned (it would give him a slate), nothing published or built."""
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [_RUNS_PATIENCE])
    try:
        hold_publishing(connection)
        connection.execute("LOCK TABLE runs IN SHARE ROW EXCLUSIVE MODE")
        # whoever builds candidates either has read his purchases, and we delete what came of them, or sees none
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [HISTORIES_LOCK])
    except psycopg.errors.LockNotAvailable as error:
        raise RunConflictError(
            f"a run is being planned or published, or candidates built, for more than {_RUNS_PATIENCE}: nothing was "
            "erased, try again later"
        ) from error


def _delete_rows(connection: psycopg.Connection, tables: Sequence[OurTable], customer_id: CustomerId) -> dict[str, int]:
    delete = sql.SQL("DELETE FROM {} WHERE customer_id = %s")
    removed: dict[str, int] = {}
    for table in tables:
        if table.is_table and "customer_id" in table.columns:
            removed[table.name] = connection.execute(delete.format(sql.Identifier(table.name)), [customer_id]).rowcount
    removed["runs.parameters"] = execute(connection, "erase_from_parameters", {"customer_id": customer_id}).rowcount
    return {name: number for name, number in removed.items() if number}


def _count_rows(connection: psycopg.Connection, tables: Sequence[OurTable], customer_id: CustomerId) -> dict[str, int]:
    """What `_delete_rows` would remove."""
    of_him = sql.SQL("SELECT count(*) FROM {} WHERE customer_id = %s")
    listed = sql.SQL("SELECT count(*) FROM runs WHERE parameters -> 'only' @> to_jsonb(CAST(%s AS text))")
    found = {
        table.name: _count(connection, of_him, table, customer_id)
        for table in tables
        if table.is_table and "customer_id" in table.columns
    }
    found["runs.parameters"] = _first(connection.execute(listed, [customer_id]))
    return {name: number for name, number in found.items() if number}


def _erase_texts(
    connection: psycopg.Connection, tables: Sequence[OurTable], mentions: Mentions, *, dry_run: bool
) -> dict[str, int]:
    changed: Counter[str] = Counter()
    for table in tables:
        for column in table.free_texts:
            # A day that a prune has dropped since has nobody any more.
            with suppress(psycopg.errors.UndefinedTable), connection.transaction():
                changed[f"{table.name}.{column}"] += _erase_text(connection, table, column, mentions, dry_run=dry_run)
    return dict(+changed)


def _erase_text(
    connection: psycopg.Connection, table: OurTable, column: str, mentions: Mentions, *, dry_run: bool
) -> int:
    replace = sql.SQL("UPDATE {} SET {} = %s WHERE ctid = %s").format(
        sql.Identifier(table.name), sql.Identifier(column)
    )
    of_others = _texts(connection, table, column, mentions, of_others=True, lock=not dry_run)
    named = [it for it in of_others if mentions.is_in(it[1])]
    if not dry_run:
        for ctid, text in named:
            connection.execute(replace, [mentions.erased_from(text), ctid])
    return len(named)


def _found_in(connection: psycopg.Connection, table: OurTable, mentions: Mentions) -> Counter[str]:
    found: Counter[str] = Counter()
    for column in table.columns:
        place = f"{table.name}.{column}"
        if column == "customer_id":
            exactly = sql.SQL("SELECT count(*) FROM {} WHERE customer_id = %s")
            found[place] = _count(connection, exactly, table, str(mentions.customer_id))
        elif column in table.free_texts or mentions.is_distinctive:
            found[place] = sum(mentions.is_in(text) for _, text in _texts(connection, table, column, mentions))
        elif place == "runs.parameters":
            listed = sql.SQL("SELECT count(*) FROM {} WHERE parameters -> 'only' @> to_jsonb(CAST(%s AS text))")
            found[place] = _count(connection, listed, table, str(mentions.customer_id))
    return +found


def _texts(
    connection: psycopg.Connection,
    table: OurTable,
    column: str,
    mentions: Mentions,
    *,
    of_others: bool = False,
    lock: bool = False,
) -> Iterator[tuple[str, str]]:
    """The values of a column, as text, in which the id may be: of each where it lies, and the text."""
    where = sql.SQL("ctid") if table.is_table else sql.SQL("NULL")
    query = sql.SQL(
        "SELECT {where}, CAST({column} AS text) FROM {table} "
        "WHERE EXISTS (SELECT FROM unnest(%s::text[]) AS spelling WHERE strpos(CAST({column} AS text), spelling) > 0)"
    ).format(where=where, column=sql.Identifier(column), table=sql.Identifier(table.name))
    parameters: list[list[str] | str] = [list(mentions.spellings)]
    if of_others and "customer_id" in table.columns:
        query += sql.SQL(" AND customer_id <> %s")
        parameters.append(mentions.customer_id)
    # A cursor with a name has the server keep what was not read yet: `12` is in very many texts.
    with connection.cursor("recstream_texts") as cursor:
        yield from cursor.execute(query + sql.SQL(" FOR UPDATE") if lock else query, parameters)


def _count(connection: psycopg.Connection, query: sql.SQL, table: OurTable, *parameters: str) -> int:
    return _first(connection.execute(query.format(sql.Identifier(table.name)), parameters))


def _first(counted: psycopg.Cursor[TupleRow]) -> int:
    found = counted.fetchone()
    return 0 if found is None else int(found[0])
