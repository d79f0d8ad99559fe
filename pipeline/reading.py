"""What people ask of the results: a customer's published slate, the rows of a run in progress, how far a run is."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import CustomerId, RunId, RunKind, RunState, SlateState
from pipeline.errors import UnknownCustomerError
from pipeline.tables import customers, runs


@dataclass(frozen=True, slots=True)
class SlateRow:
    """One committed row as people see it."""

    rank: int
    product_id: str
    product_name: str
    relevance_score: float
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class ReadSlate:
    """A customer's slate of one run. `published_at` is None for one that readers do not see (yet)."""

    customer_id: CustomerId
    run_id: UUID
    provenance: str
    rows: tuple[SlateRow, ...]
    published_at: datetime | None = None
    state: SlateState = SlateState.COMPLETE
    reason: str | None = None
    first_row_s: float | None = None
    whole_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Customers and rows of a run so far.

    `not_complete` are those that ended short or failed; `unchanged` those who keep an earlier slate.
    """

    customers: int
    complete: int
    not_complete: int
    unchanged: int
    rows: int


async def read_current_slate(engine: AsyncEngine, customer_id: CustomerId) -> ReadSlate | None:
    """The published slate, without what was sold out, hidden or purchased since; None if there is none.

    Raises:
        UnknownCustomerError: nobody has this id.
    """
    async with engine.connect() as connection:
        found = (await connection.execute(statement("current_slate"), {"customer_id": customer_id})).all()
        if not found and not await connection.scalar(select(exists().where(customers.c.customer_id == customer_id))):
            raise UnknownCustomerError(f"customer {customer_id!r} is not in the customers table: check the id")
    if not found:
        return None
    rows = tuple(
        SlateRow(row.rank, row.product_id, row.product_name, row.relevance_score, row.committed_at) for row in found
    )
    return ReadSlate(customer_id, found[0].run_id, found[0].provenance, rows, published_at=found[0].published_at)


async def read_slate(engine: AsyncEngine, customer_id: CustomerId, run_id: RunId | None = None) -> ReadSlate | None:
    """The slate of this run, or of the newest one that has this customer, with the rows that are committed by now."""
    async with engine.connect() as connection:
        found = (
            await connection.execute(statement("newest_slate"), {"customer_id": customer_id, "run_id": run_id})
        ).one_or_none()
    if found is None:
        return None
    return ReadSlate(
        customer_id,
        found.run_id,
        found.provenance,
        tuple(await read_rows(engine, RunId(found.run_id), customer_id)),
        state=SlateState(found.state),
        reason=found.reason,
        first_row_s=found.first_row_s,
        whole_s=found.whole_s,
    )


async def read_rows(engine: AsyncEngine, run_id: RunId, customer_id: CustomerId, *, after: int = 0) -> list[SlateRow]:
    """The customer's committed rows of a run after the rank `after`."""
    parameters = {"run_id": run_id, "customer_id": customer_id, "after": after}
    async with engine.connect() as connection:
        found = await connection.execute(statement("slate_rows"), parameters)
        return [SlateRow(*row) for row in found]


async def read_progress(engine: AsyncEngine, run_id: RunId) -> RunProgress:
    """How far the run is."""
    async with engine.connect() as connection:
        found = (await connection.execute(statement("run_progress"), {"run_id": run_id})).one()
    return RunProgress(found.customers, found.complete, found.not_complete, found.unchanged, found.rows)


async def find_run_begun_since(engine: AsyncEngine, moment: datetime) -> RunId | None:
    """The newest nightly run that was planned since `moment`."""
    begun = select(runs.c.run_id).where(runs.c.kind == RunKind.NIGHTLY, runs.c.created_at >= moment)
    async with engine.connect() as connection:
        run_id = await connection.scalar(begun.order_by(runs.c.created_at.desc()).limit(1))
    return None if run_id is None else RunId(run_id)


async def find_night_begun_since(engine: AsyncEngine, moment: datetime, *, finished: bool = False) -> RunId | None:
    """The newest nightly run for everybody that was planned since `moment`; one that has finished, if that is asked."""
    everybody = [runs.c.parameters[part].astext.is_(None) for part in ("most", "only")]
    begun = select(runs.c.run_id).where(runs.c.kind == RunKind.NIGHTLY, runs.c.created_at >= moment, *everybody)
    if finished:
        begun = begun.where(runs.c.state == RunState.FINISHED)
    async with engine.connect() as connection:
        run_id = await connection.scalar(begun.order_by(runs.c.created_at.desc()).limit(1))
    return None if run_id is None else RunId(run_id)
