"""The database's schema: bring it to this code's version, or say exactly why that cannot be."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, func, select
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.pool import NullPool

from pipeline.database import CONNECT_TIMEOUT_S, NIGHT_LOCK, address, sqlalchemy_url, translated
from pipeline.errors import RunConflictError, SchemaError
from pipeline.schema_rights import Standing, standing_of
from pipeline.schema_version import refuse_newer, version_of

_LOCK_AGAIN_S = 0.2
_LOCK = "recstream: one migration at a time"


@dataclass(frozen=True, slots=True)
class Step:
    """One migration: the version that it leads to, and what it is for, in one line."""

    version: str
    purpose: str


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What `migrate` would do now. `before` is None in a database without tables; `steps` may be none."""

    before: str | None
    after: str
    steps: tuple[Step, ...]
    standing: Standing

    @property
    def new_roles(self) -> tuple[str, ...]:
        """The roles that it would make."""
        return self.standing.roles if self.steps else ()

    @property
    def missing_rights(self) -> tuple[str, ...]:
        """The statements that an administrator has to run before it can begin."""
        return self.standing.missing if self.steps else ()


def plan_migration(url: str) -> MigrationPlan:
    """Say what `migrate` would do, and change nothing.

    Raises:
        SchemaError: the database was made by a newer recstream.
        ConfigurationError: the search path leads to no schema, or to one that is the login's alone.
        DatabaseError: the server cannot be reached or refused a statement.
    """
    with _opened(url) as (config, connection):
        before = _version_for_a_move(connection, url)
        refuse_newer(before)
        scripts = ScriptDirectory.from_config(config)
        ahead = [script for script in scripts.iterate_revisions("head", before or "base") if script.revision != before]
        steps = tuple(Step(script.revision, " ".join(script.doc.split())) for script in reversed(ahead))
        after = steps[-1].version if steps else str(before)
        return MigrationPlan(before, after, steps, standing_of(connection))


def migrate(url: str, target: str = "head") -> tuple[str | None, str | None]:
    """Move the database at `url` up or down to `target`; returns the versions before and after.

    Raises:
        SchemaError: the database was made by a newer recstream, or the login lacks rights.
        RunConflictError: a nightly run is going on.
        ConfigurationError: the search path leads to no schema, or to one that is the login's alone.
        DatabaseError: the server cannot be reached or refused a statement.
    """
    with _opened(url) as (config, connection):
        _hold_lock(connection)
        before = _version_for_a_move(connection, url)
        refuse_newer(before)
        if before != _resolved(config, target):
            _refuse_without_rights(standing_of(connection), url)
            _refuse_in_the_night(connection)
        connection.rollback()
        _move(config, target, before)
        connection.commit()
        return before, version_of(connection)


def _hold_lock(connection: Connection) -> None:
    """Wait until no other migration goes on. The lock goes with the connection.

    Whoever waits holds no snapshot meanwhile: an index that is built without locks waits for all of them.
    """
    while not connection.scalar(select(func.pg_try_advisory_lock(func.hashtext(_LOCK)))):
        connection.rollback()
        time.sleep(_LOCK_AGAIN_S)  # waiting in the server would hold a snapshot
    connection.rollback()


def _refuse_without_rights(standing: Standing, url: str) -> None:
    if standing.missing:
        raise SchemaError(
            f"the login {standing.login} may not make recstream's tables in the schema {standing.schema} of "
            f"{address(url)}: have an administrator run {'; '.join(standing.missing)}; and then `recstream init` again"
        )


def _refuse_in_the_night(connection: Connection) -> None:
    """A night that goes on was begun by code of the former version. The lock goes with the connection."""
    if not connection.scalar(select(func.pg_try_advisory_lock(func.hashtext(NIGHT_LOCK)))):
        raise RunConflictError("a nightly run is going on, and needs the tables as they are: wait for its end")


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


def _version_for_a_move(connection: Connection, url: str) -> str | None:
    """The version, unless it is hidden from a login that could not move the database either."""
    try:
        return version_of(connection)
    except ProgrammingError:
        connection.rollback()
        _refuse_without_rights(standing_of(connection), url)
        raise


def _resolved(config: Config, target: str) -> str | None:
    """The version that `head` and `base` stand for."""
    return {"head": ScriptDirectory.from_config(config).get_current_head(), "base": None}.get(target, target)


def _move(config: Config, target: str, before: str | None) -> None:
    try:
        if target == "base" or (before is not None and target not in {"head", before} and target < before):
            command.downgrade(config, target)
        else:
            command.upgrade(config, target)
    except CommandError as error:
        raise SchemaError(f"schema version {target!r} is unknown: {error}") from error
