"""The database's schema: bring it to this code's version, or say exactly why it does not fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, func, select
from sqlalchemy.pool import NullPool

from pipeline.database import CONNECT_TIMEOUT_S, address, sqlalchemy_url, translated
from pipeline.errors import SchemaError

_LOCK = "recstream: one migration at a time"


def migrate(url: str, target: str = "head") -> tuple[str | None, str | None]:
    """Move the database at `url` up or down to `target`; returns the versions before and after.

    Raises:
        SchemaError: the database was made by a newer recstream.
        DatabaseError: the server cannot be reached or refused a statement.
    """
    with _opened(url) as (config, connection):
        connection.execute(select(func.pg_advisory_lock(func.hashtext(_LOCK))))  # goes with the connection
        before = _version(connection)
        _refuse_newer(config, before)
        connection.rollback()
        _move(config, target, before)
        connection.commit()
        return before, _version(connection)


def require_current(url: str) -> None:
    """Raise SchemaError unless the database at `url` is at exactly this code's version."""
    with _opened(url) as (config, connection):
        found = _version(connection)
        _refuse_newer(config, found)
        wanted = ScriptDirectory.from_config(config).get_current_head()
    if found != wanted:
        state = "has no recstream tables" if found is None else f"is at version {found}, this recstream needs {wanted}"
        raise SchemaError(f"the database at {address(url)} {state}: run `recstream init`")


@contextmanager
def _opened(url: str) -> Iterator[tuple[Config, Connection]]:
    patience = {"connect_timeout": CONNECT_TIMEOUT_S}
    with translated(url), as_file(files("migrations")) as folder:
        engine = create_engine(sqlalchemy_url(url), poolclass=NullPool, connect_args=patience)
        with engine.connect() as connection:
            yield _config(str(folder), connection), connection


def _config(folder: str, connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(config: Config, found: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaError(
            f"the database is at schema version {found}, which this recstream does not know: install a newer recstream"
        )


def _move(config: Config, target: str, before: str | None) -> None:
    try:
        if target == "base" or (before is not None and target not in {"head", before} and target < before):
            command.downgrade(config, target)
        else:
            command.upgrade(config, target)
    except CommandError as error:
        raise SchemaError(f"schema version {target!r} is unknown: {error}") from error
