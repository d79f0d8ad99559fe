"""One nightly run at a time, across all machines: a lock in Postgres that its holder's death gives back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from psycopg import AsyncConnection, Error

from pipeline.database import CONNECT_TIMEOUT_S, libpq_url, translated
from pipeline.errors import RunConflictError

_LOCK = "recstream: one nightly run at a time"


@asynccontextmanager
async def hold_the_night(url: str) -> AsyncIterator[None]:
    """Hold the lock on a connection of its own; the server gives it back when that connection ends, however it ends.

    Raises:
        RunConflictError: another nightly run or resume is going on.
    """
    with translated(url):
        connection = await AsyncConnection.connect(
            libpq_url(url),
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="recstream night",
        )
    async with connection:
        with translated(url):
            cursor = await connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (_LOCK,))
            row = await cursor.fetchone()
        if row != (True,):
            raise RunConflictError(
                "another nightly run is going on: wait for it (`recstream status` shows it) or stop it first"
            )
        try:
            yield
        finally:
            # The server takes a moment to see that a connection has ended; the next night may begin within it.
            with suppress(Error):  # a connection that was lost has given it back
                await connection.execute("SELECT pg_advisory_unlock_all()")
