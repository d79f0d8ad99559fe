"""The owner's connection to the database, for what the running service may not do: drop a day, erase a customer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import LiteralString, TypeAlias

import psycopg
from psycopg.rows import TupleRow
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from pipeline.database import PUBLISHING_LOCK, open_connection, statement
from pipeline.errors import RunConflictError
from pipeline.roles import Role

_PUBLISHING_PATIENCE = "30s"

Parameters: TypeAlias = Mapping[str, object]


@contextmanager
def open_owner(url: str) -> Iterator[psycopg.Connection]:
    """A connection as the owner of the tables, on which every statement is a transaction of its own.

    Raises:
        SchemaError: the database has no role for the owner.
        DatabaseError: the login has not been granted it, the server cannot be reached, or refused a statement.
    """
    with open_connection(url, autocommit=True, role=Role.OWNER) as connection:
        connection.execute("SET application_name = 'recstream upkeep'")
        yield connection


def execute(
    connection: psycopg.Connection, name: str, parameters: Parameters | None = None
) -> psycopg.Cursor[TupleRow]:
    """Run the statement of `pipeline/sql/NAME.sql`."""
    return connection.execute(_for_psycopg(name), parameters)


@contextmanager
def publishing_held(connection: psycopg.Connection) -> Iterator[None]:
    """Nothing is published and nothing rolled back inside, by anybody.

    Raises:
        RunConflictError: a publication does not end.
    """
    _take_publishing(connection)
    try:
        yield
    finally:
        if not connection.closed:  # the lock goes with the connection
            connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", [PUBLISHING_LOCK])


def hold_publishing(connection: psycopg.Connection) -> None:
    """From now to the end of this transaction nothing is published and nothing rolled back by anybody else."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [PUBLISHING_LOCK])


def _take_publishing(connection: psycopg.Connection) -> None:
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_PUBLISHING_PATIENCE])
            connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [PUBLISHING_LOCK])
    except psycopg.errors.LockNotAvailable as error:
        raise RunConflictError(
            f"something is being published or rolled back for more than {_PUBLISHING_PATIENCE}: try again later"
        ) from error


@cache
def _for_psycopg(name: str) -> LiteralString:
    """The text with psycopg's own placeholders. It comes from a file of ours and has no value in it."""
    return str(statement(name).compile(dialect=PGDialect_psycopg()))  # type: ignore[no-untyped-call] # SQLAlchemy's
