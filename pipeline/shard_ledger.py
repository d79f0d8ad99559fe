"""The ledger of shards: offered, taken, ended. An attempt that is not the newest writes nothing, whenever it wakes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date
from typing import Final, Never
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import statement
from pipeline.domain import RunId, ShardLease, ShardState
from pipeline.errors import DatabaseError, ShardTakenOverError, cause_of, first_line
from pipeline.persistence import persistent
from pipeline.tables import run_shards

ALIVE_S: Final = 10.0
"""A process that has not been seen for so long has died, or is frozen."""
GRACE_S: Final = 60.0
"""For so long shards go on whose run is over: its parent may have died, and another may take it up."""
_LOOK_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard as it stands. Times in seconds; `alive` says whether the process that serves it has been seen lately.

    `customers_before` are those of the shards before it, `tokens` what its customers are expected to take. `error` is
    what broke it off, by the name of its class.
    """

    run_id: RunId
    shard: int
    customers: int
    customers_before: int
    tokens: int | None
    attempt: int
    state: ShardState
    machine: str | None
    offered_s: float | None
    taken_s: float | None
    reason: str | None
    error: str | None
    alive: bool


def waiting_shard(run_id: RunId, shard: int, customers: int, before: int) -> Shard:
    """A shard that is not written down yet, as those of runs are that were planned by an earlier version."""
    waiting = ShardState.WAITING
    return Shard(run_id, shard, customers, before, None, 0, waiting, None, None, None, None, None, alive=False)


@persistent
async def read_shards(engine: AsyncEngine, run_id: RunId) -> list[Shard]:
    """The shards of this run, in order."""
    async with engine.connect() as connection:
        found = await connection.execute(statement("shards_of_run"), {"run_id": run_id, "alive_s": ALIVE_S})
        return [Shard(run_id, **{**row, "state": ShardState(row["state"])}) for row in found.mappings()]


@persistent
async def offer_shard(engine: AsyncEngine, run_id: RunId, day: date, shard: int) -> ShardLease:
    """A new attempt at this shard, for whoever takes it: all that went before write nothing from now on."""
    asked = {"run_id": run_id, "day": day, "shard": shard}
    async with engine.begin() as connection:
        attempt: int = (await connection.execute(statement("offer_shard"), asked)).scalar_one()
    await _fence(engine, run_id, day, shard)
    return ShardLease(run_id, shard, attempt)


async def withdraw_shard(engine: AsyncEngine, day: date, lease: ShardLease) -> ShardState | None:
    """Take the shard back from whoever has this attempt, and give it to nobody. Done twice it is done once.

    Returns how it stood, OFFERED where nobody had taken it; None where there was nothing to take back.
    """
    async with engine.begin() as connection:
        stood = await connection.scalar(statement("withdraw_shard"), _key(lease))
    if stood is None:
        return None
    await _fence(engine, lease.run_id, day, lease.shard)
    return ShardState(stood)


async def _fence(engine: AsyncEngine, run_id: RunId, day: date, shard: int) -> None:
    # Who was opening a slate at that moment has committed: the slates that are open now are all that there will be.
    async with engine.begin() as connection:
        await connection.execute(statement("fence_shard"), {"run_id": run_id, "day": day, "shard": shard})


@asynccontextmanager
async def serving(engine: AsyncEngine, lease: ShardLease, process: UUID) -> AsyncIterator[None]:
    """This process serves the shard inside; afterwards it stands as served, or as broken off with the reason.

    Raises:
        ShardTakenOverError: the shard was offered anew since, or another has taken this attempt.
    """
    await _take(engine, lease, process)
    try:
        yield
    except BaseException as error:
        with suppress(DatabaseError):  # then it stands as served by a process that is seen no more
            await _end(engine, lease, _broken_off(error, process))
        raise
    await persistent(_end)(engine, lease, _Ended(ShardState.SERVED, process))


@asynccontextmanager
async def taking(engine: AsyncEngine, lease: ShardLease) -> AsyncIterator[None]:
    """All that comes before `serving`, and it itself: what keeps this process from taking the shard stands there."""
    try:
        yield
    except BaseException as error:
        with suppress(DatabaseError):  # then nobody is known to have tried: who offered it looks after that
            await _end(engine, lease, _broken_off(error, None))
        raise


