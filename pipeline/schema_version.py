"""Whether the database is at this code's version: asked by every command, so without what only a migration needs."""

from functools import cache
from importlib.resources import files

from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from pipeline.database import CONNECT_TIMEOUT_S, address, sqlalchemy_url, translated
from pipeline.errors import SchemaError
from pipeline.roles import Role, may_not_act, taking

_MAY_ACT = text("SELECT current_user, (SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = :role)")


@cache
def known_versions() -> tuple[str, ...]:
    """The versions that this code's migrations lead to, in order: each file's name begins with its own."""
    found = (entry.name for entry in (files("migrations") / "versions").iterdir() if entry.name.endswith(".py"))
    return tuple(sorted(name.split("_")[0] for name in found if name[:4].isdigit()))


def require_current(url: str) -> None:
    """Raise SchemaError unless the database at `url` is at exactly this code's version.

    Raises:
        DatabaseError: the server cannot be reached, or the login may not even look.
    """
    with translated(url):
        engine = create_engine(
            sqlalchemy_url(url), poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_S}
        )
        with engine.connect() as connection:
            found = _version_for_the_service(connection, url)
    refuse_newer(found)
    wanted = known_versions()[-1]
    if found != wanted:
        state = "has no recstream tables" if found is None else f"is at version {found}, this recstream needs {wanted}"
        raise SchemaError(f"the database at {address(url)} {state}: run `recstream init`")


def version_of(connection: Connection) -> str | None:
    """The version of the database's tables; None where there are none.

    Raises:
        ProgrammingError: the login may not look.
    """
    if not connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL")):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def refuse_newer(found: str | None) -> None:
    """Raise SchemaError for the tables of a version that is not among ours."""
    if found is not None and found not in known_versions():
        raise SchemaError(
            f"the database is at schema version {found}, which this recstream does not know: install a newer recstream"
        )


def _version_for_the_service(connection: Connection, url: str) -> str | None:
    """The version, read as the writer where the login itself may not; in an old database the writer has no rights."""
    login, may_act = connection.execute(_MAY_ACT, {"role": Role.WRITER}).one()
    try:
        return version_of(connection)
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege) or may_act is None:
            raise
        if not may_act:
            raise may_not_act(Role.WRITER, login, address(url)) from error
    connection.rollback()
    connection.execute(text(taking(Role.WRITER)))
    return version_of(connection)
