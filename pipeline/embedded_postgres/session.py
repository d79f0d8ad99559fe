"""One use of the server: the first to enter starts it, the last to leave stops it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from pipeline.embedded_postgres.accounts import name_of
from pipeline.embedded_postgres.address import DATABASE, PORT, SUPERUSER, EmbeddedPostgres
from pipeline.embedded_postgres.binaries import Binaries, binaries_for
from pipeline.embedded_postgres.cluster import ensure_cluster
from pipeline.embedded_postgres.homes import Home, establish_home, remove_home
from pipeline.embedded_postgres.locks import LockFile, exclusive
from pipeline.embedded_postgres.server import ensure_running, last_words, stop
from pipeline.embedded_postgres.waiting import interrupts_deferred
from pipeline.errors import ConfigurationError, DatabaseUnavailableError

LOCK_PATIENCE_S = 180.0
"""Longer than a start takes, so that a start that hangs is reported by the process whose start it is."""


@contextmanager
def session(folder: Path) -> Iterator[EmbeddedPostgres]:
    """See `embedded_postgres`."""
    with ExitStack() as stack:
        with _os_errors(folder):
            server = _enter(folder, stack)
        yield server


def discard(folder: Path) -> None:
    """See `discard_embedded_postgres`."""
    with _os_errors(folder):
        if not (folder / "postgres").exists():
            return
        home = establish_home(folder)
        binaries = binaries_for(home.account)
        with exclusive(home.start_lock, LOCK_PATIENCE_S), LockFile(home.users_lock) as users:
            if not users.try_exclusive():
                raise ConfigurationError(f"the database in {home.path} is in use: end its users, then try again")
            stop(home, binaries)
            remove_home(folder, home)


def _enter(folder: Path, stack: ExitStack) -> EmbeddedPostgres:
    """Join the server, started if need be; `stack` learns how to leave it."""
    home = establish_home(folder)
    binaries = binaries_for(home.account)
    users = stack.enter_context(LockFile(home.users_lock))
    with exclusive(home.start_lock, LOCK_PATIENCE_S):
        users.wait_shared(LOCK_PATIENCE_S)
        stack.callback(_leave, home, binaries, users)
        ensure_cluster(home, binaries)
        socket_folder = ensure_running(home, binaries)
        _create_database(home, socket_folder)
    return EmbeddedPostgres(home.data, socket_folder, binaries.program("psql"))


def _leave(home: Home, binaries: Binaries, users: LockFile) -> None:
    """Stop the server if nobody else uses it."""
    with interrupts_deferred(), _os_errors(home.path), exclusive(home.start_lock, LOCK_PATIENCE_S):
        if users.try_exclusive():
            stop(home, binaries)
        users.release()


def _create_database(home: Home, socket_folder: Path) -> None:
    try:
        with psycopg.connect(
            host=str(socket_folder),
            port=PORT,
            user=SUPERUSER,
            dbname="postgres",
            autocommit=True,
            connect_timeout=30,
        ) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
            if found.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise DatabaseUnavailableError(
            f"the embedded PostgreSQL in {home.path} runs, but cannot be used ({reason}): {last_words(home)}"
        ) from error


@contextmanager
def _os_errors(folder: Path) -> Iterator[None]:
    """Translate what the operating system refuses: a folder of somebody else, read-only, full, or a file."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        advice = "give the embedded PostgreSQL a folder that works"
        if isinstance(error, PermissionError):
            advice = f"this process runs as {name_of(os.geteuid())}, so run as the user who made it"
        raise ConfigurationError(
            f"the embedded PostgreSQL cannot use {where} ({error.strerror}): {advice}, or set DATABASE_URL"
        ) from error
