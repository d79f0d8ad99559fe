"""The roles of Postgres that recstream works as: what a connection sends to take one on, and why it may be refused.

A role is taken on by a statement after connecting, for poolers refuse options of the start-up packet. It is nobody's
login: the login that connects has been granted it. What each may do is in migrations/versions/0005.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import psycopg
from psycopg import sql

from pipeline.errors import DatabaseError, SchemaError


class Role(StrEnum):
    """Who has the tables, who writes to them day by day, and who reads what is published."""

    OWNER = "recstream_owner"
    WRITER = "recstream_writer"
    READER = "recstream_reader"


def taking(role: Role) -> str:
    """The statement that a connection takes the role on with; a rollback of its transaction would undo it."""
    return f"SET ROLE {role}"


def granting(role: Role, login: str) -> str:
    """What an administrator runs so that this login can take the role on."""
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", login)
    return f"GRANT {role} TO {login if plain else sql.Identifier(login).as_string()}"


def may_not_act(role: Role, login: str, where: str) -> DatabaseError:
    """Our error for a login that has not been granted the role."""
    return DatabaseError(
        f"the login {login} may not act as {role} in the database at {where}: have its administrator run "
        f"{granting(role, login)}"
    )


@contextmanager
def explained(role: Role, login: str, where: str) -> Iterator[None]:
    """Say in our words why the server at address `where` refuses that `login` takes on the role.

    Raises:
        SchemaError: there is no such role.
        DatabaseError: the login has not been granted it.
    """
    try:
        yield
    except psycopg.errors.InvalidParameterValue as error:
        raise SchemaError(f"the database at {where} has no role {role}: run `recstream init`") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise may_not_act(role, login, where) from error
