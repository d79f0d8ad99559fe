"""Sees whether an order has arrived: how many processes work on the run, and which of them have not heard yet."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import statement
from pipeline.domain import RunId, RunState
from pipeline.shard_ledger import ALIVE_S
from pipeline.tables import runs


@dataclass(frozen=True, slots=True)
class Heard:
    """How many processes work on a run, how many of them do not know of an order yet, and whether the run goes on."""

    processes: int
    unaware: int
    state: RunState


async def read_heard(engine: AsyncEngine, run_id: RunId, order_id: int) -> Heard:
    """Who has heard of this order of the run."""
    async with engine.connect() as connection:
        state = (await connection.execute(select(runs.c.state).where(runs.c.run_id == run_id))).scalar_one()
        processes, unaware = await processes_of(connection, run_id, order_id)
    return Heard(processes, unaware, RunState(state))


async def processes_of(connection: AsyncConnection, run_id: RunId, order_id: int) -> tuple[int, int]:
    """How many processes work on the run, and how many of them have not heard of this order yet."""
    asked = {"run_id": run_id, "order_id": order_id, "alive_s": ALIVE_S}
    row = (await connection.execute(statement("processes_of_run"), asked)).one()
    return row.processes, row.unaware
