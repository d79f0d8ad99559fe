"""A list of customers, now: one run for all of them, in shards as a night has them. Who is not known is named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_engine
from pipeline.domain import CustomerId, RunId
from pipeline.errors import RecstreamError, UnknownCustomerError
from pipeline.one_customer import on_demand_run
from pipeline.persistence import persistent
from pipeline.provided_database import provided_database
from pipeline.runs import Run, RunSummary, shards_of, summarise
from pipeline.services import RunServices
from pipeline.settings import Settings
from pipeline.shards import serve_shard
from pipeline.tables import customers

_MOST_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class ListReport:
    """What became of a list. `unknown` are those whom nobody knows, or who are not active; `summary` is of the others.

    `error` is what ended the run before its end, where something did.
    """

    summary: RunSummary
    unknown: tuple[CustomerId, ...]
    error: RecstreamError | None = None


async def serve_customers(
    customer_ids: Sequence[CustomerId], settings: Settings, begun: Callable[[RunId], None] = lambda _: None
) -> ListReport:
    """Make slates for these customers in one run, and publish the complete ones when it ends. `begun` hears which.

    Raises:
        UnknownCustomerError: not one of them is known.
        ConfigurationError, DatabaseError, EndpointUnreachableError, EndpointFatalError: something is not there.
    """
    wanted = list(dict.fromkeys(customer_ids))
    with provided_database(settings) as url:
        async with open_engine(url, connections=1) as engine:
            known = await _known(engine, wanted)
            unknown = tuple(customer_id for customer_id in wanted if customer_id not in known)
            if not known:
                raise UnknownCustomerError(f"{named(unknown)}: check the ids, or load and activate them")
            run, error = await _serve([it for it in wanted if it in known], settings, begun)
            return ListReport(await summarise(engine, run.run_id), unknown, error)


def named(unknown: Sequence[CustomerId]) -> str:
    """Who is not served, in a line: the first of them by name."""
    others = len(unknown) - _MOST_NAMED
    names = ", ".join(repr(customer_id) for customer_id in unknown[:_MOST_NAMED])
    told = f"{names} and {others:,} more" if others > 0 else names
    return f"not in the customers table, or not active: {told}"


async def _serve(
    customer_ids: Sequence[CustomerId], settings: Settings, begun: Callable[[RunId], None]
) -> tuple[Run, RecstreamError | None]:
    """The run, and what ended it before its end: the ledger knows that too."""
    planned: list[Run] = []
    try:
        async with on_demand_run(customer_ids, settings) as (run, services):
            planned.append(run)
            begun(run.run_id)
            await _serve_shards(run, services)
    except RecstreamError as error:
        if not planned:
            raise
        return planned[0], error
    return planned[0], None


async def _serve_shards(run: Run, services: RunServices) -> None:
    for shard in await shards_of(services.engine, run):
        await serve_shard(run, shard, services)


@persistent
async def _known(engine: AsyncEngine, customer_ids: Sequence[CustomerId]) -> set[CustomerId]:
    wanted = customers.c.customer_id == func.any(list(customer_ids))
    async with engine.connect() as connection:
        found = await connection.execute(select(customers.c.customer_id).where(wanted, customers.c.active))
        return {CustomerId(row.customer_id) for row in found}
