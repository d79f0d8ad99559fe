"""`recommend` and `show`: one customer's slate, made now or read."""

import asyncio
import time
from typing import Annotated

import typer

from flows.cli.exits import UNFINISHED
from flows.cli.options import AsJson, BaseUrl, DatabaseUrl, Model, settings_from
from flows.cli.output import OFFLINE_REMARK, console, notes, print_json, row_line, slate_document, slate_table
from pipeline.database import open_engine
from pipeline.domain import CommittedRecommendation, CustomerId, RunId, SlateState
from pipeline.errors import UnknownCustomerError
from pipeline.provided_database import provided_database
from pipeline.reading import ReadSlate, SlateRow, read_current_slate, read_slate
from pipeline.schema_version import require_current
from pipeline.settings import Settings

Customer = Annotated[str, typer.Argument(help="The customer's id.")]


def recommend(
    customers: Annotated[list[str], typer.Argument(metavar="CUSTOMER…", help="The customer's id, or several.")],
    database_url: DatabaseUrl = None,
    base_url: BaseUrl = None,
    model: Model = None,
    as_json: AsJson = False,
) -> int:
    """Make a slate for one customer now, or for several in one run.

    Of one customer each row is shown when it is committed, and the slate is published when it is complete.

    Example: recstream recommend 12345
    """
    settings = settings_from(database_url=database_url, openai_base_url=base_url, model=model)
    with provided_database(settings) as url:
        if len(customers) > 1:
            return _recommend_list([CustomerId(it) for it in customers], settings, url, as_json=as_json)
        customer_id = CustomerId(customers[0])
        run_id = asyncio.run(_recommend(customer_id, settings, quiet=as_json))
        slate = asyncio.run(_slate(url, customer_id, run_id))
    if as_json:
        print_json(slate_document(slate))
    elif slate.state is SlateState.COMPLETE:
        _tell_times(slate)
    if slate.state is SlateState.COMPLETE:
        return 0
    notes().print(f"recstream: the slate is {slate.state}: {slate.reason}", markup=False)
    return UNFINISHED


def show(
    customer: Customer,
    live: Annotated[
        bool, typer.Option("--live", help="The rows of the newest run, published or not, as they are now.")
    ] = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Show a customer's published slate.

    With --live, the rows of a run in progress.

    Example: recstream show 12345 --json
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        slate = asyncio.run(_published_or_live(url, CustomerId(customer), live=live))
    if as_json:
        print_json(slate_document(slate))
        return 0
    console().print(slate_table(slate))
    console().print(_provenance(slate), markup=False)
    return 0


async def _recommend(customer_id: CustomerId, settings: Settings, *, quiet: bool) -> RunId:
    from pipeline.one_customer import customer_run  # noqa: PLC0415 - imports the HTTP client, which `show` does without

    begin = time.monotonic()
    async with customer_run(customer_id, settings) as run:
        async for row in run.rows:
            if not quiet:
                console().print(row_line(_shown(row), time.monotonic() - begin), markup=False)
        return run.run_id


def _recommend_list(customer_ids: list[CustomerId], settings: Settings, url: str, *, as_json: bool) -> int:
    from pipeline.customer_list import named, serve_customers  # noqa: PLC0415 - imports the HTTP client, as above

    report = asyncio.run(serve_customers(customer_ids, settings))
    known = [it for it in dict.fromkeys(customer_ids) if it not in report.unknown]
    slates = asyncio.run(_slates(url, known, RunId(report.summary.run_id)))
    if as_json:
        print_json({"slates": [slate_document(slate) for slate in slates], "unknown": report.unknown})
    else:
        for slate in slates:
            console().print(f"customer {slate.customer_id}: {len(slate.rows)} rows, {slate.state}", markup=False)
    if report.unknown:
        notes().print(f"recstream: {named(report.unknown)}", markup=False)
    if report.summary.left:
        notes().print(f"recstream: {report.summary.reason}", markup=False)
    return UNFINISHED if report.unknown or report.summary.left else 0


async def _slates(url: str, customer_ids: list[CustomerId], run_id: RunId) -> list[ReadSlate]:
    async with open_engine(url, connections=1) as engine:
        found = [await read_slate(engine, customer_id, run_id) for customer_id in customer_ids]
    return [slate for slate in found if slate is not None]  # who was erased meanwhile has none


def _shown(row: CommittedRecommendation) -> SlateRow:
    placed = row.recommendation
    return SlateRow(placed.rank, placed.product_id, placed.product_name, placed.relevance_score, row.committed_at)


async def _slate(url: str, customer_id: CustomerId, run_id: RunId | None = None) -> ReadSlate:
    """The customer's slate of this run, or of the newest one."""
    async with open_engine(url, connections=1) as engine:
        slate = await read_slate(engine, customer_id, run_id)
    if slate is None:
        raise UnknownCustomerError(f"customer {customer_id!r} has no slate in any run: `recstream recommend` makes one")
    return slate


async def _published_or_live(url: str, customer_id: CustomerId, *, live: bool) -> ReadSlate:
    """The published slate, or with `live` that of the newest run.

    Raises:
        UnknownCustomerError: nobody has this id, or he has no such slate.
    """
    if live:
        return await _slate(url, customer_id)
    async with open_engine(url, connections=1) as engine:
        slate = await read_current_slate(engine, customer_id)
    if slate is None:
        raise UnknownCustomerError(
            f"customer {customer_id!r} has no published slate: make one with `recstream recommend {customer_id}`, "
            "or see a run in progress with --live"
        )
    return slate


def _tell_times(slate: ReadSlate) -> None:
    if slate.first_row_s is not None and slate.whole_s is not None:
        console().print(
            f"first recommendation committed after {slate.first_row_s:.2f} s, "
            f"the whole slate after {slate.whole_s:.2f} s"
        )
    console().print(_provenance(slate), markup=False)


_REMARKS = {
    "offline_ranker": f" {OFFLINE_REMARK}",
    "retrieval_order": " No model answered: these are candidates in the order in which they were found.",
}


def _provenance(slate: ReadSlate) -> str:
    seen = f"published {slate.published_at:%Y-%m-%d %H:%M} UTC" if slate.published_at else f"slate {slate.state}"
    remark = _REMARKS.get(slate.provenance or "", "")
    return f"Run {slate.run_id}, {seen}.{remark}"
