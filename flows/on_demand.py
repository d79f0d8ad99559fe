"""One customer, now: for a trigger or an event. The slate is published as soon as it is complete."""

from contextlib import aclosing
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.parameters import OnDemandParameters
from pipeline.database import open_engine
from pipeline.domain import CustomerId, SlateState
from pipeline.one_customer import serve_customer
from pipeline.provided_database import provided_database
from pipeline.reading import ReadSlate, read_newest_slate
from pipeline.settings import Settings, load_settings


@flow(name="on-demand", flow_run_name="on-demand {parameters.customer_id}", persist_result=False)
async def on_demand(parameters: OnDemandParameters) -> State[Any]:
    """Serve the customer; the rows are in the database when this ends, not in the flow's result."""
    settings, customer_id = load_settings(), CustomerId(parameters.customer_id)
    with provided_database(settings) as url:
        await _serve(customer_id, settings)
        async with open_engine(url, connections=1) as engine:
            slate = await read_newest_slate(engine, customer_id)
    assert slate is not None  # noqa: S101 - serving him made one
    return verdict(slate)


async def _serve(customer_id: CustomerId, settings: Settings) -> None:
    logger = get_run_logger()
    async with aclosing(serve_customer(customer_id, settings)) as live:
        async for row in live:
            recommendation = row.committed.recommendation
            logger.info("rank %d: %s", recommendation.rank, recommendation.product_name)


def verdict(slate: ReadSlate) -> State[Any]:
    """Prefect's state for what the ledger says of this customer."""
    told = f"customer {slate.customer_id}: {len(slate.rows)} rows committed"
    if slate.state is not SlateState.COMPLETE:
        return Failed(message=f"{told}; the slate is {slate.state}: {slate.reason}")
    return Completed(message=told)
