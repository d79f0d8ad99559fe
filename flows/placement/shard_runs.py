"""The runs of shards in Prefect: each attempt is sent once, and looked at until it is taken. Servers may be away."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled

from flows.parameters import ShardParameters
from flows.placement.dispatcher import Log
from flows.placement.dispatching import ShardRun, Stage
from pipeline.domain import ShardLease
from pipeline.errors import ConfigurationError, first_line

T = TypeVar("T")
_PAUSE_S: Final = 5.0
_WITHIN_S: Final = 10.0
_CALL_OFF_WITHIN_S: Final = 2.0  # a night that is cancelled has to be gone within seconds
_ASK_LATER: Final = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
_STAGES: Final = {
    StateType.SCHEDULED: Stage.QUEUED,
    StateType.PENDING: Stage.BEGUN,
    StateType.RUNNING: Stage.BEGUN,
    StateType.CANCELLING: Stage.CALLED_OFF,
    StateType.CANCELLED: Stage.CALLED_OFF,
}


@asynccontextmanager
async def open_shard_runs(deployment: str, log: Log) -> AsyncIterator["ShardRuns"]:
    """The way to the workers that serve this deployment."""
    async with get_client() as client:
        yield ShardRuns(client, deployment, log)


class ShardRuns:
    """What the parent asks of Prefect. Where no server answers each question is None, and is not asked for a while.

    Nothing is lost by that: the ledger tells of the shards that are served, and an attempt that is sent twice is there
    once, for it has one idempotency key.
    """

    def __init__(self, client: PrefectClient, deployment: str, log: Log) -> None:
        self._client, self._deployment, self._log = client, deployment, log
        self._away_until = 0.0
        self._is_away = False
        self._pool = ""

    async def send(self, lease: ShardLease, left: Sequence[str], name: str, tags: Sequence[str]) -> ShardRun | None:
        """Have a worker serve this lease, as a run of this name below the one that calls this.

        Raises:
            ConfigurationError: there is no such deployment, or Prefect's server refuses it.
        """

        async def sent() -> ShardRun:
            parameters = ShardParameters(
                run_id=lease.run_id, shard=lease.shard, attempt=lease.attempt, left=tuple(left)
            ).model_dump(mode="json")
            flow_run = await arun_deployment(
                self._deployment,
                client=self._client,
                parameters={"parameters": parameters},
                flow_run_name=name,
                tags=[*tags],
                timeout=0,
                idempotency_key=_key(lease),
            )
            return ShardRun(flow_run.id, Stage.QUEUED, time.monotonic())

        return await self._asked(self._of_the_deployment(sent))

    async def look(self, run: ShardRun) -> ShardRun | None:
        """The same run as it is now.

        Raises:
            ConfigurationError: Prefect's server refuses the question.
        """

        async def read() -> ShardRun:
            try:
                state = (await self._client.read_flow_run(run.flow_run_id)).state
            except ObjectNotFound:
                return ShardRun(run.flow_run_id, Stage.GONE, time.monotonic(), "Prefect knows nothing of it any more")
            stage = Stage.QUEUED if state is None else _STAGES.get(state.type, Stage.GONE)
            told = "" if state is None else f"{state.name}, {state.message or 'without a word'}"
            since = run.since if stage is run.stage else time.monotonic()
            return ShardRun(run.flow_run_id, stage, since, told)

        return await self._asked(read)

    async def count(self) -> int | None:
        """How many workers of the pool are there.

        Raises:
            ConfigurationError: there is no such deployment, it has no pool, or Prefect's server refuses the question.
        """

        async def counted() -> int:
            found = await self._client.read_workers_for_work_pool(await self._pool_of_the_deployment())
            return sum(worker.status is WorkerStatus.ONLINE for worker in found)

        return await self._asked(self._of_the_deployment(counted))

    async def call_off(self, leases: Sequence[ShardLease], reason: str) -> None:
        """Have no worker begin these. Where that cannot be said, whoever begins one finds out in the ledger.

        They are found by their keys: whoever was interrupted while he sent one does not know its run.
        """
        keys = FlowRunFilterIdempotencyKey(any_=[_key(lease) for lease in leases])
        with suppress(httpx.HTTPError, PrefectException, OSError, TimeoutError):
            async with asyncio.timeout(_CALL_OFF_WITHIN_S):
                for run in await self._client.read_flow_runs(flow_run_filter=FlowRunFilter(idempotency_key=keys)):
                    if run.state is None or not run.state.is_final():
                        await self._client.set_flow_run_state(run.id, Cancelled(message=reason), force=True)

    async def tell_of_waiting(self, run: ShardRun, shard: int) -> None:
        """Say what to do where no worker comes."""
        pool = self._pool or "POOL"
        does = f"start one with `prefect worker start --type process --pool {pool}`"
        if await self._is_paused():
            does = f"the work pool is paused, let it go on with `prefect work-pool resume {pool}`"
        waited_s = time.monotonic() - run.since
        self._log.warning(
            "shard %d has waited %.0f s for a worker (%s): %s", shard, waited_s, run.told or "scheduled", does
        )

    async def _is_paused(self) -> bool | None:
        async def asked() -> bool:
            return (await self._client.read_work_pool(await self._pool_of_the_deployment())).is_paused

        return await self._asked(self._of_the_deployment(asked))

    async def _pool_of_the_deployment(self) -> str:
        if not self._pool:
            deployment = await self._client.read_deployment_by_name(self._deployment)
            if deployment.work_pool_name is None:
                raise ConfigurationError(
                    f"the deployment {self._deployment} has no work pool: deploy it to one with `recstream deploy`"
                )
            self._pool = deployment.work_pool_name
        return self._pool

    def _of_the_deployment(self, question: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
        async def asked() -> T:
            try:
                return await question()
            except ObjectNotFound as error:
                raise ConfigurationError(
                    f"there is no deployment {self._deployment} at {self._client.api_url}: "
                    "make it with `recstream deploy`, or set `placement` to here"
                ) from error

        return asked

    async def _asked(self, question: Callable[[], Awaitable[T]]) -> T | None:
        if time.monotonic() < self._away_until:
            return None
        try:
            # Its client would try again for a minute, and the ledger would be looked at by nobody meanwhile.
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                async with asyncio.timeout(_WITHIN_S):
                    answer = await question()
        except (httpx.HTTPError, PrefectException, OSError, TimeoutError) as error:
            self._require_no_refusal(error)
            self._note_away(first_line(error))
            return None
        if self._is_away:
            self._log.info("Prefect's server answers again")
        self._is_away = False
        return answer

    def _require_no_refusal(self, error: Exception) -> None:
        """Raise where the server has answered that it will not: it would say the same for ever."""
        if not isinstance(error, httpx.HTTPStatusError):
            return
        answer = error.response
        if answer.is_client_error and answer.status_code not in _ASK_LATER:
            raise ConfigurationError(
                f"Prefect's server at {self._client.api_url} refuses what is asked for the deployment "
                f"{self._deployment} ({answer.status_code}: {' '.join(answer.text.split())[:300]}): "
                "look at `shard_deployment` and at Prefect's key, and deploy anew with `recstream deploy`"
            ) from error

    def _note_away(self, why: str) -> None:
        self._away_until = time.monotonic() + _PAUSE_S
        if not self._is_away:
            self._log.warning(
                "Prefect's server does not answer (%s): shards that are served go on, others wait until it is back", why
            )
        self._is_away = True


def _key(lease: ShardLease) -> str:
    """One attempt is one run, however often it is sent."""
    return f"{lease.run_id}/{lease.shard}/{lease.attempt}"
