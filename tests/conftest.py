"""What every test may ask for: a real Postgres, in it a fresh database that is migrated already, and real servers.

Prefect's server and the ranker stand here, and in no folder's conftest, so that a session starts each of them once.
"""

import signal
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_connection, open_engine
from pipeline.embedded_postgres import EmbeddedPostgres, discard_embedded_postgres, embedded_postgres
from pipeline.schema import migrate
from tests.fixtures.command_line import warm_commands
from tests.fixtures.memory import folder_in_memory
from tests.fixtures.misbehaving_ranker import ranker, ranker_process
from tests.fixtures.prefect_runs import prefect_api_url, prefect_in_reach
from tests.fixtures.prefect_services import prefect_services, prefect_services_url

__all__ = [
    "prefect_api_url",
    "prefect_in_reach",
    "prefect_services",
    "prefect_services_url",
    "ranker",
    "ranker_process",
]

_TEMPLATE = "recstream_template"
_numbers = count(1)


def pytest_configure() -> None:
    """A script that starts the tests with `&` has them ignore Ctrl-C, and so would every program that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test reads neither the machine's environment nor a settings file that lies about."""
    for name in ("DATABASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "RECSTREAM_MODEL", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _warm_commands() -> Iterator[None]:
    """What the session's commands are forked from, if there are any."""
    with warm_commands():
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One embedded server for the whole session, with the settings that a shop's has."""
    with folder_in_memory(tmp_path_factory) as folder:
        try:
            with embedded_postgres(folder) as server:
                yield server
        finally:
            discard_embedded_postgres(folder)  # as root the data may lie where the server's user can reach it


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated, empty database, made to be cloned."""
    with open_connection(postgres.url("postgres"), autocommit=True, role=None) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
    migrate(postgres.url(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database without any table."""
    yield from _database(postgres, "template1")


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """A database of the test's own, with recstream's tables and no rows."""
    yield from _database(postgres, template)


@pytest.fixture(scope="module")
def module_database_url(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """As `database_url`, for a whole module whose tests put right what they find."""
    yield from _database(postgres, template)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on `database_url` that acts as the service does."""
    async with open_engine(database_url, connections=8) as opened:
        yield opened


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on `database_url` that acts as the superuser it is: for what the service may not do."""
    async with open_engine(database_url, connections=2, role=None) as opened:
        yield opened


def _database(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    with open_connection(postgres.url("postgres"), autocommit=True, role=None) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        yield postgres.url(name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
