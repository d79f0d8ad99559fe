"""One nightly run at a time, across all machines: a lock in Postgres that its holder's death gives back."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from pipeline.database import NIGHT_LOCK, open_engine, statement
from pipeline.errors import DatabaseError, NightTakenError
from pipeline.session_lock import hold_session_lock

_LONGEST_NAME = 63  # of a connection; Postgres cuts the rest off


@asynccontextmanager
async def hold_the_night(url: str) -> AsyncIterator[None]:
    """Hold the lock on a connection of its own, whatever ends it; a restart of the server in between is outlived.

    Raises:
        NightTakenError: another nightly run or resume is going on: which, on which machine and since when.
        DatabaseUnavailableError: nobody answers at `url`.
    """
    take = "SELECT pg_try_advisory_lock(hashtext(%s))"
    # Of another's connection the service may see its name alone: `sql/night_holder.sql` reads it.
    name = f"recstream night {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {socket.gethostname()}"[:_LONGEST_NAME]
    async with hold_session_lock(url, name, take, NIGHT_LOCK) as taken:
        if not taken:
            raise NightTakenError(
                f"another nightly run is going on{await _which(url)}: "
                "wait for it (`recstream status` shows it) or stop it first"
            )
        yield


async def _which(url: str) -> str:
    """Run, machine and since when, as far as they are known."""
    with suppress(DatabaseError):  # that the night is taken is worth saying without them
        async with open_engine(url, connections=1) as engine, engine.connect() as connection:
            holder = (await connection.execute(statement("night_holder"), {"night": NIGHT_LOCK})).one_or_none()
        if holder is not None:
            run = f" (run {holder.run_id}" if holder.run_id else " (before its first customer"
            machine = f" on {holder.machine}" if holder.machine else ""
            since = f" since {holder.since} UTC" if holder.since else ""
            return f"{run}{machine}{since})"
    return ""
