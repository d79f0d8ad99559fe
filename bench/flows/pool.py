"""A work pool of Prefect's, with the deployments in it, and its real workers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bench.flows.prefect import Prefect
from bench.flows.waiting import until
from bench.limits.workers import Worker, output_of, started

_ONLINE_WITHIN_S = 120.0


@dataclass(slots=True)
class Pool:
    """Make it with `deployed`. Its workers serve one flow run at a time, with these settings.

    A worker starts what it serves in a session of its own: who kills a worker alone leaves that behind.
    """

    name: str
    prefect: Prefect
    folder: Path
    environment: Mapping[str, str]
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def worker(self, name: str | None = None) -> AbstractAsyncContextManager[Worker]:
        """A worker that is starting; at the end it is killed, with what it serves."""
        called = name or self._next_name()
        arguments = ("worker", "start", "--type", "process", "--pool", self.name, "--limit", "1", "--name", called)
        return started("prefect", arguments, self.folder, self.environment, heard=False)

    @asynccontextmanager
    async def ready_worker(self) -> AsyncIterator[Worker]:
        """A worker that the server has seen.

        Raises:
            UnfinishedRunError: it does not come up.
        """
        name = self._next_name()

        async def is_there() -> bool:
            return name in await self.prefect.api.workers(self.name)

        async with self.worker(name) as worker:
            await until(is_there, f"worker {name} does not come up", _ONLINE_WITHIN_S)
            yield worker

    def _next_name(self) -> str:
        return f"{self.name}-{next(self._numbers)}"


async def deployed(name: str, prefect: Prefect, folder: Path, settings: Mapping[str, str]) -> Pool:
    """The pool, with all flows deployed to it by `recstream deploy`; nothing in it begins by itself.

    Raises:
        UnfinishedRunError: something was refused.
    """
    environment = {**prefect.environment, "RECSTREAM_PLACEMENT": "pool", **settings}
    await output_of("flows.cli", ("deploy", "--pool", name), folder, environment)
    await prefect.api.rest()
    return Pool(name, prefect, folder, environment)
