"""Serves the shards of a night through workers of a Prefect work pool, on any number of machines."""

from collections.abc import Collection

from prefect import get_run_logger

from flows.placement.dispatcher import dispatch
from flows.placement.shard_runs import open_shard_runs
from pipeline.domain import SlateState
from pipeline.night import Night
from pipeline.runs import Run


async def serve_in_pool(night: Night, run: Run, left: Collection[SlateState]) -> None:
    """Offer every shard with such slates to the pool: see `dispatch`.

    Raises:
        ConfigurationError: there is no deployment to run.
        RecstreamError: what ended the run before all was served.
    """
    log = get_run_logger()
    async with open_shard_runs(night.settings.shard_deployment, log) as runs:
        await dispatch(night, run, left, runs, log)
