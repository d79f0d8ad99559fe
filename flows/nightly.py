"""The night: every active customer gets a ranked slate, and readers see them if the night passes its gates."""

from collections.abc import Collection
from functools import partial
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.after_crash import run_of_crashed
from flows.artifacts import label_night, night_shown
from flows.catch_up import require_in_time, require_unmade
from flows.endings import Ending, ended_in_order
from flows.parameters import NightlyParameters
from flows.placement import placement_of, require_shared
from flows.run_names import coming_night_run_name
from flows.verdicts import verdict_on
from pipeline.domain import RunId, RunState, SlateState
from pipeline.errors import RecstreamError
from pipeline.night import Night, open_night
from pipeline.runs import Run, RunSummary, summarise
from pipeline.settings import load_settings


@flow(name="nightly", flow_run_name=coming_night_run_name, persist_result=False)
async def nightly(parameters: NightlyParameters | None = None) -> State[Any]:
    """Plan the night (or take up an earlier one), have its shards served, and say truly how it ended."""
    return await ended_in_order(partial(_night, parameters or NightlyParameters()))


async def _night(wanted: NightlyParameters, ending: Ending) -> State[Any]:
    settings = load_settings()
    require_shared(settings)
    if not wanted.resume:
        await require_in_time(settings)
    async with open_night(settings) as night:
        run, remark = await _run_of(night, wanted)
        error = await _broken_off(night, run, wanted.left, ending) if run.state is not RunState.FINISHED else None
        return verdict(await summarise(night.engine, run.run_id), remark, error)


async def _run_of(night: Night, wanted: NightlyParameters) -> tuple[Run, str | None]:
    """The run that is wanted, one that was interrupted lately, or a new one; and what is to be said of that."""
    log = get_run_logger()
    crashed = await run_of_crashed(night, wanted.crashed) if wanted.crashed else None
    if crashed is not None:
        return crashed
    if wanted.resume:
        return await night.take_up(RunId(wanted.resume)), None
    await require_unmade(night.settings, night.engine)
    former = await night.interrupted() if wanted.is_any_night else None
    if former is not None:
        told = f"gone on with since it was interrupted, planned at {former.created_at:%Y-%m-%d %H:%M} UTC"
        log.warning("run %s is %s", former.run_id, told)
        return former, told
    remark = await night.build_candidates(log.info)
    return await night.plan(wanted.limit, refresh=wanted.refresh), remark


async def _broken_off(night: Night, run: Run, left: Collection[SlateState], ending: Ending) -> RecstreamError | None:
    """Have the shards served; returns what ended the run before its end, if something did. The ledger knows it."""
    try:
        async with night_shown(night, run), night.answering_for(run):
            ending.cancels(night.url, run.run_id)  # not before it has begun: it takes no order until then
            await label_night(night, run)
            await placement_of(night)(night, run, left)
    except RecstreamError as error:
        return error
    return None


def verdict(summary: RunSummary, remark: str | None = None, error: RecstreamError | None = None) -> State[Any]:
    """Prefect's state for what the ledger says: failed too where its gates keep the night from its readers.

    The remark is on what the night went on without, the error on what ended it.
    """
    told = f"run {summary.run_id}: {summary.complete:,} of {summary.customers:,} customers, {summary.rows:,} rows"
    if summary.unchanged:
        told += f", {summary.unchanged:,} skipped (unchanged)"
    if remark is not None:
        told += f"; {remark}"
    if error is not None:
        return verdict_on(error, f"{told}; {summary.reason or error}")
    if summary.left or summary.kept_back:
        return Failed(message=f"{told}; {summary.reason}", data=summary)
    return Completed(message=told, data=summary)
