"""One customer, now: for a trigger or an event. The slate is published as soon as it is complete."""

from contextlib import aclosing
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import OnDemandParameters
from pipeline.domain import CustomerId
from pipeline.one_customer import serve_customer
from pipeline.settings import load_settings


@flow(name="on-demand", flow_run_name="on-demand {parameters.customer_id}", persist_result=False)
async def on_demand(parameters: OnDemandParameters) -> State[Any]:
    """Serve the customer; the rows are in the database when this ends, not in the flow's result."""
    logger, rows = get_run_logger(), 0
    async with aclosing(serve_customer(CustomerId(parameters.customer_id), load_settings())) as live:
        async for row in live:
            rows += 1
            recommendation = row.committed.recommendation
            logger.info("rank %d: %s", recommendation.rank, recommendation.product_name)
    return Completed(message=f"customer {parameters.customer_id}: {rows} rows committed")
