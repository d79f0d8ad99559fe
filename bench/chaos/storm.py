"""Strikes at a working pipeline as the plan says, and lets it finish afterwards."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from bench.chaos.crew import Crew, open_crew
from bench.chaos.door import Link, Moment
from bench.chaos.names import customer_id
from bench.chaos.plan import Blow, Plan, Strike
from bench.chaos.readers import Looks, reading
from bench.chaos.workers import Scene, Worker
from pipeline.errors import UnfinishedRunError

_WAIT_S = 10.0  # for a moment to come; a process that does not write meanwhile is struck as it is
_COMMAND_WAIT_S = 60.0  # `recstream run` starts Prefect first
_STALE_WAIT_S = 2.5  # for what a process that was woken up does

StrikeNow = Callable[[Link | None], object]


@dataclass(frozen=True, slots=True)
class Report:
    """What was done: blows that hit, runs, and what the readers did."""

    blows: Counter[Blow]
    kills: int
    dropped: int
    runs: int
    switches: Counter[str]
    looks: Looks


async def storm(plan: Plan, scene: Scene) -> Report:
    """Carry the plan out.

    Raises:
        UnfinishedRunError: it takes longer than the plan allows, or recstream does not recover.
    """
    begun = time.monotonic()
    customers = [customer_id(number) for number in range(1, plan.customers + 1)]
    try:
        async with (
            asyncio.timeout(plan.patience_s),
            reading(scene.postgres.conninfo, customers, scene.torn_log) as looks,
            open_crew(scene, looks.withdrawals) as crew,
        ):
            hand = _Hand(scene, crew)
            for number, strike in enumerate(plan.strikes, start=1):
                await hand.strike(strike)
                print(f"{time.monotonic() - begun:6.1f} s  {number:>3}. {strike}", flush=True)
            await crew.finish()
    except TimeoutError:
        raise UnfinishedRunError(f"chaos is not through after {plan.patience_s:.0f} s: is this machine busy?") from None
    return Report(hand.blows, hand.kills, hand.dropped, crew.runs, crew.switches, looks)


@dataclass(slots=True)
class _Hand:
    """What strikes."""

    scene: Scene
    crew: Crew
    blows: Counter[Blow] = field(default_factory=Counter)
    kills: int = 0
    dropped: int = 0

    async def strike(self, strike: Strike) -> None:
        """Strike once, at whichever process comes to it."""
        blow: dict[Blow, Callable[[Strike], Awaitable[bool]]] = {
            Blow.KILL: self._kill,
            Blow.DROP: self._drop,
            Blow.CRASH: self._crash,
            Blow.STALE: self._make_stale,
            Blow.KILL_COMMAND: self._kill_command,
        }
        while not await blow[strike.blow](strike):
            pass
        self.blows[strike.blow] += 1

    async def _kill(self, strike: Strike) -> bool:
        worker = await self.crew.at_work()
        await _hit(worker, strike, lambda link: self._kill_now(worker, link))
        return await self._is_killed(worker)

    async def _kill_command(self, strike: Strike) -> bool:
        former = await self.crew.at_work()
        self._kill_now(former, None)
        await self._is_killed(former)
        worker = await self.crew.at_work_by_command()
        await _hit(worker, strike, lambda link: self._kill_now(worker, link), wait_s=_COMMAND_WAIT_S)
        return await self._is_killed(worker)

    def _kill_now(self, worker: Worker, link: Link | None) -> None:
        worker.send(signal.SIGKILL)
        if link is not None:
            link.cut()

    async def _is_killed(self, worker: Worker) -> bool:
        """Whether it was the kill that ended the process, once it has ended."""
        await worker.ended()
        killed = worker.status == -signal.SIGKILL
        self.kills += killed
        return killed

    async def _drop(self, strike: Strike) -> bool:
        worker = await self.crew.at_work()
        before = self.dropped
        await _hit(worker, strike, lambda link: self._drop_now(worker, strike, link))
        return self.dropped > before

    def _drop_now(self, worker: Worker, strike: Strike, link: Link | None) -> None:
        links = worker.door.links()
        if links and worker.is_alive:
            (link or links[strike.writes % len(links)]).cut()
            self.dropped += 1

    async def _crash(self, strike: Strike) -> bool:
        worker = await self.crew.at_work()
        crashes: list[asyncio.Task[None]] = []
        await _hit(worker, strike, lambda _: crashes.append(asyncio.create_task(self._crash_now())))
        await asyncio.gather(*crashes)
        return bool(crashes)

    async def _crash_now(self) -> None:
        await asyncio.to_thread(self.scene.postgres.crash)

    async def _make_stale(self, strike: Strike) -> bool:
        """Stop a process, let another take its run over, wake the first one up, and kill it in the end."""
        stale = await self.crew.at_work()
        await _hit(stale, strike, lambda _: stale.send(signal.SIGSTOP))
        if not stale.is_alive:
            return False
        stale.door.cut_all_but_the_writer()  # among them the one that holds the night
        fresh = await self.crew.relief()
        # Its first rows are on their way: it has opened the slates and asked the ranker. Both write from here on.
        woken = fresh.door.arm(Moment.WRITE_HELD_BACK, lambda _: stale.send(signal.SIGCONT))
        await _until(woken.wait(), fresh, 2 * _STALE_WAIT_S)
        stale.send(signal.SIGCONT)
        await _until(stale.ended(), stale, _STALE_WAIT_S)
        self._kill_now(stale, None)
        await self._is_killed(stale)
        return fresh.door.writes > 0  # else nothing was left that the two could have fought for


async def _hit(worker: Worker, strike: Strike, now: StrikeNow, *, wait_s: float = _WAIT_S) -> None:
    """Strike at the moment that is planned, or once the wait is over. A process that ended before is not struck."""
    door = worker.door
    if not await _until(door.written(door.writes + 1 + strike.writes), worker, wait_s):
        return
    if strike.moment is None:
        await asyncio.sleep(strike.delay_s)
        now(None)
        return
    sprung = door.arm(strike.moment, now)
    if await _until(sprung.wait(), worker, wait_s) and not sprung.is_set():
        door.disarm()
        now(None)


async def _until(awaited: Coroutine[None, None, object], worker: Worker, wait_s: float) -> bool:
    """Wait for it, for the end of the process, or no longer; False where the process has ended."""
    tasks = [asyncio.create_task(awaited), asyncio.create_task(worker.ended())]
    try:
        await asyncio.wait(tasks, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return worker.is_alive
