"""The night: every active customer gets a ranked slate, and readers see them if the night passes its gates."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.parameters import NightlyParameters
from pipeline.domain import RunId, RunState
from pipeline.night import Night, open_night
from pipeline.runs import Run, RunSummary, shards_of, summarise
from pipeline.services import RunServices
from pipeline.settings import load_settings
from pipeline.shards import serve_shard


@flow(name="nightly", flow_run_name="nightly", persist_result=False)
async def nightly(parameters: NightlyParameters | None = None) -> State[Any]:
    """Plan the shards (or take up an earlier run's), serve one after another, and say truly how it ended."""
    wanted = parameters or NightlyParameters()
    async with open_night(load_settings()) as night:
        remark = None if wanted.resume else await night.build_candidates(get_run_logger().info)
        run = await night.take_up(RunId(wanted.resume)) if wanted.resume else await _planned(night, wanted)
        if run.state is not RunState.FINISHED:
            async with night.working_on(run) as services:
                for shard, customers in (await shards_of(night.engine, run, wanted.left)).items():
                    named = recommend_shard.with_options(task_run_name=f"shard {shard}: {customers} customers")
                    await named(services, run, shard, wanted)
        return verdict(await summarise(night.engine, run.run_id), remark)


async def _planned(night: Night, wanted: NightlyParameters) -> Run:
    return await night.plan(wanted.limit, refresh=wanted.refresh)


@task(name="recommend-shard", cache_policy=NO_CACHE, persist_result=False, retries=0)
async def recommend_shard(services: RunServices, run: Run, shard: int, wanted: NightlyParameters) -> State[Any]:
    """Thousands of customers in one task: inside it is one event loop with hundreds of streams."""
    report = await serve_shard(run, shard, services, wanted.left)
    told = f"shard {shard}: {report.customers:,} customers, {report.rows:,} rows committed"
    get_run_logger().info(told)
    return Completed(message=told)


def verdict(summary: RunSummary, remark: str | None = None) -> State[Any]:
    """Prefect's state for what the ledger says: failed too where its gates keep the night from its readers.

    The remark is on what the night went on without.
    """
    told = f"run {summary.run_id}: {summary.complete:,} of {summary.customers:,} customers, {summary.rows:,} rows"
    if summary.unchanged:
        told += f", {summary.unchanged:,} skipped (unchanged)"
    if remark is not None:
        told += f"; {remark}"
    if summary.left or summary.kept_back:
        return Failed(message=f"{told}; {summary.reason}", data=summary)
    return Completed(message=told, data=summary)
