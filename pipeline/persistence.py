"""Does a transaction again after what may pass, as a restart of Postgres does: here alone the ledger retries."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import may_pass
from pipeline.errors import DatabaseError

PATIENCE_S: Final = 30.0  # a restart with a crash recovery of ordinary length
_LONGEST_PAUSE_S: Final = 2.0

P = ParamSpec("P")
T = TypeVar("T")


def persistent(transaction: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same transaction, done again for as long as `PATIENCE_S` while its error is one that may pass.

    It may have been committed unseen before it is done again, so it has to be one that can be done twice.

    Raises:
        DatabaseError: what the transaction raised last.
    """

    @wraps(transaction)
    async def done_again(*args: P.args, **kwargs: P.kwargs) -> T:
        patient_until = time.monotonic() + PATIENCE_S
        tried = 0
        while True:
            try:
                return await transaction(*args, **kwargs)
            except DatabaseError as error:
                if not _passes(error) or time.monotonic() > patient_until:
                    raise
            await asyncio.sleep(_pause(tried))
            tried += 1

    return done_again


@persistent
async def wait_for_database(engine: AsyncEngine) -> None:
    """Return once somebody answers at the engine's address.

    Raises:
        DatabaseUnavailableError: nobody does within `PATIENCE_S`.
    """
    async with engine.connect() as connection:
        await connection.execute(select(1))


def _passes(error: DatabaseError) -> bool:
    """True where one of the errors behind ours may pass."""
    cause: BaseException | None = error
    while cause is not None:
        if may_pass(cause):
            return True
        cause = cause.__cause__
    return False


def _pause(tried: int) -> float:
    """Seconds, growing, and never the same for all who wait for the same server."""
    longest: float = min(0.05 * 2 ** min(tried, 10), _LONGEST_PAUSE_S)
    return random.uniform(0.5, 1) * longest  # noqa: S311 - jitter
