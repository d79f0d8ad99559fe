"""One customer, now: for a trigger or an event. The slate is published as soon as it is complete."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.parameters import OnDemandParameters
from pipeline.database import open_engine
from pipeline.domain import CustomerId, RunId, SlateState
from pipeline.errors import UnknownCustomerError
from pipeline.one_customer import ERASED, customer_run
from pipeline.provided_database import provided_database
from pipeline.reading import ReadSlate, read_slate
from pipeline.settings import Settings, load_settings


@flow(name="on-demand", flow_run_name="on-demand {parameters.customer_id}", persist_result=False)
async def on_demand(parameters: OnDemandParameters) -> State[Any]:
    """Serve the customer; the rows are in the database when this ends, not in the flow's result."""
    settings, customer_id = load_settings(), CustomerId(parameters.customer_id)
    with provided_database(settings) as url:
        run_id = await _serve(customer_id, settings)
        async with open_engine(url, connections=1) as engine:
            slate = await read_slate(engine, customer_id, run_id)
    if slate is None:
        raise UnknownCustomerError(ERASED)
    return verdict(slate)


async def _serve(customer_id: CustomerId, settings: Settings) -> RunId:
    logger = get_run_logger()
    async with customer_run(customer_id, settings) as run:
        async for row in run.rows:
            logger.info("rank %d: %s", row.recommendation.rank, row.recommendation.product_name)
        return run.run_id


def verdict(slate: ReadSlate) -> State[Any]:
    """Prefect's state for what the ledger says of this customer."""
    told = f"customer {slate.customer_id}: {len(slate.rows)} rows committed"
    if slate.state is not SlateState.COMPLETE:
        return Failed(message=f"{told}; the slate is {slate.state}: {slate.reason}")
    return Completed(message=told)
