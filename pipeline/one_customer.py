"""One customer, now: a run of its own, whose rows are yielded as they commit and whose slate is published at once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from pipeline.database import open_engine
from pipeline.domain import CommittedRecommendation, CustomerId, RunId, RunKind
from pipeline.night import ENGINE_CONNECTIONS, require_answer, working_on
from pipeline.profiles import read_profiles
from pipeline.provided_database import provided_database
from pipeline.provisioning import provided_endpoint
from pipeline.publishing import publish
from pipeline.recommending import recommend
from pipeline.runs import Run, plan_run
from pipeline.schema import require_current
from pipeline.services import ShardServices, open_shard_services, ranker_of
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class LiveRow:
    """A durable recommendation of a run."""

    run_id: RunId
    committed: CommittedRecommendation


async def serve_customer(customer_id: CustomerId, settings: Settings) -> AsyncGenerator[LiveRow]:
    """Yield the customer's recommendations as they commit; publish the slate if it becomes complete.

    Raises:
        UnknownCustomerError: nobody has this id.
        ConfigurationError, DatabaseError, EndpointUnreachableError, EndpointFatalError: something is not there.
    """
    with provided_database(settings) as url:
        await asyncio.to_thread(require_current, url)
        with provided_endpoint(settings) as endpoint:
            await require_answer(endpoint)
            async with open_engine(url, connections=ENGINE_CONNECTIONS) as engine:
                run = await plan_run(
                    engine,
                    RunKind.ON_DEMAND,
                    ranker_of(endpoint),
                    slate_size=settings.slate_size,
                    shard_size=1,
                    only=[customer_id],
                )
                async with working_on(engine, run):
                    async with (
                        open_shard_services(settings, url, endpoint, run) as services,
                        aclosing(_rows(customer_id, run, services)) as rows,
                    ):
                        async for row in rows:
                            yield LiveRow(run.run_id, row)
                    await publish(engine, run.run_id)


async def _rows(customer_id: CustomerId, run: Run, services: ShardServices) -> AsyncGenerator[CommittedRecommendation]:
    profiles = await read_profiles(services.engine, [customer_id], run.as_of, services.habits)
    candidates = await services.candidates.candidates(list(profiles.values()))
    async with aclosing(recommend(profiles[customer_id], candidates[customer_id], services.slate)) as rows:
        async for row in rows:
            yield row
