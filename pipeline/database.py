"""The way to Postgres: engines, single connections, and the one place where its errors become ours."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from functools import cache, partial
from importlib.resources import files
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolProxiedConnection
from sqlalchemy.sql.elements import TextClause

from pipeline.errors import ConfigurationError, DatabaseError, DatabaseUnavailableError, first_line

CONNECT_TIMEOUT_S = 10
POOL_TIMEOUT_S = 60


@cache
def statement(name: str) -> TextClause:
    """The statement of `pipeline/sql/NAME.sql`, with its `:parameters`."""
    return text((files("pipeline") / "sql" / f"{name}.sql").read_text(encoding="utf-8"))


def sqlalchemy_url(url: str) -> URL:
    """The address as SQLAlchemy takes it apart.

    Raises:
        ConfigurationError: the address cannot be read.
    """
    with _refusing_unreadable_addresses():
        parsed = make_url(url)
    # SQLAlchemy 2.0 decodes %XX in every part but this one.
    return parsed if parsed.database is None else parsed.set(database=unquote(parsed.database))


def libpq_url(url: str) -> str:
    """The same address for psycopg itself: exactly the options that SQLAlchemy would hand over.

    Raises:
        ConfigurationError: the address cannot be read.
    """
    parsed = sqlalchemy_url(url)
    with _refusing_unreadable_addresses():
        _, options = parsed.get_dialect()().create_connect_args(parsed)
        return make_conninfo(**options)


def address(url: str) -> str:
    """The address as it may be shown to people: no password."""
    shown = sqlalchemy_url(url).set(drivername="postgresql").difference_update_query(["password", "sslpassword"])
    return shown.render_as_string(hide_password=True)


@contextmanager
def _refusing_unreadable_addresses() -> Iterator[None]:
    try:
        yield
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"DATABASE_URL has an option that PostgreSQL does not know: {first_line(error)}"
        ) from None
    except (ArgumentError, ValueError):
        # The parser's own message repeats parts of the address, and the password may be among them.
        raise ConfigurationError(
            "DATABASE_URL cannot be read as postgresql://user:password@host:5432/database: "
            "write special characters of the password as %XX"
        ) from None


@asynccontextmanager
async def open_engine(url: str, *, connections: int) -> AsyncIterator[AsyncEngine]:
    """A pool of at most `connections` connections, closed at the end.

    Raises:
        ConfigurationError: the address cannot be read.
        DatabaseUnavailableError: nobody answers, or the server refuses the login.
    """
    libpq_url(url)  # refuses an address that cannot be read, before anything is opened
    engine = create_async_engine(
        sqlalchemy_url(url),
        poolclass=_Pool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "recstream"},
    )
    event.listen(engine.sync_engine, "handle_error", partial(_replace_error, url=url))
    try:
        with translated(url):
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        yield engine
    finally:
        await engine.dispose()


class _Pool(AsyncAdaptedQueuePool):
    """A pool that says in our words that no connection became free."""

    def connect(self) -> PoolProxiedConnection:
        try:
            return super().connect()
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError(
                "no connection to the database became free: lower `concurrency` or look for stuck queries"
            ) from error


def _replace_error(context: ExceptionContext, url: str) -> BaseException | None:
    """SQLAlchemy raises what this returns in place of its own error: no caller has to translate."""
    original = context.original_exception
    # A cancellation passes here as well, and must stay one.
    if context.is_pre_ping or not isinstance(original, (psycopg.Error, UnicodeError)):
        return None
    return translate(original, url)


@contextmanager
def open_connection(url: str, *, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    """One plain psycopg connection: commits at the end, rolls back on an error, always closes.

    Raises:
        DatabaseUnavailableError: nobody answers, or the connection was lost.
    """
    with translated(url):
        connection = psycopg.connect(
            libpq_url(url),
            connect_timeout=CONNECT_TIMEOUT_S,
            autocommit=autocommit,
            application_name="recstream",
        )
        with connection:
            yield connection


def server_time(url: str) -> datetime:
    """The server's clock, which stamps the ledger.

    Raises:
        DatabaseUnavailableError: nobody answers.
    """
    with open_connection(url) as connection:
        row = connection.execute("SELECT now()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM gives one row
    moment: datetime = row[0]
    return moment


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn SQLAlchemy's and psycopg's errors into ours, with the server's own first line."""
    try:
        yield
    except DBAPIError as error:
        raise translate(error.orig if error.orig is not None else error, url) from error
    except psycopg.Error as error:
        raise translate(error, url) from error
    except SQLAlchemyError as error:
        raise DatabaseError(f"the database at {address(url)} could not be used: {first_line(error)}") from error


def translate(error: BaseException, url: str) -> DatabaseError:
    """Our error for one of psycopg's."""
    if is_connection_lost(error):
        return DatabaseUnavailableError(
            f"the database at {address(url)} cannot be reached: {first_line(error)}; "
            "start it, or set DATABASE_URL to one that runs"
        )
    return DatabaseError(f"the database at {address(url)} refused a statement: {first_line(error)}")


def is_connection_lost(error: BaseException) -> bool:
    """True where the connection itself failed, so that the same statement may succeed on another one."""
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    state = getattr(error, "sqlstate", None)
    return state is None or state[:2] in {"08", "57", "28", "3D"}
