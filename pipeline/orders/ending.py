"""Where the last order is heard: from here on a run is being published, and takes none."""

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import RunId
from pipeline.orders.standing import StandingOrders
from pipeline.persistence import persistent
from pipeline.tables import runs


@persistent
async def take_no_more_orders(engine: AsyncEngine, run_id: RunId) -> None:
    """Nothing can be ordered of the run from now on, until it begins anew.

    Raises:
        RunHaltedError: it was cancelled before, whether or not its processes have heard of it.
    """
    this = runs.c.run_id == run_id
    async with engine.begin() as connection:
        await connection.execute(select(runs.c.run_id).where(this).with_for_update(key_share=True))
        rows = (await connection.execute(statement("standing_orders"), {"run_id": run_id})).all()
        StandingOrders.of(rows).require_not_cancelled()
        await connection.execute(update(runs).where(this).values(ending_at=func.now()))


async def is_ending(engine: AsyncEngine, run_id: RunId) -> bool:
    """Whether the run takes no order for it is being published, or was: it has come to its end by itself."""
    async with engine.connect() as connection:
        return await connection.scalar(select(runs.c.ending_at).where(runs.c.run_id == run_id)) is not None
