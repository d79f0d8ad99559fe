"""One customer, now: a run of its own, whose rows are yielded as they commit and whose slate is published at once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from pipeline.database import open_engine
from pipeline.domain import CommittedRecommendation, CustomerId, RunId, RunKind
from pipeline.errors import UnknownCustomerError
from pipeline.night import ENGINE_CONNECTIONS, require_answer, working_on
from pipeline.profiles import read_profiles
from pipeline.provided_database import provided_database
from pipeline.provisioning import provided_endpoint
from pipeline.recommending import recommend
from pipeline.run_lock import hold_new_run
from pipeline.runs import Run, plan_run
from pipeline.schema_version import require_current
from pipeline.services import RunServices, open_run_services, ranker_of, ways_of
from pipeline.settings import Settings

PATIENCE_S = 60.0  # somebody waits for this slate: an endpoint that is away is not waited for as at night
ERASED = "the customer was erased, or left the customers table, while he was being served"  # the ledger keeps no name


@dataclass(frozen=True, slots=True)
class CustomerRun:
    """A run over one customer. Read `rows` to its end: reading it is what makes the slate."""

    run_id: RunId
    rows: AsyncGenerator[CommittedRecommendation]


@asynccontextmanager
async def customer_run(customer_id: CustomerId, settings: Settings) -> AsyncIterator[CustomerRun]:
    """A new run for this customer; leaving it publishes the slate if it is complete, and writes down how it ended.

    Raises:
        UnknownCustomerError: nobody has this id.
        ConfigurationError, DatabaseError, EndpointUnreachableError, EndpointFatalError: something is not there.
    """
    async with (
        on_demand_run([customer_id], settings) as (run, services),
        aclosing(_rows(customer_id, run, services)) as rows,
    ):
        yield CustomerRun(run.run_id, rows)


@asynccontextmanager
async def on_demand_run(
    customer_ids: Sequence[CustomerId], settings: Settings
) -> AsyncIterator[tuple[Run, RunServices]]:
    """A new run for these customers, and what serves them; leaving it publishes the slates that are complete.

    Raises:
        UnknownCustomerError: nobody has one of these ids.
        ConfigurationError, DatabaseError, EndpointUnreachableError, EndpointFatalError: something is not there.
    """
    settings = settings.model_copy(update={"outage_patience_s": min(settings.outage_patience_s, PATIENCE_S)})
    with provided_database(settings) as url:
        await asyncio.to_thread(require_current, url)
        with provided_endpoint(settings) as endpoint:
            ways = ways_of(settings, endpoint)
            await require_answer(endpoint, ways.fallback)
            async with open_engine(url, connections=ENGINE_CONNECTIONS) as engine, hold_new_run(url) as run_id:
                run = await plan_run(
                    engine,
                    RunKind.ON_DEMAND,
                    ranker_of(endpoint, ways.variants),
                    slate_size=settings.slate_size,
                    shard_size=settings.shard_size,
                    only=customer_ids,
                    run_id=run_id,
                    currency=ways.caps.currency,
                )
                async with (
                    working_on(engine, run, settings.gates),
                    open_run_services(settings, url, endpoint, run) as services,
                ):
                    yield run, services


async def _rows(customer_id: CustomerId, run: Run, services: RunServices) -> AsyncGenerator[CommittedRecommendation]:
    profiles = await read_profiles(services.engine, [customer_id], run.as_of, services.habits)
    if customer_id not in profiles:
        raise UnknownCustomerError(ERASED)
    candidates = await services.candidates.candidates(list(profiles.values()))
    # A slate that was asked for is made, whatever has changed; the nights to come may find it unchanged.
    await services.unchanged.keep([(profiles[customer_id], candidates[customer_id])])
    made = recommend(profiles[customer_id], candidates[customer_id], services.slate)
    async with aclosing(services.hands.until_cancelled(made)) as rows:
        async for row in rows:
            yield row
