"""`run`, `resume`, `retry-failed`, `status` and `runs`: the night by hand, and what has become of it."""

import asyncio
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.cli.exits import UNFINISHED
from flows.cli.night_run import run_night
from flows.cli.options import AsJson, BaseUrl, DatabaseUrl, Model, Quiet, settings_from
from flows.cli.output import console, notes, print_json, summary_table
from flows.cli.run_lines import print_runs
from flows.parameters import NightlyParameters
from pipeline.database import open_engine
from pipeline.domain import RunId, RunState
from pipeline.errors import InputError
from pipeline.orders import StandingOrders, read_standing
from pipeline.provided_database import provided_database
from pipeline.resuming import require_rows
from pipeline.run_list import RunLine, last_runs
from pipeline.runs import Run, RunSummary, find_run, summarise
from pipeline.schema_version import require_current

RunArgument = Annotated[UUID | None, typer.Argument(help="The run's id; the newest nightly run by default.")]
Concurrency = Annotated[int | None, typer.Option(help="How many answers may stream at a time.")]
SlateSize = Annotated[int | None, typer.Option(help="How many recommendations for each customer.")]


def run(
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many customers.")] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Make every slate anew, also where nothing has changed.")
    ] = False,
    concurrency: Concurrency = None,
    slate_size: SlateSize = None,
    database_url: DatabaseUrl = None,
    base_url: BaseUrl = None,
    model: Model = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Run the night now.

    A slate for every active customer, through Prefect, with progress on stderr. Who has a slate already, and of whom
    nothing has changed since it was made, keeps it: nobody is asked for him. It is always a new run: `recstream resume`
    goes on with one that was interrupted.

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
        if not quiet:
            asyncio.run(_tell_of_interrupted(url))
        summary = run_night(settings, url, NightlyParameters(limit=limit, refresh=refresh, anew=True), quiet=quiet)
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
        before = asyncio.run(_resumable(url, run_id))
        if before.left == 0 and before.state is RunState.FINISHED:
            notes().print("recstream: nothing to resume, every customer of this run has a complete slate")
            return _tell(before, as_json=as_json)
        summary = run_night(settings, url, NightlyParameters(resume=before.run_id), quiet=quiet)
    return _tell(summary, as_json=as_json)


def retry_failed(
    run_id: RunArgument = None,
    concurrency: Concurrency = None,
    database_url: DatabaseUrl = None,
    base_url: BaseUrl = None,
    model: Model = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Try the customers of a run again who got nothing.

    Only those whose slates failed, or were begun by a process that died; short slates and those that were not served
    are left as they are, for `resume`.

    Example: recstream retry-failed
    """
    settings = settings_from(concurrency=concurrency, database_url=database_url, openai_base_url=base_url, model=model)
    with provided_database(settings) as url:
        require_current(url)
        before = asyncio.run(_resumable(url, run_id))
        if not before.failed:
            notes().print(f"recstream: nothing to retry, no slate of run {before.run_id} has failed")
            _show(before, as_json=as_json)
            return 0
        wanted = NightlyParameters(resume=before.run_id, only="failed")
        summary = run_night(settings, url, wanted, quiet=quiet)
    return _tell(summary, as_json=as_json)


def status(run_id: RunArgument = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> int:
    """Show what a run has come to.

    Example: recstream status --json
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        summary, standing = asyncio.run(_summary(url, run_id))
    if as_json:
        print_json({**asdict(summary), "standing_orders": standing})
        return 0
    _show(summary, as_json=False)
    for line in standing.lines():
        console().print(line, markup=False)
    return 0


def runs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 10,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> int:
    """Show the last runs, the newest first, by the shop's clock (`time_zone`).

    Example: recstream runs --limit 3
    """
    settings = settings_from(database_url=database_url)
    with provided_database(settings) as url:
        require_current(url)
        lines = asyncio.run(_last_runs(url, limit))
    if as_json:
        print_json(lines)
    elif lines:
        print_runs(lines, settings.time_zone, console())
    else:
        notes().print("recstream: there is no run yet: start one with `recstream run`")
    return 0


async def _last_runs(url: str, limit: int) -> list[RunLine]:
    async with open_engine(url, connections=1) as engine:
        return await last_runs(engine, limit)


async def _summary(url: str, run_id: UUID | None) -> tuple[RunSummary, StandingOrders]:
    async with open_engine(url, connections=1) as engine:
        found = (await _found(engine, run_id)).run_id
        summary, standing = await summarise(engine, found), await read_standing(engine, found)
    return summary, standing if summary.state.goes_on else standing.outliving()


async def _tell_of_interrupted(url: str) -> None:
    """Somebody who starts a run may have meant to go on with the last one."""
    async with open_engine(url, connections=1) as engine:
        last = await find_run(engine, None)
    if last is not None and (last.interrupted or last.state is RunState.CANCELLED):
        notes().print(
            f"recstream: a new run; `recstream resume {last.run_id}` goes on with the last, which was broken off",
            markup=False,
        )


async def _resumable(url: str, run_id: UUID | None) -> RunSummary:
    async with open_engine(url, connections=1) as engine:
        found = await _found(engine, run_id)
        require_rows(found)
        return await summarise(engine, found.run_id)


async def _found(engine: AsyncEngine, run_id: UUID | None) -> Run:
    found = await find_run(engine, None if run_id is None else RunId(run_id))
    if found is None:
        wanted = "no nightly run yet" if run_id is None else f"no run {run_id}"
        raise InputError(f"there is {wanted}: start one with `recstream run`")
    return found


def _tell(summary: RunSummary, *, as_json: bool) -> int:
    _show(summary, as_json=as_json)
    if not summary.left and not summary.kept_back:
        return 0
    notes().print(f"recstream: run {summary.run_id} {summary.state}: {summary.reason}", markup=False)
    return UNFINISHED


def _show(summary: RunSummary, *, as_json: bool) -> None:
    if as_json:
        print_json(summary)
    else:
        console().print(summary_table(summary))
