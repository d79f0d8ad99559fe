"""Keeps a pipeline process at work: run after run, each taken up again until nobody is struck in it any more."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from bench.chaos.postgres import Postgres
from bench.chaos.readers import Withdrawals
from bench.chaos.shop import rename_products
from bench.chaos.workers import Scene, Worker, command, driver
from pipeline.errors import UnfinishedRunError

_MOST_RESUMES = 2  # of a run that leaves customers over by itself, as where the ranker fails too often
_MOST_FAILURES = 12  # processes in a row that broke off: recstream does not recover
_LEAST_SWITCHES = 2  # a rollback and a publication: readers see at least one of each
_DOWN_S = 0.1


class Crew:
    """The processes of a storm. Open it with `open_crew`."""

    def __init__(self, scene: Scene, stack: AsyncExitStack, withdrawals: Withdrawals) -> None:
        self._scene = scene
        self._withdrawals = withdrawals
        self._stack = stack
        self._current: Worker | None = None
        self._standby: Worker | None = None
        self._switching: asyncio.Task[None] | None = None
        self._at_rest: set[UUID] = set()
        self._resumed: Counter[UUID] = Counter()
        self._failures = 0
        self.runs = 0
        self.switches: Counter[str] = Counter()

    async def at_work(self) -> Worker:
        """A process that lives and has its order: the one that is there, or the next.

        Raises:
            UnfinishedRunError: one after another broke off by itself.
        """
        if self._current is not None and self._current.is_alive:
            return self._current
        await self._note_the_end()
        order = await self._next_order()
        self._current = worker = await self._next_driver()
        worker.order(*order)
        return worker

    async def relief(self) -> Worker:
        """Another process on the newest run, whoever else may be at it."""
        run = await self._newest_run()
        self._current = relief = await self._next_driver()
        relief.order(*(["run"] if run is None else ["resume", str(run[0])]))
        return relief

    async def at_work_by_command(self) -> Worker:
        """As `at_work`, but `recstream run` or `recstream resume` as a person types it."""
        await self._note_the_end()
        order = await self._next_order()
        self._current = worker = await self._stack.enter_async_context(command(self._scene, *order, "--quiet"))
        return worker

    async def finish(self) -> None:
        """Let the newest run come to its end; switch to it and back where that was never done."""
        while True:
            run = await self._newest_run()
            if run is not None and self._is_at_rest(run):
                await self.close()
                await self._switch_at_least(run[0])
                return
            worker = await self.at_work()
            await worker.ended()
            await self._note_the_end()

    async def close(self) -> None:
        """Wait for what goes on beside the runs."""
        if self._switching is not None:
            await self._switching

    async def _next_driver(self) -> Worker:
        ready = self._standby
        # The following one is started now: it takes seconds to import what it needs.
        self._standby = await self._stack.enter_async_context(driver(self._scene))
        return await self._stack.enter_async_context(driver(self._scene)) if ready is None else ready

    async def _note_the_end(self) -> None:
        """Remember how the current process ended, if it ended by itself."""
        worker, self._current = self._current, None
        if worker is None:
            return
        await worker.ended()
        if worker.status == 0:
            self._failures = 0
            if worker.run is not None and worker.left is not None:
                self._resumed[worker.run] += 1
                if worker.left == 0 or self._resumed[worker.run] > _MOST_RESUMES:
                    self._at_rest.add(worker.run)
        elif worker.status is not None and worker.status > 0:
            self._failures += 1
            if self._failures > _MOST_FAILURES:
                raise UnfinishedRunError(f"{self._failures} processes in a row broke off: see {self._scene.said}")

    async def _next_order(self) -> tuple[str, ...]:
        newest = await self._newest_run()
        if newest is not None and not self._is_at_rest(newest):
            return ("resume", str(newest[0]))
        if newest is not None:
            await self._begin_to_switch(newest[0])
        await self._prepare_run()
        return ("run",)

    def _is_at_rest(self, run: tuple[UUID, str]) -> bool:
        return run[0] in self._at_rest or run[1] == "finished"

    async def _prepare_run(self) -> None:
        self.runs += 1
        await asyncio.to_thread(_rename, self._scene.postgres, self.runs)

    async def _begin_to_switch(self, run: UUID) -> None:
        """Have readers see the former run and this one again, while the next one is made."""
        if self._switching is not None:
            await self._switching
        self._switching = asyncio.create_task(self._switch(run))

    async def _switch_at_least(self, run: UUID) -> None:
        """A run that its gates kept from readers cannot be rolled back at first, but once it was published by hand."""
        for _ in range(_LEAST_SWITCHES):
            if self.switches["done"] < _LEAST_SWITCHES:
                await self._switch(run)

    async def _switch(self, run: UUID) -> None:
        self._withdrawals.begin(str(run))
        await self._do("rollback", str(run))
        if await self._do("publish", str(run), "--force"):  # whatever its gates say: it is looked at, not used
            self._withdrawals.end(str(run))

    async def _do(self, *words: str) -> bool:
        async with command(self._scene, *words) as worker:
            await worker.ended()
            done = worker.status == 0
        self.switches["done" if done else "refused"] += 1
        return done

    async def _newest_run(self) -> tuple[UUID, str] | None:
        """The newest run and its state, as soon as Postgres answers."""
        while True:
            try:
                async with await AsyncConnection.connect(self._scene.postgres.conninfo) as connection:
                    found = await connection.execute("SELECT run_id, state FROM runs ORDER BY created_at DESC LIMIT 1")
                    return await found.fetchone()
            except psycopg.OperationalError:
                await asyncio.sleep(_DOWN_S)


def _rename(postgres: Postgres, mark: int) -> None:
    with psycopg.connect(postgres.conninfo) as connection:
        rename_products(connection, mark)


@asynccontextmanager
async def open_crew(scene: Scene, withdrawals: Withdrawals) -> AsyncIterator[Crew]:
    """A crew that says what it withdraws from readers; whoever of it is left at the end is killed."""
    async with AsyncExitStack() as stack:
        crew = Crew(scene, stack, withdrawals)
        yield crew
        await crew.close()
