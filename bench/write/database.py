"""The bench's own server: made for it, and deleted for good at its end, however that comes."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from psycopg import AsyncConnection

from pipeline.database import libpq_url
from pipeline.embedded_postgres import EmbeddedPostgres, discard_embedded_postgres, embedded_postgres
from pipeline.errors import ConfigurationError
from pipeline.schema import migrate

_BYTES_A_CUSTOMER = 20_000  # with three nights, their ledger, indexes, and the write-ahead log on top
_BYTES_AT_LEAST = 2_000_000_000
SHOWN_SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")


@contextmanager
def temporary_database(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server with recstream's tables in its database. What a bench that was killed has left in `folder` is deleted.

    Raises:
        ConfigurationError: another bench is using the folder.
        DatabaseUnavailableError: the server did not start.
    """
    discard_embedded_postgres(folder)
    try:
        with embedded_postgres(folder) as server:
            migrate(server.url())
            yield server
    finally:
        discard_embedded_postgres(folder)


def require_room(folder: Path, customers: int) -> None:
    """See that the disk has room for so many customers.

    Raises:
        ConfigurationError: it has not.
    """
    needed = max(customers * _BYTES_A_CUSTOMER, _BYTES_AT_LEAST)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigurationError(
            f"{folder} has {free / 1e9:.1f} GB free and {customers:,} customers need {needed / 1e9:.1f} GB: "
            "make room, or measure fewer with `--scale 100000`"
        )


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncConnection]:
    """A plain connection in which each statement is a transaction of its own."""
    async with await AsyncConnection.connect(libpq_url(url), autocommit=True) as connection:
        yield connection


async def settings_of(url: str) -> dict[str, str]:
    """What decides how durable a commit is, as the server tells it."""
    async with connected(url) as connection:
        found = await connection.execute(
            "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", [list(SHOWN_SETTINGS)]
        )
        return dict(await found.fetchall())
