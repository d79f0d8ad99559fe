"""Runs the nightly flow in this process and shows it happening, as the database has it."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.cli.output import notes
from flows.cli.own_thread import own_thread
from flows.cli.progress import NightProgress
from flows.parameters import NightlyParameters
from flows.prefect_server import prefect_server, set_prefect_environment
from flows.run_names import TAG
from pipeline.database import open_engine, server_time
from pipeline.domain import CustomerId, RunId
from pipeline.errors import ConfigurationError, DatabaseUnavailableError, UnfinishedRunError
from pipeline.reading import find_run_begun_since
from pipeline.runs import RunSummary, summarise
from pipeline.settings import Settings
from pipeline.variants import load_variants

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

POLL_S = 0.1
FindRun = Callable[[AsyncEngine], Awaitable[RunId | None]]


def run_night(
    settings: Settings,
    url: str,
    parameters: NightlyParameters,
    *,
    quiet: bool = False,
    spotlight: CustomerId | None = None,
) -> RunSummary:
    """Run the flow to its end and return what it came to; `spotlight` is a customer whose rows are shown one by one.

    Raises:
        RecstreamError: the run could not begin.
    """
    load_variants(settings.prompt, settings.variants)  # what is wrong with a template is said before a server starts
    told = Console(quiet=True) if quiet else notes()
    set_prefect_environment(settings.home)
    # The flow runs in a thread of its own: in the main thread Prefect takes over SIGTERM, and a signal would then
    # break into the event loop wherever it is instead of cancelling the run in order.
    begin = server_time(url)
    with prefect_server(partial(told.print, markup=False)), own_thread(partial(_run_flow, parameters)) as flow_run:
        find = partial(_begun_run, parameters, begin)
        return asyncio.run(_watch_to_the_end(flow_run, url, find, NightProgress(told, spotlight)))


async def _run_flow(parameters: NightlyParameters) -> "State[Any]":
    from prefect import tags  # noqa: PLC0415 - imports Prefect, whose environment had to be set first

    from flows.nightly import nightly  # noqa: PLC0415 - as above

    with tags(TAG):
        state: State[Any] = await nightly(parameters, return_state=True)
    return state


async def _watch_to_the_end(
    flow_run: "Future[State[Any]]", url: str, find: FindRun, progress: NightProgress
) -> RunSummary:
    async with open_engine(url, connections=1) as engine:
        with progress:
            run_id = await _watch(engine, flow_run, find, progress)
        outcome = await flow_run.result().aresult(raise_on_failure=False)
        if isinstance(outcome, RunSummary):
            return outcome
        return await _what_became_of(engine, run_id, outcome)


async def _begun_run(parameters: NightlyParameters, begin: datetime, engine: AsyncEngine) -> RunId | None:
    return RunId(parameters.resume) if parameters.resume else await find_run_begun_since(engine, begin)


async def _watch(
    engine: AsyncEngine,
    flow_run: "Future[State[Any]]",
    find: FindRun,
    progress: NightProgress,
) -> RunId | None:
    """Look until the flow has ended, and once more; returns the run, if it came to one."""
    run_id: RunId | None = None
    ended = False
    while not ended:
        await asyncio.sleep(POLL_S)
        ended = flow_run.done()
        # Whether a database that went away ends the night is for the flow to say, not for who watches it.
        with suppress(DatabaseUnavailableError):
            run_id = run_id or await find(engine)
            if run_id is not None:
                await progress.look(engine, run_id, last=ended)
    return run_id


async def _what_became_of(engine: AsyncEngine, run_id: RunId | None, outcome: object) -> RunSummary:
    """A run that broke off has its reason in the ledger; an error before its first row is raised here."""
    if run_id is not None and isinstance(outcome, DatabaseUnavailableError):
        raise UnfinishedRunError(f"{outcome}; then `recstream resume` goes on with run {run_id}") from outcome
    summary = None if run_id is None else await summarise(engine, run_id)
    if summary is not None and summary.rows and (summary.reason or "").startswith(str(outcome)):
        return summary
    if isinstance(outcome, BaseException):
        raise outcome
    raise ConfigurationError(f"Prefect ended the flow without running it: {outcome}")
