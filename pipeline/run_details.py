"""What a report on a run tells beyond its sums: why objects were refused, who is left and why, who took longest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import statement
from pipeline.domain import CustomerId, RunId, SlateState
from pipeline.persistence import persistent

MOST = 10  # lines of each kind: a report is read by a person


@dataclass(frozen=True, slots=True)
class Left:
    """Customers without a complete slate, for one reason. It is None of those whose turn did not come."""

    state: SlateState
    reason: str | None
    customers: int


@dataclass(frozen=True, slots=True)
class SlowSlate:
    """One of the slates that took longest; times in seconds from its opening."""

    customer_id: CustomerId
    whole_s: float
    first_row_s: float | None
    attempts: int


@dataclass(frozen=True, slots=True)
class RunDetails:
    """At most `MOST` of each kind, what weighs most first.

    `served` are the customers of each shard who have a complete slate, or keep theirs.
    """

    refusals: Mapping[str, int]
    left: Sequence[Left]
    slowest: Sequence[SlowSlate]
    served: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """The customers of one shard so far.

    `not_complete` are those that ended short or failed; `unchanged` those who keep an earlier slate.
    """

    customers: int
    complete: int
    not_complete: int
    unchanged: int


@persistent
async def read_details(engine: AsyncEngine, run_id: RunId, day: date) -> RunDetails:
    """The details of this run, whose rows lie in the partition of `day`."""
    asked: dict[str, object] = {"run_id": run_id, "day": day, "most": MOST}
    async with engine.connect() as connection:
        refusals = (await connection.execute(statement("run_refusals"), asked)).all()
        left = (await connection.execute(statement("run_left"), asked)).all()
        slowest = (await connection.execute(statement("run_slowest"), asked)).all()
        return RunDetails(
            {row.reason: row.objects for row in refusals},
            [Left(SlateState(row.state), row.reason, row.customers) for row in left],
            [SlowSlate(CustomerId(row[0]), *row[1:]) for row in slowest],
            await _served(connection, run_id, day),
        )


async def read_shard_progress(engine: AsyncEngine, run_id: RunId, day: date, shard: int) -> ShardProgress:
    """How far this shard is."""
    asked = {"run_id": run_id, "day": day, "shard": shard}
    async with engine.connect() as connection:
        return ShardProgress(*(await connection.execute(statement("shard_progress"), asked)).one())


async def _served(connection: AsyncConnection, run_id: RunId, day: date) -> dict[int, int]:
    found = await connection.execute(statement("run_shares"), {"run_id": run_id, "day": day})
    return {row.shard: row.served for row in found}