async def lost(engine: AsyncEngine, lease: ShardLease) -> Never:
    """Wait for ever, unless this lease gives no right any more. While Postgres is away nobody knows.

    Raises:
        ShardTakenOverError: the shard was offered anew since, or its run is over and nobody answers for it.
    """
    while (why := await _why_lost(engine, lease)) is None:  # noqa: ASYNC110 - Postgres tells nobody
        await asyncio.sleep(_LOOK_EVERY_S)
    raise _lost(lease, why)


async def _why_lost(engine: AsyncEngine, lease: ShardLease) -> str | None:
    with suppress(DatabaseError):  # whoever has something to write tells of it
        async with engine.connect() as connection:
            why: str | None = await connection.scalar(statement("lost_shard"), _key(lease) | {"grace_s": GRACE_S})
            return why
    return None


@dataclass(frozen=True, slots=True)
class _Ended:
    """How an attempt ended; `process` is None where nobody had taken it."""

    state: ShardState
    process: UUID | None
    reason: str | None = None
    error: str | None = None


def _broken_off(error: BaseException, process: UUID | None) -> _Ended:
    why = cause_of(error)
    return _Ended(ShardState.BROKEN_OFF, process, first_line(why)[:500], type(why).__name__)


@persistent
async def _take(engine: AsyncEngine, lease: ShardLease, process: UUID) -> None:
    async with engine.begin() as connection:
        taken = _key(lease) | {"process": process, "machine": socket.gethostname()}
        if await connection.scalar(statement("take_shard"), taken) is None:
            asked = _key(lease) | {"grace_s": GRACE_S}
            raise _lost(lease, await connection.scalar(statement("lost_shard"), asked))


async def _end(engine: AsyncEngine, lease: ShardLease, ended: _Ended) -> None:
    async with engine.begin() as connection:
        await connection.execute(statement("end_shard"), _key(lease) | asdict(ended))


async def require_newest(connection: AsyncConnection, lease: ShardLease | None) -> None:
    """Raise unless this is the newest attempt at the shard; without a lease nobody asks.

    Raises:
        ShardTakenOverError: the shard was offered anew since.
    """
    if lease is None:
        return
    its_attempt = select(run_shards.c.attempt).where(
        run_shards.c.run_id == lease.run_id, run_shards.c.shard == lease.shard
    )
    if await connection.scalar(its_attempt) != lease.attempt:
        raise shard_taken_over(lease)


def of_shard(lease: ShardLease | None) -> dict[str, int | None]:
    """What statements ask for that write for the newest attempt alone: nulls where nobody serves a shard."""
    return {"shard": None, "shard_attempt": None} if lease is None else _held(lease)


def shard_taken_over(lease: ShardLease) -> ShardTakenOverError:
    """Our error for who has not the newest attempt at a shard."""
    return ShardTakenOverError(
        f"shard {lease.shard} of run {lease.run_id} was offered anew, or taken by another: attempt {lease.attempt} ends"
    )


def _lost(lease: ShardLease, why: str | None) -> ShardTakenOverError:
    """Our error for who has a lease no more; `why` is what `lost_shard.sql` says."""
    of_it = f"shard {lease.shard} of run {lease.run_id}"
    match why:
        case "taken back":
            told = f"{of_it} was taken back, and nobody has it: the run goes on without it, or was ended"
            return ShardTakenOverError(f"{told} (`recstream status`); attempt {lease.attempt} ends")
        case "over":
            told = f"run {lease.run_id} is over, and nobody answers for it"
            return ShardTakenOverError(f"{told}: attempt {lease.attempt} at shard {lease.shard} ends")
    return shard_taken_over(lease)


def _held(lease: ShardLease) -> dict[str, int | None]:
    return {"shard": lease.shard, "shard_attempt": lease.attempt}


def _key(lease: ShardLease) -> dict[str, object]:
    return {"run_id": lease.run_id, "shard": lease.shard, "attempt": lease.attempt}
