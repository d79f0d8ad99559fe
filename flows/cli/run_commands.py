"""`run`, `resume` and `status`: the night by hand, and what has become of one."""

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from flows.cli.exits import UNFINISHED
from flows.cli.night_run import run_night
from flows.cli.options import AsJson, BaseUrl, DatabaseUrl, Model, Quiet, settings_from
from flows.cli.output import console, notes, print_json, summary_table
from flows.parameters import NightlyParameters
from pipeline.database import open_engine
from pipeline.domain import RunId, RunState
from pipeline.errors import InputError
from pipeline.provided_database import provided_database
from pipeline.runs import RunSummary, find_run, summarise
from pipeline.schema import require_current

RunArgument = Annotated[UUID | None, typer.Argument(help="The run's id; the newest nightly run by default.")]
Concurrency = Annotated[int | None, typer.Option(help="How many answers may stream at a time.")]
SlateSize = Annotated[int | None, typer.Option(help="How many recommendations for each customer.")]


def run(
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many customers.")] = None,
    concurrency: Concurrency = None,
    slate_size: SlateSize = None,
    database_url: DatabaseUrl = None,
    base_url: BaseUrl = None,
    model: Model = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Run the night now.

    A slate for every active customer, through Prefect, with progress on stderr.

    Example: recstream run --limit 100
    """
    settings = settings_from(
        concurrency=concurrency,
        slate_size=slate_size,
        database_url=database_url,
        openai_base_url=base_url,
        model=model,
    )
    with provided_database(settings) as url:
        require_current(url)
        summary = run_night(settings, url, NightlyParameters(limit=limit), quiet=quiet)
    return _tell(summary, as_json=as_json)


def resume(
    run_id: RunArgument = None,
    concurrency: Concurrency = None,
    database_url: DatabaseUrl = None,
    base_url: BaseUrl = None,
    model: Model = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Go on with a run that did not finish.

    Only with the customers whose slates are not complete, from the rows that are there.

    Example: recstream resume
    """
    settings = settings_from(concurrency=concurrency, database_url=database_url, openai_base_url=base_url, model=model)
    with provided_database(settings) as url:
        require_current(url)
        before = asyncio.run(_summary(url, run_id))
        if before.left == 0 and before.state is RunState.FINISHED:
            notes().print("recstream: nothing to resume, every customer of this run has a complete slate")
            return _tell(before, as_json=as_json)
        summary = run_night(settings, url, NightlyParameters(resume=before.run_id), quiet=quiet)
    return _tell(summary, as_json=as_json)


def status(run_id: RunArgument = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> int:
    """Show what a run has come to.

    Example: recstream status --json
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        summary = asyncio.run(_summary(url, run_id))
    if as_json:
        print_json(summary)
    else:
        console().print(summary_table(summary))
    return 0


async def _summary(url: str, run_id: UUID | None) -> RunSummary:
    async with open_engine(url, connections=1) as engine:
        found = await find_run(engine, None if run_id is None else RunId(run_id))
        if found is None:
            wanted = "no nightly run yet" if run_id is None else f"no run {run_id}"
            raise InputError(f"there is {wanted}: start one with `recstream run`")
        return await summarise(engine, found.run_id)


def _tell(summary: RunSummary, *, as_json: bool) -> int:
    if as_json:
        print_json(summary)
    else:
        console().print(summary_table(summary))
    if not summary.left:
        return 0
    notes().print(f"recstream: run {summary.run_id} {summary.state}: {summary.reason}", markup=False)
    return UNFINISHED
