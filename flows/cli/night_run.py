"""Runs the nightly flow in this process and shows it happening, as the database has it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.cli.output import notes
from flows.cli.progress import NightProgress
from flows.parameters import NightlyParameters
from flows.prefect_server import prefect_server, set_prefect_environment
from pipeline.database import open_engine
from pipeline.domain import CustomerId, RunId
from pipeline.errors import ConfigurationError
from pipeline.reading import database_time, find_run_begun_since
from pipeline.runs import RunSummary, summarise
from pipeline.settings import Settings

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

POLL_S = 0.1


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
    told = Console(quiet=True) if quiet else notes()
    set_prefect_environment(settings.home)
    # The flow runs in a thread of its own: in the main thread Prefect takes over SIGTERM, and a signal would then
    # break into the event loop wherever it is instead of cancelling the run in order.
    with prefect_server(partial(told.print, markup=False)), start_blocking_portal() as portal:
        return asyncio.run(_run_and_watch(portal, url, parameters, NightProgress(told, spotlight)))


async def _run_and_watch(
    portal: BlockingPortal, url: str, parameters: NightlyParameters, progress: NightProgress
) -> RunSummary:
    async with open_engine(url, connections=1) as engine:
        find = partial(_begun_run, engine, parameters, await database_time(engine))
        flow_run = asyncio.wrap_future(portal.start_task_soon(_run_flow, parameters))
        try:
            with progress:
                await _watch(engine, flow_run, find, progress)
            outcome = await (await flow_run).aresult(raise_on_failure=False)
        finally:
            flow_run.cancel()
            await asyncio.gather(flow_run, return_exceptions=True)
        if isinstance(outcome, RunSummary):
            return outcome
        return await _what_became_of(engine, await find(), outcome)


async def _run_flow(parameters: NightlyParameters) -> "State[Any]":
    from flows.nightly import nightly  # noqa: PLC0415 - imports Prefect, whose environment had to be set first

    state: State[Any] = await nightly(parameters, return_state=True)
    return state


async def _begun_run(engine: AsyncEngine, parameters: NightlyParameters, begin: datetime) -> RunId | None:
    return RunId(parameters.resume) if parameters.resume else await find_run_begun_since(engine, begin)


async def _watch(
    engine: AsyncEngine,
    flow_run: "asyncio.Future[State[Any]]",
    find: Callable[[], Awaitable[RunId | None]],
    progress: NightProgress,
) -> None:
    run_id: RunId | None = None
    while not flow_run.done():
        await asyncio.wait({flow_run}, timeout=POLL_S)
        run_id = run_id or await find()
        if run_id is not None:
            await progress.look(engine, run_id)


async def _what_became_of(engine: AsyncEngine, run_id: RunId | None, outcome: object) -> RunSummary:
    """A run that broke off has its reason in the ledger; an error before it began is raised here."""
    summary = None if run_id is None else await summarise(engine, run_id)
    if summary is not None and summary.reason == str(outcome):
        return summary
    if isinstance(outcome, BaseException):
        raise outcome
    raise ConfigurationError(f"Prefect ended the flow without running it: {outcome}")
