"""Keeps a process's hands up to date: every two seconds it says that it lives, and hears what is ordered."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import RunId
from pipeline.errors import DatabaseError
from pipeline.orders.hands import Hands
from pipeline.orders.standing import StandingOrders
from pipeline.persistence import persistent
from pipeline.shard_ledger import ALIVE_S  # for so long a dead process keeps its part of a limit
from pipeline.tables import run_processes

_EVERY_S: Final = (2.0, 2.5)
_SOON_S: Final = (0.3, 0.5)  # to whoever has just come, and knows by then who came with him

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_hands(engine: AsyncEngine, run_id: RunId) -> AsyncIterator[Hands]:
    """The hands of one process of this run, which hear of an order within three seconds.

    What stands is known from the beginning. Where Postgres does not answer later, the last orders stand.

    Raises:
        DatabaseError: nobody can be asked what stands.
    """
    hearing = _Hearing(engine, run_id)
    soon = await persistent(hearing.check_in)()
    listening = asyncio.create_task(hearing.go_on(soon), name=f"the orders of run {run_id}")
    listening.add_done_callback(_tell_of_a_defect)
    try:
        yield hearing.hands
    finally:
        listening.cancel()
        await asyncio.wait({listening})
        with suppress(DatabaseError):  # then it is taken for dead a little later
            await hearing.leave()


class _Hearing:
    def __init__(self, engine: AsyncEngine, run_id: RunId) -> None:
        self._process: UUID = uuid4()
        self.hands = Hands(run_id, self._process)
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._run_id = run_id

    async def check_in(self) -> bool:
        """Say that this process lives, and obey what stands. True if it should ask again soon."""
        asked = {"run_id": self._run_id, "process": self._process, "alive_s": ALIVE_S}
        async with self._engine.connect() as connection:
            rows = (await connection.execute(statement("check_in"), asked)).all()
        standing = StandingOrders.of(rows)
        self.hands.obey(standing, rows[0].part)
        return standing.limit is not None and not rows[0].is_known

    async def go_on(self, soon: bool) -> None:
        """Check in again and again, until cancelled."""
        deaf = False
        while True:
            await asyncio.sleep(random.uniform(*(_SOON_S if soon else _EVERY_S)))  # noqa: S311 - jitter
            try:
                soon = await self.check_in()
            except DatabaseError as error:
                if not deaf:
                    _log.warning("run %s: no orders can be heard, the last ones stand: %s", self._run_id, error)
                deaf = True
            else:
                if deaf:
                    _log.info("run %s: orders are heard again", self._run_id)
                deaf = False

    async def leave(self) -> None:
        """This process works on the run no more: its part of a limit is free at once."""
        mine = (run_processes.c.run_id == self._run_id) & (run_processes.c.process == self._process)
        async with self._engine.connect() as connection:
            await connection.execute(delete(run_processes).where(mine))


def _tell_of_a_defect(listening: asyncio.Task[None]) -> None:
    if not listening.cancelled() and listening.exception() is not None:
        _log.error("%s are heard no more", listening.get_name(), exc_info=listening.exception())
