"""One nightly run at a time, across all machines: a lock in Postgres that its holder's death gives back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.database import NIGHT_LOCK
from pipeline.errors import RunConflictError
from pipeline.session_lock import hold_session_lock


@asynccontextmanager
async def hold_the_night(url: str) -> AsyncIterator[None]:
    """Hold the lock on a connection of its own, whatever ends it; a restart of the server in between is outlived.

    Raises:
        RunConflictError: another nightly run or resume is going on.
        DatabaseUnavailableError: nobody answers at `url`.
    """
    take = "SELECT pg_try_advisory_lock(hashtext(%s))"
    async with hold_session_lock(url, "recstream night", take, NIGHT_LOCK) as taken:
        if not taken:
            raise RunConflictError(
                "another nightly run is going on: wait for it (`recstream status` shows it) or stop it first"
            )
        yield
