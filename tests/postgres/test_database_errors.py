"""What goes wrong between us and Postgres arrives as one typed line: what, where, what to do, and no password."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast
from urllib.parse import quote

import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from pipeline.database import address, libpq_url, open_connection, open_engine
from pipeline.embedded_postgres import EmbeddedPostgres, discard_embedded_postgres, embedded_postgres
from pipeline.errors import ConfigurationError, DatabaseError, DatabaseUnavailableError
from pipeline.night_lock import hold_the_night
from pipeline.schema import migrate
from pipeline.schema_version import require_current
from tests.fixtures.shop import add_run, change, read, scalar

PASSWORD = "geheim"
BLOCKED = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
KILL_BLOCKED = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def by_engine(url: str) -> None:
    async with open_engine(url, connections=1):
        pytest.fail("it opened")


async def by_connection(url: str) -> None:
    with open_connection(url):
        pytest.fail("it opened")


async def by_migration(url: str) -> None:
    await asyncio.to_thread(migrate, url)


async def by_version(url: str) -> None:
    await asyncio.to_thread(require_current, url)


async def by_night_lock(url: str) -> None:
    async with hold_the_night(url):
        pytest.fail("it opened")


WAYS_IN = [by_engine, by_connection, by_migration, by_version, by_night_lock]
Way = Callable[[str], Awaitable[None]]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server of this module's own that asks `guest` for a password, and lets `crowd` have no connection at all."""
    folder = tmp_path_factory.mktemp("guarded")
    try:
        with embedded_postgres(folder) as server, open_connection(server.url(), role=None) as connection:
            connection.execute("CREATE ROLE recstream_writer")
            connection.execute("CREATE ROLE guest LOGIN PASSWORD 'the right one' IN ROLE recstream_writer")
            connection.execute("CREATE ROLE crowd LOGIN CONNECTION LIMIT 0")
        rules = server.data_folder / "pg_hba.conf"
        rules.write_text("local all guest scram-sha-256\n" + rules.read_text())
        with embedded_postgres(folder) as server:
            yield server
    finally:
        discard_embedded_postgres(folder)


@pytest.fixture
def nobodys_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def login(server: EmbeddedPostgres, role: str) -> str:
    """The server's address for another role, with a password that is wrong."""
    return server.url().replace(f"{server.superuser}@", f"{role}:{PASSWORD}@", 1)


async def refusal(way: Way, url: str) -> str:
    """The line that a person reads."""
    with pytest.raises(DatabaseUnavailableError) as refused:
        await way(url)
    line = str(refused.value)
    assert "\n" not in line
    assert PASSWORD not in line
    assert "DATABASE_URL" in line, "what to do"
    return line


@pytest.mark.parametrize("way", WAYS_IN)
async def test_an_address_where_nobody_listens(way: Way, nobodys_port: int) -> None:
    line = await refusal(way, f"postgresql+psycopg://shop:{PASSWORD}@127.0.0.1:{nobodys_port}/shop")

    assert f"postgresql://shop:***@127.0.0.1:{nobodys_port}/shop" in line
    assert "refused" in line


@pytest.mark.parametrize("way", WAYS_IN)
async def test_a_socket_that_is_not_there(way: Way) -> None:
    assert "No such file" in await refusal(way, f"postgresql+psycopg://shop:{PASSWORD}@/shop?host=/nowhere")


@pytest.mark.parametrize("way", WAYS_IN)
async def test_a_database_that_does_not_exist(way: Way, postgres: EmbeddedPostgres) -> None:
    assert 'database "nowhere" does not exist' in await refusal(way, postgres.url("nowhere"))


@pytest.mark.parametrize("way", WAYS_IN)
async def test_a_password_that_is_wrong(way: Way, guarded: EmbeddedPostgres) -> None:
    assert 'password authentication failed for user "guest"' in await refusal(way, login(guarded, "guest"))


async def test_the_right_password_in_the_query_is_used_and_not_shown(guarded: EmbeddedPostgres) -> None:
    url = login(guarded, "guest").replace(f":{PASSWORD}@", "@") + f"&password={quote('the right one')}"

    async with open_engine(url, connections=1) as engine:
        assert await scalar(engine, "SELECT session_user") == "guest"
    async with hold_the_night(url):
        pass
    assert "right" not in address(url)


