"""A lock in Postgres that stands as long as its holder.

The server gives it back when he dies, and he takes it again when the server was away.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from typing import Final, LiteralString

from psycopg import AsyncConnection, Error

from pipeline.database import connect_as_writer, translated
from pipeline.errors import DatabaseError, first_line

_LONGEST_PAUSE_S: Final = 2.0

_log = logging.getLogger(__name__)


@asynccontextmanager
async def hold_session_lock(url: str, name: str, take: LiteralString, key: object) -> AsyncIterator[bool]:
    """Whether `take`, a statement around `pg_try_advisory_lock` with one parameter, got the lock of this key.

    It is held on a connection of its own, called `name`. If that is lost, the lock is taken again as soon as it can be.

    Raises:
        DatabaseUnavailableError: nobody answers at `url`.
    """
    lock = _SessionLock(url, name, take, key)
    try:
        with translated(url):
            taken = await lock.take()
        async with _kept(lock, name) if taken else nullcontext():
            yield taken
    finally:
        await lock.give_back()


@asynccontextmanager
async def _kept(lock: "_SessionLock", name: str) -> AsyncIterator[None]:
    keeping = asyncio.create_task(lock.keep(), name=name)
    keeping.add_done_callback(_tell_of_a_defect)
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


def _tell_of_a_defect(keeping: asyncio.Task[None]) -> None:
    if not keeping.cancelled() and keeping.exception() is not None:
        _log.error("the lock of the %s is kept no more", keeping.get_name(), exc_info=keeping.exception())


class _SessionLock:
    def __init__(self, url: str, name: str, take: LiteralString, key: object) -> None:
        self._url, self._name, self._take, self._key = url, name, take, key
        self._connection: AsyncConnection | None = None

    async def take(self) -> bool:
        """Connect, and try to take the lock.

        Raises:
            DatabaseError, psycopg.Error: the server cannot be reached, or does not let us.
        """
        self._connection = await connect_as_writer(self._url, self._name)
        await self._connection.execute("SET idle_session_timeout = 0")  # it idles all night, on purpose
        row = await (await self._connection.execute(self._take, (self._key,))).fetchone()
        return row == (True,)

    async def keep(self) -> None:
        """Take the lock again whenever its connection was lost, until cancelled."""
        while True:
            lost = await self._loss()
            _log.info("the connection of the %s was lost (%s): its lock is taken again", self._name, lost)
            await self._take_again()

    async def _loss(self) -> str:
        """Wait until the connection is lost, and say how."""
        assert self._connection is not None  # noqa: S101 - `take` comes before
        try:
            async with aclosing(self._connection.notifies()) as nothing:
                async for _ in nothing:  # nobody tells us anything: it only ends with the connection
                    pass
        except Error as error:
            return first_line(error)
        return "it was closed"

    async def _take_again(self) -> None:
        told = False
        while True:
            try:
                await self._close()
                if await self.take():
                    return
            except (Error, DatabaseError):
                pass  # the server is not back yet; whoever needs it for more than this says so
            else:
                if not told:
                    _log.warning("the lock of the %s was lost with its connection, and another has it now", self._name)
                told = True
            await asyncio.sleep(random.uniform(0.1, 1) * _LONGEST_PAUSE_S)  # noqa: S311 - jitter

    async def give_back(self) -> None:
        """Give the lock back, and close the connection."""
        try:
            if self._connection is not None and not self._connection.closed:
                # The server takes a moment to see that a connection has ended; the next one may ask within it.
                with suppress(Error):  # a connection that was lost has given it back
                    await self._connection.execute("SELECT pg_advisory_unlock_all()")
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
