"""Shows that somebody works on a run: a lock in Postgres that is given back however its holder ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from pipeline.domain import RunId
from pipeline.session_lock import hold_session_lock

# `sql/dead_runs.sql` looks for the same key.
_TAKE = "SELECT pg_try_advisory_lock(hashtextextended('recstream: run ' || %s::uuid, 0))"


@asynccontextmanager
async def hold_new_run(url: str) -> AsyncIterator[RunId]:
    """The id of a run that is about to be planned; its lock is held before it is there, on a connection of its own.

    Raises:
        DatabaseUnavailableError: nobody answers at `url`.
    """
    run_id = RunId(uuid4())
    async with hold_session_lock(url, "recstream run", _TAKE, run_id):  # nobody else has the lock of a new id
        yield run_id
