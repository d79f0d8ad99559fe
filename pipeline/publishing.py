"""Makes a run's slates the ones that readers see: a pointer for each customer, switched in one transaction."""

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import RunId, SlateState
from pipeline.tables import published, slates


async def publish(engine: AsyncEngine, run_id: RunId) -> int:
    """Publish the run's complete slates; returns how many. Customers without one keep the slate they had."""
    complete = select(slates.c.customer_id, slates.c.run_id).where(
        slates.c.run_id == run_id, slates.c.state == SlateState.COMPLETE
    )
    switch = insert(published).from_select(["customer_id", "run_id"], complete)
    switch = switch.on_conflict_do_update(
        index_elements=[published.c.customer_id],
        set_={"run_id": switch.excluded.run_id, "published_at": func.now()},
        where=published.c.run_id != switch.excluded.run_id,
    )
    async with engine.begin() as connection:
        return (await connection.execute(switch.execution_options(preserve_rowcount=True))).rowcount
