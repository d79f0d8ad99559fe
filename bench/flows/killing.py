"""A night whose workers are killed one after the other, and Prefect's server and the parent with them."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import psycopg

from bench.families import parent_of
from bench.flows.grounds import Figures, Grounds
from bench.flows.judging import Kill, doubled, paid_twice, recovery_s
from bench.flows.ledger import Ledger, ShardSeen, open_ledger
from bench.flows.nights import night
from bench.flows.plan import IN_FLIGHT_A_WORKER, KILLED_AT_A_TIME
from bench.flows.pool import Pool, deployed
from bench.flows.prefect import free_port
from bench.flows.settings import environment_of
from bench.flows.shop import another_database
from bench.limits.orders import Told
from bench.limits.running import limited_server
from bench.limits.server_log import read_server_log
from bench.limits.shop import fill_shop
from bench.limits.workers import Worker
from pipeline.database import libpq_url
from pipeline.errors import UnfinishedRunError
from pipeline.offline_ranker.limits import LimitPlan

_LOOK_S = 0.2
_WITHIN_S = 900.0
_SPARED = 2  # shards whose workers nobody kills
_ATTEMPTS = 10


async def kill_figures(grounds: Grounds) -> Figures:
    """Kill as many workers as the plan wants, and judge what became of their customers.

    Raises:
        UnfinishedRunError: the night does not end, or ended before all were killed.
    """
    url, folder, port = another_database(grounds.server, "killing"), grounds.place("killing"), free_port()
    customers = (grounds.plan.kills + _SPARED) * grounds.plan.killed_shard
    with psycopg.connect(libpq_url(url)) as connection:
        fill_shop(connection, customers)
    settings = {
        "RECSTREAM_SHARD_SIZE": grounds.plan.killed_shard,
        "RECSTREAM_CONCURRENCY": IN_FLIGHT_A_WORKER,
        "RECSTREAM_SHARD_ATTEMPTS": _ATTEMPTS,
    }
    ours = environment_of(url, f"http://127.0.0.1:{port}/v1", folder, settings)
    pool = await deployed("killing", grounds.prefect, folder, ours)
    async with open_ledger(url) as ledger:
        async with (
            limited_server(grounds.place("ranker"), LimitPlan(), grounds.plan.killed_rate, port) as server,
            AsyncExitStack() as stack,
        ):
            storm = Storm(grounds, pool, ledger, stack)
            run = await storm.carry_out()
        shards = await ledger.shards(run)
        figures: Figures = {
            "lost": await ledger.incomplete(run),
            "doubled": doubled(await ledger.written(run), storm.offers),
            "recovery_s": recovery_s(storm.kills, shards),
            "paid_twice": paid_twice(read_server_log(server.log).requests),
        }
    print(
        f"{len(storm.kills)} workers killed with their shards, Prefect's server and the parent once each, among "
        f"{customers} customers: lost {figures['lost']:.0f}, doubled {figures['doubled']:.0f}, "
        f"paid twice {figures['paid_twice']:.0f}, served again after {figures['recovery_s']:.0f} s at worst",
        flush=True,
    )
    return figures


class Storm:
    """What was killed so far, and what is there. `offers` are the moments at which shards were offered."""

    def __init__(self, grounds: Grounds, pool: Pool, ledger: Ledger, stack: AsyncExitStack) -> None:
        self._grounds, self._pool, self._ledger, self._stack = grounds, pool, ledger, stack
        self.kills: list[Kill] = []
        self.offers: dict[tuple[int, int], datetime] = {}
        self._workers: dict[int, Worker] = {}
        self._is_server_killed = False
        self._is_parent_killed = False

    async def carry_out(self) -> str:
        """The night from its beginning to its end; returns its run.

        Raises:
            UnfinishedRunError: it does not end, or ended before all were killed.
        """
        for _ in range(KILLED_AT_A_TIME):
            await self._add_worker()
        await self._begin_parent()
        end = time.monotonic() + _WITHIN_S
        while not self._ending.done():
            await self._step()
            await asyncio.wait({self._ending}, timeout=_LOOK_S)
            if time.monotonic() > end:
                raise UnfinishedRunError(f"the night whose workers are killed does not end within {_WITHIN_S:.0f} s")
        return await self._run_at_the_end()

    async def _run_at_the_end(self) -> str:
        if (failed := (await self._ending)["failed"]) is not None:
            print(f"  the night ended with: {failed}", flush=True)
        run = await self._ledger.run()
        if run is None or len(self.kills) < self._grounds.plan.kills or not self._is_parent_killed:
            raise UnfinishedRunError(f"the night was over after {len(self.kills)} kills: {failed or 'too fast'}")
        return run

    async def _step(self) -> None:
        run = await self._ledger.run()
        if run is None:
            return
        shards = await self._ledger.shards(run)
        for it in shards:
            if it.offered_at is not None:
                self.offers[it.shard, it.attempt] = it.offered_at
        await self._kill_one(run, shards)
        done, wanted = len(self.kills), self._grounds.plan.kills
        if not self._is_server_killed and done >= max(1, wanted // 3):
            self._is_server_killed = True
            await self._grounds.prefect.restart()
        if not self._is_parent_killed and done >= max(1, 2 * wanted // 3):
            self._is_parent_killed = True
            await self._replace_parent()

    async def _kill_one(self, run: str, shards: Sequence[ShardSeen]) -> None:
        """Kill a worker whose shard has rows already, and none was killed with before; another takes its place."""
        before = {kill.shard for kill in self.kills}
        for it in shards:
            is_wanted = it.state == "serving" and it.rows > 0 and it.shard not in before
            worker = (
                await self._worker_of(run, it) if is_wanted and len(self.kills) < self._grounds.plan.kills else None
            )
            if worker is not None:
                worker.kill_with_all_below()
                self.kills.append(Kill(it.shard, it.attempt, datetime.now(UTC)))
                await self._add_worker()
                return

    async def _worker_of(self, run: str, it: ShardSeen) -> Worker | None:
        pid = await self._grounds.prefect.api.process_of(run, it.shard, it.attempt)
        parent = None if pid is None else parent_of(pid)
        return None if parent is None else self._workers.get(parent)

    async def _add_worker(self) -> None:
        worker = await self._stack.enter_async_context(self._pool.worker())
        self._workers[worker.pid] = worker

    async def _begin_parent(self) -> None:
        beginning = night("flow", None, self._pool.folder, self._pool.environment)
        self._parent = await self._stack.enter_async_context(beginning)
        self._ending: asyncio.Task[Told] = asyncio.create_task(self._parent.told())

    async def _replace_parent(self) -> None:
        self._parent.kill_with_all_below()
        await asyncio.wait({self._ending})
        self._ending.exception()  # it was killed: nobody misses its words
        await self._begin_parent()
