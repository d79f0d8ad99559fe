"""Serves the shards of a night as tasks of a Dask cluster, through Prefect's own task runner for it."""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows.parameters import ShardParameters
from flows.placement.dispatcher import Log, dispatch
from flows.placement.dispatching import ShardRun, Stage
from flows.shard import serve_shard_offered
from pipeline.domain import ShardLease, SlateState
from pipeline.errors import ConfigurationError
from pipeline.night import Night
from pipeline.runs import Run
from pipeline.settings import Settings

if TYPE_CHECKING:
    from prefect_dask import DaskTaskRunner
    from prefect_dask.task_runners import PrefectDaskFuture


async def serve_in_dask(night: Night, run: Run, left: Collection[SlateState]) -> None:
    """Offer every shard with such slates to the cluster: see `dispatch`.

    Raises:
        ConfigurationError: Dask is not installed, or nobody answers at its address.
        RecstreamError: what ended the run before all was served.
    """
    log = get_run_logger()
    with _cluster(night.settings) as runner:
        await dispatch(night, run, left, DaskWorkers(runner, log), log)


# Dask does a task of a dead worker again: that one finds its shard taken, and the ledger has the parent offer another.
@task(name="shard", cache_policy=NO_CACHE, persist_result=False, retries=0)
async def shard_in_dask(parameters: ShardParameters) -> State[Any]:
    """Serve the customers of the shard that are left; how that ended stands in the ledger."""
    return await serve_shard_offered(parameters)


class DaskWorkers:
    """What the parent asks of the cluster: a task for each attempt, and whether it has begun or ended."""

    def __init__(self, runner: "DaskTaskRunner", log: Log) -> None:
        self._runner, self._log = runner, log
        self._sent: dict[UUID, PrefectDaskFuture[Any]] = {}
        self._leases: dict[ShardLease, UUID] = {}

    async def send(self, lease: ShardLease, left: Sequence[str], name: str, tags: Sequence[str]) -> ShardRun | None:
        """Have a worker of the cluster serve this lease."""
        parameters = ShardParameters(
            run_id=lease.run_id, shard=lease.shard, attempt=lease.attempt, left=tuple(map(SlateState, left))
        )
        named = shard_in_dask.with_options(task_run_name=name, tags=tags)
        future = await asyncio.to_thread(self._runner.submit, named, {"parameters": parameters})
        self._sent[future.task_run_id] = future
        self._leases[lease] = future.task_run_id
        return ShardRun(future.task_run_id, Stage.QUEUED, time.monotonic())

    async def look(self, run: ShardRun) -> ShardRun | None:
        """The same task as it is now. Dask does not tell whether one has begun: the ledger does."""
        status = self._sent[run.flow_run_id].wrapped_future.status
        if status == "pending":
            return run
        return ShardRun(run.flow_run_id, Stage.GONE, time.monotonic(), f"Dask has it as {status}")

    async def count(self) -> int | None:
        """How many threads the cluster's workers have: each serves one shard at a time."""
        threads: Mapping[str, int] = await asyncio.to_thread(self._runner.client.nthreads)
        return sum(threads.values())

    async def call_off(self, leases: Sequence[ShardLease], reason: str) -> None:
        """Have nobody begin these. One that was not sent to its end finds out in the ledger."""
        for task_run_id in [self._leases[lease] for lease in leases if lease in self._leases]:
            self._log.info("task run %s is called off: %s", task_run_id, reason)
            await asyncio.to_thread(self._sent[task_run_id].wrapped_future.cancel)

    async def tell_of_waiting(self, run: ShardRun, shard: int) -> None:
        """Say what to do where nobody comes."""
        self._log.warning(
            "shard %d has waited %.0f s for a worker of the Dask cluster: start one with `dask worker ADDRESS`",
            shard,
            time.monotonic() - run.since,
        )


@contextmanager
def _cluster(settings: Settings) -> Iterator["DaskTaskRunner"]:
    """The cluster that is set, or one of this machine: a process for each shard that is served at a time.

    Raises:
        ConfigurationError: Dask is not installed, or nobody answers at its address.
    """
    try:
        from prefect_dask import DaskTaskRunner  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            "placement = 'dask' needs the extra dask: `pip install 'recstream[dask]'`, or set `placement` to pool"
        ) from None
    ours = {"n_workers": settings.shards_at_once, "threads_per_worker": 1, "dashboard_address": None}
    kwargs = {"address": settings.dask_address} if settings.dask_address else {"cluster_kwargs": ours}
    with DaskTaskRunner(**kwargs) as runner:
        try:
            runner.client.nthreads()  # it connects when it is asked for the first time
        except (OSError, TimeoutError) as error:
            raise ConfigurationError(
                f"no Dask scheduler answers at {settings.dask_address}: start it, or mend `dask_address`"
            ) from error
        yield runner
