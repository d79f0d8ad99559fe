"""One customer or a list of them, now: for a trigger or an event. It goes before the night where both are limited."""

from functools import partial
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.endings import Ending, ended_in_order
from flows.parameters import OnDemandParameters
from flows.verdicts import verdict_on
from pipeline.customer_list import ListReport, named, serve_customers
from pipeline.database import open_engine
from pipeline.domain import CustomerId, RunId, SlateState
from pipeline.errors import UnknownCustomerError
from pipeline.one_customer import ERASED, customer_run
from pipeline.provided_database import provided_database
from pipeline.reading import ReadSlate, read_slate
from pipeline.settings import Settings, load_settings


@flow(name="on-demand", flow_run_name="{parameters.run_name}", persist_result=False)
async def on_demand(parameters: OnDemandParameters) -> State[Any]:
    """Serve the customers; the rows are in the database when this ends, not in the flow's result."""
    body = _one if parameters.customer_id is not None else _list
    return await ended_in_order(partial(body, parameters))


async def _one(parameters: OnDemandParameters, ending: Ending) -> State[Any]:
    """One customer's slate is published as soon as it is complete."""
    settings, customer_id = load_settings(), parameters.customers[0]
    with provided_database(settings) as url:
        run_id = await _serve(customer_id, settings, partial(ending.cancels, url))
        async with open_engine(url, connections=1) as engine:
            slate = await read_slate(engine, customer_id, run_id)
    if slate is None:
        raise UnknownCustomerError(ERASED)
    return verdict(slate)


async def _serve(customer_id: CustomerId, settings: Settings, begun: partial[None]) -> RunId:
    logger = get_run_logger()
    async with customer_run(customer_id, settings) as run:
        begun(run.run_id)
        async for row in run.rows:
            logger.info("rank %d: %s", row.recommendation.rank, row.recommendation.product_name)
        return run.run_id


async def _list(parameters: OnDemandParameters, ending: Ending) -> State[Any]:
    """The slates of a list are published when its last one is made."""
    settings = load_settings()
    with provided_database(settings) as url:
        return verdict_on_list(await serve_customers(parameters.customers, settings, partial(ending.cancels, url)))


def verdict(slate: ReadSlate) -> State[Any]:
    """Prefect's state for what the ledger says of this customer."""
    told = f"customer {slate.customer_id}: {len(slate.rows)} rows committed"
    if slate.state is not SlateState.COMPLETE:
        return Failed(message=f"{told}; the slate is {slate.state}: {slate.reason}")
    return Completed(message=told)


def verdict_on_list(report: ListReport) -> State[Any]:
    """Prefect's state for what the ledger says of a list: failed where somebody on it has no slate, whyever."""
    summary = report.summary
    wanted = summary.customers + len(report.unknown)
    told = f"run {summary.run_id}: {summary.complete:,} of {wanted:,} customers, {summary.rows:,} rows"
    if report.unknown:
        told += f"; {named(report.unknown)}"
    if report.error is not None:
        return verdict_on(report.error, f"{told}; {summary.reason or report.error}")
    if summary.left:
        return Failed(message=f"{told}; {summary.reason}", data=summary)
    return (Failed if report.unknown else Completed)(message=told, data=summary)