async def test_a_role_that_has_all_its_connections_already(guarded: EmbeddedPostgres) -> None:
    assert "too many connections" in await refusal(by_engine, login(guarded, "crowd"))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://shop:{PASSWORD}/@host:54x2/shop",
        f"postgresql+psycopg://shop:pass@{PASSWORD}:word@host:port/shop",
        f"postgresql+psycopg://shop:{PASSWORD}@host/shop?unheard_of=1",
        PASSWORD,
    ],
)
@pytest.mark.parametrize("way", [by_engine, by_night_lock])
async def test_an_address_that_cannot_be_read_is_refused_without_repeating_it(way: Way, url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as refused:
        await way(url)
    assert "\n" not in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_both_drivers_are_given_the_same_address() -> None:
    url = "postgresql+psycopg://sh%40p:p%2Fa+s%20s@/my%20shop?host=/tmp/a%20folder&sslmode=disable"

    assert conninfo_to_dict(libpq_url(url)) == {
        "user": "sh@p",
        "password": "p/a+s s",
        "dbname": "my shop",
        "host": "/tmp/a folder",
        "sslmode": "disable",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "4",
        "tcp_user_timeout": "30000",
    }
    assert conninfo_to_dict(libpq_url(f"{url}&keepalives_idle=99"))["keepalives_idle"] == "99"
    assert address(url) == "postgresql://sh%40p:***@/my shop?host=%2Ftmp%2Fa+folder&sslmode=disable"


async def test_a_statement_that_is_refused_is_one_line(engine: AsyncEngine, database_url: str) -> None:
    with pytest.raises(DatabaseError, match='refused a statement: relation "nowhere" does not exist') as refused:
        await read(engine, "SELECT * FROM nowhere")

    assert not isinstance(refused.value, DatabaseUnavailableError)
    assert address(database_url) in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_text_that_postgres_cannot_hold_is_our_error_too(engine: AsyncEngine) -> None:
    for words in ("Nul \x00", "half a character \ud800"):
        with pytest.raises(DatabaseError, match="refused a statement"):
            await read(engine, "SELECT CAST(:words AS text)", words=words)


def test_a_plain_connection_speaks_of_its_statements_in_our_words(database_url: str) -> None:
    with pytest.raises(DatabaseError, match='relation "nowhere" does not exist'), open_connection(database_url) as one:
        one.execute("SELECT * FROM nowhere")


async def test_a_connection_that_dies_in_a_statement_is_our_error_and_the_next_one_works(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    async with blocked_change(engine, admin, database_url) as changing:
        await change(admin, KILL_BLOCKED)
        with pytest.raises(DatabaseUnavailableError, match="cannot be reached"):
            await changing

    assert await scalar(engine, "SELECT state FROM slates") == "pending"


async def test_a_statement_that_is_cancelled_stays_cancelled(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    async with blocked_change(engine, admin, database_url) as changing:
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing

    assert await scalar(engine, "SELECT state FROM slates") == "pending"


@asynccontextmanager
async def blocked_change(engine: AsyncEngine, admin: AsyncEngine, url: str) -> AsyncIterator[asyncio.Task[None]]:
    """A task that changes a slate, and waits in the middle of its statement for a lock that somebody holds."""
    await add_run(engine, "c")
    async with await AsyncConnection.connect(libpq_url(url)) as connection:
        await connection.execute("LOCK TABLE slates IN ACCESS EXCLUSIVE MODE")
        changing = asyncio.create_task(change(engine, "UPDATE slates SET state = 'streaming'"))
        async with asyncio.timeout(30):
            while await scalar(admin, BLOCKED) == 0:  # noqa: ASYNC110 - Postgres tells nobody when somebody waits
                await asyncio.sleep(0.01)
        yield changing


async def test_a_pool_without_a_free_connection_is_our_error(engine: AsyncEngine) -> None:
    pool = cast(QueuePool, engine.sync_engine.pool)
    pool._timeout = 0
    async with AsyncExitStack() as connections:
        for _ in range(pool.size()):
            await connections.enter_async_context(engine.connect())
        with pytest.raises(DatabaseUnavailableError, match="no connection to the database became free"):
            await scalar(engine, "SELECT 1")
    assert await scalar(engine, "SELECT 1") == 1
