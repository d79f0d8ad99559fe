"""`respond`: what became of a recommendation, written down by hand or by a shop's own script."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

import typer

from flows.cli.options import AsJson, DatabaseUrl, settings_from
from flows.cli.output import console, notes, print_json
from flows.moments import read_moment
from pipeline.database import open_engine
from pipeline.domain import CustomerId, ProductId, RunId
from pipeline.loading.event_records import ResponseKind
from pipeline.provided_database import provided_database
from pipeline.responses import Recorded, record_response
from pipeline.schema_version import require_current


def respond(
    customer: Annotated[str, typer.Argument(help="The customer's id.")],
    product: Annotated[str, typer.Argument(help="The id of the product that was recommended.")],
    response: Annotated[ResponseKind, typer.Argument(help="What became of it.")],
    run_id: Annotated[
        UUID | None, typer.Option("--run", metavar="RUN", help="The run that recommended it, as readers see it.")
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="The rank at which it was shown.")] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="T", help="When: 2026-12-24, or with a time of day. Default: this moment."),
    ] = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Write down what became of a recommendation.

    The next night reads it: the model is told, and what was refused is left out for a while. `recstream load events`
    takes whole files of responses.

    Example: recstream respond 12345 8 clicked --run 6f1c2f9e-0d0a-4c3e-9a53-0f6f6a1d2b11 --rank 3
    """
    settings = settings_from(database_url=database_url)
    run = None if run_id is None else RunId(run_id)
    occurred_at = None if at is None else read_moment(at, ZoneInfo(settings.time_zone), "--at")
    with provided_database(settings) as url:
        require_current(url)
        recorded = asyncio.run(_record(url, CustomerId(customer), ProductId(product), response, run, rank, occurred_at))
    for remark in _remarks(recorded, run, rank):
        notes().print(f"recstream: {remark}", markup=False)
    if as_json:
        print_json(recorded)
    else:
        console().print(f"{response}, recorded" if recorded.is_new else f"{response}: it was recorded already")
    return 0


def _remarks(recorded: Recorded, run: RunId | None, rank: int | None) -> Iterator[str]:
    """What is to be questioned of a response, which is kept all the same."""
    for unknown in recorded.unknown:
        yield f"no {unknown} of this id is here: it is kept, and not counted until there is one"
    if run is None or "run" in recorded.unknown:
        return
    if recorded.is_early:
        yield f"run {run} was not there yet at that moment: it is kept, and not counted"
    elif recorded.stood_at is None:
        yield f"run {run} has no row that recommends this product to this customer: it is kept, and not counted"
    elif rank not in {None, recorded.stood_at}:
        yield f"run {run} recommended it at rank {recorded.stood_at}, not {rank}: it is kept and counted as you say"


async def _record(
    url: str,
    customer_id: CustomerId,
    product_id: ProductId,
    response: ResponseKind,
    run_id: RunId | None,
    rank: int | None,
    occurred_at: datetime | None,
) -> Recorded:
    async with open_engine(url, connections=1) as engine:
        return await record_response(
            engine, customer_id, product_id, response, run_id=run_id, rank=rank, occurred_at=occurred_at
        )
