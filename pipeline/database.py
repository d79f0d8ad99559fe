"""The way to Postgres: engines, single connections, and the one place where its errors become ours."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache, partial
from importlib.resources import files

import psycopg
from sqlalchemy import event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.elements import TextClause

from pipeline.errors import DatabaseError, DatabaseUnavailableError, first_line

CONNECT_TIMEOUT_S = 10


@cache
def statement(name: str) -> TextClause:
    """The statement of `pipeline/sql/NAME.sql`, with its `:parameters`."""
    return text((files("pipeline") / "sql" / f"{name}.sql").read_text(encoding="utf-8"))


def libpq_url(url: str) -> str:
    """The same address for psycopg itself, without SQLAlchemy's driver name."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def address(url: str) -> str:
    """The address as it may be shown to people: no password."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=True)


@asynccontextmanager
async def open_engine(url: str, *, connections: int) -> AsyncIterator[AsyncEngine]:
    """A pool of at most `connections` connections, closed at the end.

    Raises:
        DatabaseUnavailableError: nobody answers, or the server refuses the login.
    """
    engine = create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=60,
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


def _replace_error(context: ExceptionContext, url: str) -> BaseException | None:
    """SQLAlchemy raises what this returns in place of its own error: no caller has to translate."""
    if context.is_pre_ping:
        return None
    return translate(context.original_exception, url)


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


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn SQLAlchemy's and psycopg's errors into ours, with the server's own first line."""
    try:
        yield
    except DBAPIError as error:
        raise translate(error.orig if error.orig is not None else error, url) from error
    except (psycopg.Error, PoolTimeoutError) as error:
        raise translate(error, url) from error
    except SQLAlchemyError as error:
        raise DatabaseError(f"the database at {address(url)} could not be used: {first_line(error)}") from error


def translate(error: BaseException, url: str) -> DatabaseError:
    """Our error for one of psycopg's."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseUnavailableError(
            f"the database at {address(url)} gave no free connection: lower `concurrency` or look for stuck queries"
        )
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
