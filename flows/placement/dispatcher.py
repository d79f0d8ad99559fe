"""Has the shards of a night served by others: looks at the ledger and does what follows from it, until the end."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from logging import Logger, LoggerAdapter
from typing import Any, Final, Protocol

from flows.placement.dispatching import Judged, Known, Next, ShardRun, Stage, next_steps, offered, seen_again
from flows.run_names import run_tags, shard_run_name
from pipeline.domain import ShardLease, ShardState, SlateState
from pipeline.errors import ConfigurationError, DatabaseError, ShardTakenOverError
from pipeline.night import Night
from pipeline.orders import StandingOrders, read_standing
from pipeline.persistence import persistent
from pipeline.runs import Run, shards_of
from pipeline.settings import Settings
from pipeline.shard_ledger import Shard, offer_shard, read_shards, waiting_shard, withdraw_shard

Log = Logger | LoggerAdapter[Any]
LOOK_EVERY_S: Final = 1.0
_LOOK_AT_RUN_EVERY_S: Final = 5.0
_QUEUED_LONG_S: Final = 30.0
_COUNT_WORKERS_EVERY_S: Final = 30.0
_ANSWERS_WITHIN_S: Final = 1.0  # longer nobody waits for the workers' answers: the ledger has to be looked at


class Workers(Protocol):
    """Who serves shards in processes of their own. An answer of None: nobody can be asked now, and later again."""

    async def send(self, lease: ShardLease, left: Sequence[str], name: str, tags: Sequence[str]) -> ShardRun | None:
        """Have somebody serve this lease. Sent twice it is sent once."""

    async def look(self, run: ShardRun) -> ShardRun | None:
        """The same run as it is now."""

    async def count(self) -> int | None:
        """How many shards can be served at a time."""

    async def call_off(self, leases: Sequence[ShardLease], reason: str) -> None:
        """Have nobody begin these, also where nobody knows whether they were sent."""

    async def tell_of_waiting(self, run: ShardRun, shard: int) -> None:
        """Say what to do where nobody comes."""


async def dispatch(night: Night, run: Run, left: Collection[SlateState], workers: Workers, log: Log) -> None:
    """Offer every shard with such slates until it is served, or its attempts are used up.

    Shards that a former parent has offered and that are being served are waited for.

    Raises:
        ConfigurationError: the workers cannot be asked as the settings have it.
        RunHaltedError: a person or a budget has ended the run; where it was drained, what was in flight is finished.
        EndpointFatalError, EndpointClosedError: a shard found out that no customer can be served.
        ShardTakenOverError: another process goes on with the run; what is out is his.
        DatabaseError: the ledger cannot be read or written.
    """
    wanted = await shards_of(night.engine, run, left)
    dispatcher = _Dispatcher(night, run, tuple(left), wanted, workers, log)
    try:
        while not await dispatcher.step():  # noqa: ASYNC110 - the ledger sets no event
            await asyncio.sleep(LOOK_EVERY_S)
    except ShardTakenOverError:
        raise
    except BaseException:
        await dispatcher.leave()
        raise
    await dispatcher.leave()


def require_shared(settings: Settings) -> None:
    """Refuse what processes on other machines would not reach, where they are to serve the shards.

    Raises:
        ConfigurationError: the database is the embedded one.
    """
    if settings.placement != "here" and settings.database_url is None:
        raise ConfigurationError(
            f"placement = {settings.placement!r} needs a database that all workers reach: "
            "set DATABASE_URL, here and for each of them"
        )


@dataclass(slots=True)
class _Dispatcher:
    """The loop's memory: what is known of each shard that is wanted, and when what was looked at.

    `wanted` are the shards and how many customers are left of each, `total` is how many shards the run has.
    """

    night: Night
    run: Run
    left: tuple[SlateState, ...]
    wanted: Mapping[int, int]
    workers: Workers
    log: Log
    known: dict[int, Known] = field(init=False)
    shards: dict[int, Shard] = field(default_factory=dict)
    total: int = 0
    _asking: asyncio.Task[None] | None = None
    _there: int = 1
    _looked_at: float = 0.0
    _counted_at: float = float("-inf")
    _run_looked_at: dict[int, float] = field(default_factory=dict)
    _told_of: set[int] = field(default_factory=set)
    _waiting_told: bool = False

    def __post_init__(self) -> None:
        self.known = {shard: Known() for shard in self.wanted}

    async def step(self) -> bool:
        """Look at the ledger and do what follows from it; true once nothing is left to do."""
        orders = await self._look()
        settings = self.night.settings
        await self._ask(())  # how many workers there are
        following = next_steps(
            [self.shards[shard] for shard in self.known],
            self.known,
            orders,
            at_once=settings.shards_at_once or self._there,
            attempts=settings.shard_attempts,
            now=time.monotonic(),
        )
        self._tell(following)
        new = [await self._offer(judged) for judged in following.offer]
        await self._ask([*following.send, *new])
        return following.over

    async def leave(self) -> None:
        """Take back what is out: nobody serves a shard of a run that nobody answers for."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        untaken: list[ShardLease] = []
        with suppress(DatabaseError):  # then the shards find out by themselves, once the run is over
            for shard, known in self.known.items():
                if known.attempt is None or self.shards[shard].state is ShardState.SERVED:
                    continue
                lease = ShardLease(self.run.run_id, shard, known.attempt)
                if await withdraw_shard(self.night.engine, self.run.day, lease) is ShardState.OFFERED:
                    untaken.append(lease)
        if untaken:
            await self.workers.call_off(untaken, f"run {self.run.run_id} needs it no more")

    async def _look(self) -> StandingOrders:
        found = {it.shard: it for it in await read_shards(self.night.engine, self.run.run_id)}
        orders = await persistent(read_standing)(self.night.engine, self.run.run_id)
        now = time.monotonic()
        self.total = max(len(found), len(self.wanted))
        self.shards = {shard: found.get(shard) or self._unwritten(shard) for shard in self.known}
        self.known = seen_again(self.known, self.shards, now, self._looked_at)
        self._looked_at = now
        return orders

    def _unwritten(self, shard: int) -> Shard:
        """Of a run that was planned before shards were written down; it is when it is offered."""
        before = sum(customers for other, customers in self.wanted.items() if other < shard)
        return waiting_shard(self.run.run_id, shard, self.wanted[shard], before)

    async def _ask(self, unsent: Sequence[ShardLease]) -> None:
        """Ask the workers all that is due, beside the looks at the ledger where their answers take long."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all(unsent))
        await asyncio.wait({self._asking}, timeout=_ANSWERS_WITHIN_S)
        if self._asking.done():
            asked, self._asking = self._asking, None
            await asked

    async def _ask_all(self, unsent: Sequence[ShardLease]) -> None:
        await self._count_workers()
        for lease in unsent:
            await self._send(lease)
        await self._look_at_runs()

    async def _count_workers(self) -> None:
        if time.monotonic() - self._counted_at < _COUNT_WORKERS_EVERY_S:
            return
        counted = await self.workers.count()
        if counted is not None:
            self._there, self._counted_at = max(counted, 1), time.monotonic()

    async def _offer(self, wanted: Judged) -> ShardLease:
        if wanted.why is not None:
            self.log.warning("shard %d is offered once more: %s", wanted.shard, wanted.why)
        lease = await offer_shard(self.night.engine, self.run.run_id, self.run.day, wanted.shard)
        self.known[wanted.shard] = offered(self.known[wanted.shard], self.shards[wanted.shard], lease.attempt)
        return lease

    async def _send(self, lease: ShardLease) -> None:
        """Have a worker take it; where Prefect does not answer, it is sent later."""
        zone, known = self.night.settings.time_zone, self.known[lease.shard]
        name = shard_run_name(self.run, self.shards[lease.shard], self.total, zone, known.offers)
        sent = await self.workers.send(lease, self.left, name, run_tags(self.run, zone))
        if sent is not None and self.known[lease.shard].attempt == lease.attempt:
            self.known[lease.shard] = replace(self.known[lease.shard], sent=sent)
            self._run_looked_at[lease.shard] = time.monotonic()

    async def _look_at_runs(self) -> None:
        """What has become of the runs whose shards nobody has taken yet: the ledger tells of all others."""
        for shard, known in self.known.items():
            is_new = self.shards[shard].attempt != known.attempt  # offered since the ledger was read
            if known.sent is None or (self.shards[shard].state is not ShardState.OFFERED and not is_new):
                continue
            if time.monotonic() - self._run_looked_at[shard] < _LOOK_AT_RUN_EVERY_S:
                continue
            self._run_looked_at[shard] = time.monotonic()
            found = await self.workers.look(known.sent)
            if found is not None and self.known[shard].attempt == known.attempt:
                self.known[shard] = replace(self.known[shard], sent=found)
                await self._tell_of_waiting(shard, found)

    async def _tell_of_waiting(self, shard: int, run: ShardRun) -> None:
        if run.stage is Stage.QUEUED and time.monotonic() - run.since > _QUEUED_LONG_S and not self._waiting_told:
            self._waiting_told = True
            await self.workers.tell_of_waiting(run, shard)

    def _tell(self, following: Next) -> None:
        for judged in following.given_up:
            if judged.shard not in self._told_of:
                self.log.error(
                    "shard %d is given up after %d attempts: %s",
                    judged.shard,
                    self.known[judged.shard].offers,
                    judged.why,
                )
                self._told_of.add(judged.shard)
