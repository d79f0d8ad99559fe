"""One run of ours against one server: planned, served by one process or several, of which one may be killed midway."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from psycopg import AsyncConnection

from bench.limits.orders import Told
from bench.limits.plan import MOST_CANDIDATES, SHARDS_A_PROCESS, SLATE_SIZE
from bench.limits.server_log import answered
from bench.limits.workers import Worker, heard_from, started
from pipeline.database import libpq_url
from pipeline.errors import UnfinishedRunError
from pipeline.offline_ranker.limits import LimitPlan
from pipeline.offline_ranker.process import offline_ranker

_LOOK_S = 0.1
_INCOMPLETE = "SELECT count(*) FROM slates WHERE run_id = %s AND state <> 'complete'"


@dataclass(frozen=True, slots=True)
class Ours:
    """How a run is served: by how many processes, with how many requests in flight over all of them.

    `killed_after` is the number of answers after which the last process is killed; None spares it.
    """

    processes: int
    in_flight: int
    killed_after: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Served:
    """What came of a run. `lost` customers have no complete slate; `failed` says of each shard that broke off why."""

    run: str
    seconds: float
    lost: int
    failed: Sequence[str]


@dataclass(slots=True)
class Server:
    """A limited server with a folder of its own, for its log and for who asks it."""

    folder: Path
    base_url: str = ""

    @property
    def log(self) -> Path:
        """What it writes down."""
        return self.folder / "served.jsonl"


class Crew:
    """Processes that are ready to begin with one run, and the shards that each has yet to serve."""

    def __init__(self, workers: Sequence[Worker], run: str, shards: Sequence[int]) -> None:
        self._left = {worker: set(shards[place :: len(workers)]) for place, worker in enumerate(workers)}
        self._last_at = 0.0
        self.run = run
        self.failed: list[str] = []

    async def serve(self, victim: Worker | None) -> float:
        """Have all shards served, those that the victim leaves over by the others; the seconds that it took.

        Raises:
            UnfinishedRunError: another process than the victim ended.
        """
        begun = time.monotonic()
        for worker, shards in self._left.items():
            _order(worker, shards)
        async with heard_from(self._left) as news:
            while any(self._left.values()):
                worker, told = await news.get()
                if told is not None:
                    self._note(worker, told)
                elif worker is victim:
                    self._divide(self._left.pop(worker))
                else:
                    raise UnfinishedRunError(worker.last_words())
        return self._last_at - begun

    def _note(self, worker: Worker, told: Told) -> None:
        self._left[worker].discard(told["served"])
        self._last_at = told["at"]
        if (why := told["failed"]) is not None:
            self.failed.append(why)

    def _divide(self, shards: Iterable[int]) -> None:
        """Leave these shards to those who are there, in turn."""
        for shard, worker in zip(shards, cycle(self._left), strict=False):
            self._left[worker].add(shard)
            _order(worker, [shard])


def _order(worker: Worker, shards: Iterable[int]) -> None:
    for shard in shards:
        worker.order({"do": "serve", "shard": shard})


@asynccontextmanager
async def limited_server(
    folder: Path, limits: LimitPlan, tokens_per_second: float, port: int = 0
) -> AsyncIterator[Server]:
    """A limited server in a process of its own, at a free port or at this; its log is whole once it has ended."""
    with ExitStack() as stack:
        server = Server(folder)
        starting = offline_ranker(tokens_per_second=tokens_per_second, limits=limits, port=port, log=server.log)
        ranker = await asyncio.to_thread(stack.enter_context, starting)  # others are being measured meanwhile
        server.base_url = ranker.base_url
        yield server
        await asyncio.to_thread(stack.close)


@asynccontextmanager
async def crew(url: str, server: Server, ours: Ours, customers: int) -> AsyncIterator[tuple[Crew, Worker]]:
    """Processes that have planned a run over the first `customers`, with all connections open; and the last of them."""
    async with AsyncExitStack() as stack:
        environment = environment_of(url, server, ours)
        starting = (started("bench.limits.working", (), server.folder, environment) for _ in range(ours.processes))
        workers = [await stack.enter_async_context(worker) for worker in starting]
        for worker in workers:
            await worker.told()
        planner, *others = workers
        shards = 1 if ours.processes == 1 else ours.processes * SHARDS_A_PROCESS
        planner.order({"do": "plan", "most": customers, "shard_size": -(-customers // shards)})
        planned = await planner.told()
        for worker in others:
            worker.order({"do": "take", "run": planned["run"]})
        for worker in others:
            await worker.told()
        yield Crew(workers, planned["run"], planned["shards"]), workers[-1]


async def serve(url: str, server: Server, ours: Ours, crew: Crew, last: Worker) -> Served:
    """Carry the run out."""
    if ours.killed_after is None:
        seconds = await crew.serve(None)
    else:
        killing = asyncio.create_task(_kill(last, server, ours.killed_after))
        seconds = await crew.serve(last)
        await killing
    return Served(crew.run, seconds, await _incomplete(url, crew.run), tuple(crew.failed))


async def _kill(worker: Worker, server: Server, after: int) -> None:
    while answered(server.log) < after:  # noqa: ASYNC110 - the log is another process's file: nothing tells of it
        await asyncio.sleep(_LOOK_S)
    worker.kill()


async def _incomplete(url: str, run: str) -> int:
    """How many customers of the run have no complete slate."""
    async with await AsyncConnection.connect(libpq_url(url)) as connection:
        found = await connection.execute(_INCOMPLETE, [run])
        row = await found.fetchone()
    assert row is not None
    return int(row[0])


def environment_of(url: str, server: Server, ours: Ours) -> dict[str, str]:
    """The settings of a process that asks this server."""
    return {
        "DATABASE_URL": url,
        "OPENAI_BASE_URL": server.base_url,
        "RECSTREAM_MODEL": "offline-ranker",
        "RECSTREAM_HOME": str(server.folder / "home"),
        "RECSTREAM_SLATE_SIZE": str(SLATE_SIZE),
        "RECSTREAM_CANDIDATE_COUNT": str(MOST_CANDIDATES),
        "RECSTREAM_CONCURRENCY": str(ours.in_flight // ours.processes),
        **ours.settings,
    }
