"""The way to Postgres: engines, single connections, and the one place where its errors become ours."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from functools import cache, partial
from importlib.resources import files
from urllib.parse import unquote

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.sql.elements import TextClause

from pipeline.errors import ConfigurationError, DatabaseError, DatabaseUnavailableError, first_line
from pipeline.roles import Role, explained, taking

CONNECT_TIMEOUT_S = 10
POOL_TIMEOUT_S = 60
# A machine that vanishes says nothing: within half a minute its connections are known to be lost. An address that has
# options of its own for this keeps them.
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
# The server too is to notice that a machine of ours has vanished, for its locks stand until then. And a statement that
# has waited for a lock has to see what was committed meanwhile, whatever the database's default is.
_SESSION = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4;"
    "SET tcp_user_timeout = 30000; SET default_transaction_isolation = 'read committed'"
)
NIGHT_LOCK = "recstream: one nightly run at a time"
"""The advisory lock of nightly runs, which a migration takes as well."""
PUBLISHING_LOCK = "recstream: publishing"
"""Whoever changes what readers see holds this advisory lock, and so does whoever drops rows that they may see."""
HISTORIES_LOCK = "recstream: purchases are read"
"""Shared by whoever writes or drops what candidates know of purchases; who erases a customer has it alone."""


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
    """The same address for psycopg itself: the options that SQLAlchemy would hand over, and ours for lost connections.

    Raises:
        ConfigurationError: the address cannot be read.
    """
    parsed = sqlalchemy_url(url)
    with _refusing_unreadable_addresses():
        _, options = parsed.get_dialect()().create_connect_args(parsed)
        return make_conninfo(**{**_KEEPALIVES, **options})


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
async def open_engine(url: str, *, connections: int, role: Role | None = Role.WRITER) -> AsyncIterator[AsyncEngine]:
    """A pool of at most `connections` connections, closed at the end.

    They act as `role`, or as the login itself where that is None.

    Raises:
        ConfigurationError: the address cannot be read.
        DatabaseUnavailableError: nobody answers, or the server refuses the login.
        SchemaError: the database has no such role.
        DatabaseError: the login has not been granted the role.
    """
    libpq_url(url)  # refuses an address that cannot be read, before anything is opened
    parsed = sqlalchemy_url(url)
    keepalives = {name: value for name, value in _KEEPALIVES.items() if name not in parsed.query}
    engine = create_async_engine(
        parsed,
        poolclass=_Pool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "recstream", **keepalives},
    )
    if role is not None:
        event.listen(engine.sync_engine, "connect", partial(_take_role, role=role, url=url))
    event.listen(engine.sync_engine, "handle_error", partial(_replace_error, url=url))
    try:
        with translated(url):
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        yield engine
    finally:
        await engine.dispose()


def _take_role(connection: DBAPIConnection, entry: ConnectionPoolEntry, role: Role, url: str) -> None:
    """Every connection of a pool begins so. The commit keeps a later rollback from undoing it."""
    driver = entry.driver_connection
    assert isinstance(driver, AsyncConnection)  # noqa: S101 - what every engine of ours is made of
    with explained(role, driver.info.user, address(url)):
        connection.cursor().execute(taking(role))
        connection.cursor().execute(_SESSION)
    connection.commit()


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
def open_connection(
    url: str, *, autocommit: bool = False, role: Role | None = Role.WRITER
) -> Iterator[psycopg.Connection]:
    """One plain psycopg connection: commits at the end, rolls back on an error, always closes.

    It acts as `role`, or as the login itself where that is None.

    Raises:
        DatabaseUnavailableError: nobody answers, or the connection was lost.
        SchemaError: the database has no such role.
        DatabaseError: the login has not been granted the role, or a statement was refused.
    """
    with translated(url):
        connection = psycopg.connect(
            libpq_url(url),
            connect_timeout=CONNECT_TIMEOUT_S,
            autocommit=autocommit,
            application_name="recstream",
        )
        with connection:
            if role is not None:
                with explained(role, connection.info.user, address(url)):
                    connection.execute(taking(role))
                connection.commit()
            yield connection


async def connect_as_writer(url: str, application_name: str) -> AsyncConnection:
    """A connection whose every statement is a transaction of its own, acting as the writer; the caller closes it.

    Raises:
        ConfigurationError: the address cannot be read.
        SchemaError: the database has no role for the writer.
        DatabaseError: the login has not been granted it.
        psycopg.Error: anything else; `translate` makes it one of ours.
    """
    connection = await AsyncConnection.connect(
        libpq_url(url), autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name=application_name
    )
    try:
        with explained(Role.WRITER, connection.info.user, address(url)):
            await connection.execute(taking(Role.WRITER))
            await connection.execute(_SESSION)
    except BaseException:
        await connection.close()
        raise
    return connection


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
        if isinstance(error.__context__, DBAPIError):  # what went wrong first; this one is of the clearing up
            raise translate(error.__context__.orig or error.__context__, url) from error
        raise DatabaseError(f"the database at {address(url)} could not be used: {first_line(error)}") from error


def translate(error: BaseException, url: str) -> DatabaseError:
    """Our error for one of psycopg's."""
    if is_connection_lost(error):
        said = first_line(error)
        runs = _LOGIN_REFUSED.search(said) is not None
        return DatabaseUnavailableError(
            f"the database at {address(url)} cannot be reached: {said}; "
            + ("create it, or mend DATABASE_URL" if runs else "start it, or set DATABASE_URL to one that runs")
        )
    return DatabaseError(f"the database at {address(url)} refused a statement: {first_line(error)}")


def is_connection_lost(error: BaseException) -> bool:
    """True where the connection itself failed, so that the same statement may succeed on another one."""
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return False
    state = getattr(error, "sqlstate", None)
    return state is None or state[:2] in {"08", "57", "28", "3D"}


# The server going away or coming back, a query cancelled, and transactions that only got into each other's way.
_PASSING = {"40001", "40003", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "57P05"}
# The connection itself, and a server short of connections, memory or disk.
_PASSING_CLASSES = {"08", "53"}
# libpq gives no SQLSTATE of a refused login, so its words must tell; one in another language is tried again in vain.
_LOGIN_REFUSED = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|FATAL: .*(does not exist|permission denied|not permitted)"
)


def may_pass(error: BaseException) -> bool:
    """True where the same transaction may well succeed a little later, as after a restart of Postgres."""
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is not None:
        return is_passing(error.sqlstate)
    lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return lost and _LOGIN_REFUSED.search(str(error)) is None


def is_passing(sqlstate: str) -> bool:
    """True of the SQLSTATEs that are worth another try: exactly these are, and nothing else."""
    return sqlstate in _PASSING or sqlstate[:2] in _PASSING_CLASSES
