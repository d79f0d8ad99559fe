"""What the bench asks of Prefect's server, as its page does: plain HTTP, so that Prefect is not in our process."""

import asyncio
import json
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import URLError
from uuid import uuid4

from pipeline.errors import UnfinishedRunError

_WITHIN_S: Final = 20.0
_TIMES: Final = 4
_PAUSE_S: Final = 0.5
_BY_ITSELF: Final = ("nightly/nightly", "housekeeping/housekeeping")  # they have schedules


@dataclass(frozen=True, slots=True)
class PrefectApi:
    """The server whose API is at this address."""

    url: str

    async def answers(self) -> bool:
        """Whether it is up."""
        try:
            return await self._asked_once("/health") is True
        except UnfinishedRunError:
            return False

    async def rest(self) -> None:
        """Have nothing begin by itself: a schedule that comes due would take a worker away."""
        for name in _BY_ITSELF:
            await self._ask(f"/deployments/{await self._deployment(name)}/pause_deployment", {})

    async def workers(self, pool: str) -> set[str]:
        """The names of the pool's workers that are there, or were lately."""
        found = await self._ask(f"/work_pools/{pool}/workers/filter", {})
        return {worker["name"] for worker in found if worker["status"] == "ONLINE"}

    async def begin(self, deployment: str, parameters: Mapping[str, object]) -> str:
        """Trigger a run of it; returns the flow run's id."""
        asked = {"parameters": {"parameters": parameters}, "idempotency_key": str(uuid4())}
        begun = await self._ask(f"/deployments/{await self._deployment(deployment)}/create_flow_run", asked)
        return str(begun["id"])

    async def cancel(self, flow_run_id: str) -> None:
        """As the page's button does."""
        state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        await self._ask(f"/flow_runs/{flow_run_id}/set_state", state)

    async def state(self, flow_run_id: str) -> str:
        """The type of the state that the flow run is in."""
        return str((await self._ask(f"/flow_runs/{flow_run_id}"))["state_type"])

    async def process_of(self, run: str, shard: int, attempt: int) -> int | None:
        """The process that serves this attempt at a shard, as soon as its worker has told."""
        key = {"idempotency_key": {"any_": [f"{run}/{shard}/{attempt}"]}}
        for found in await self._ask("/flow_runs/filter", {"flow_runs": key}):
            if found["infrastructure_pid"]:
                return int(found["infrastructure_pid"].rpartition(":")[2])
        return None

    async def _deployment(self, name: str) -> str:
        return str((await self._ask(f"/deployments/name/{name}"))["id"])

    async def _ask(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """As Prefect's own client does, again where a server whose SQLite is locked refuses or lets one wait."""
        for _ in range(_TIMES - 1):
            with suppress(UnfinishedRunError):
                return await self._asked_once(path, body)
            await asyncio.sleep(_PAUSE_S)
        return await self._asked_once(path, body)

    async def _asked_once(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        return await asyncio.to_thread(self._asked, path, body)

    def _asked(self, path: str, body: Mapping[str, object] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        try:
            with _DIRECT.open(request, timeout=_WITHIN_S) as answer:
                said = answer.read()
        except (URLError, OSError) as error:
            raise UnfinishedRunError(f"Prefect's server does not answer {path}: {error}") from error
        return json.loads(said) if said else None


_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
