"""Reads a night from its ledger, as it stands at this moment."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from bench.write.database import connected

_SHARDS = """
SELECT shard, attempt, state, offered_at, ended_at, (
    SELECT count(*) FROM recommendations JOIN slates USING (run_id, day, customer_id)
    WHERE slates.run_id = run_shards.run_id AND slates.shard = run_shards.shard
      AND recommendations.committed_at > run_shards.taken_at
)
FROM run_shards WHERE run_id = %s ORDER BY shard
"""
_WRITTEN = """
SELECT written.customer_id, written.rank, written.product_id, slates.shard, written.committed_at, calls.started_at
FROM recommendations AS written
JOIN slates USING (run_id, day, customer_id)
LEFT JOIN LATERAL (
    SELECT max(started_at) AS started_at FROM llm_calls
    WHERE (llm_calls.run_id, llm_calls.customer_id, llm_calls.attempt)
        = (written.run_id, written.customer_id, written.attempt)
) AS calls ON true
WHERE run_id = %s
"""


@dataclass(frozen=True, slots=True)
class ShardSeen:
    """A shard as it stands: `rows` are those committed since its newest attempt was taken."""

    shard: int
    attempt: int
    state: str
    offered_at: datetime | None
    ended_at: datetime | None
    rows: int


@dataclass(frozen=True, slots=True)
class Written:
    """A row: whose, and when it was committed by an attempt that had begun when."""

    customer: str
    rank: int
    product: str
    shard: int
    committed_at: datetime
    begun_at: datetime | None


class Ledger:
    """The ledger of one database. Make it with `open_ledger`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def run(self) -> str | None:
        """The newest run, if there is one."""
        found = await self._rows("SELECT run_id FROM runs ORDER BY created_at DESC LIMIT 1")
        return str(found[0][0]) if found else None

    async def state(self, run: str) -> str:
        """How the run stands."""
        return str((await self._rows("SELECT state FROM runs WHERE run_id = %s", UUID(run)))[0][0])

    async def incomplete(self, run: str) -> int:
        """How many customers of the run have no complete slate."""
        asked = "SELECT count(*) FROM slates WHERE run_id = %s AND state <> 'complete'"
        return int((await self._rows(asked, UUID(run)))[0][0])

    async def complete(self) -> int:
        """How many complete slates there are, of all runs."""
        return int((await self._rows("SELECT count(*) FROM slates WHERE state = 'complete'"))[0][0])

    async def shards(self, run: str) -> list[ShardSeen]:
        """The run's shards."""
        return [ShardSeen(*row) for row in await self._rows(_SHARDS, UUID(run))]

    async def written(self, run: str) -> list[Written]:
        """All rows of the run."""
        return [Written(*row) for row in await self._rows(_WRITTEN, UUID(run))]

    async def first_row_of(self, customer: str, since: datetime) -> bool:
        """Whether the customer has a row that was committed since."""
        asked = "SELECT EXISTS (SELECT FROM recommendations WHERE customer_id = %s AND committed_at > %s)"
        return bool((await self._rows(asked, customer, since))[0][0])

    async def now(self) -> datetime:
        """The server's time."""
        now: datetime = (await self._rows("SELECT clock_timestamp()"))[0][0]
        return now

    async def _rows(self, asked: str, *values: object) -> Sequence[Any]:
        return await (await self._connection.execute(asked.encode(), values)).fetchall()


@asynccontextmanager
async def open_ledger(url: str) -> AsyncIterator[Ledger]:
    """A connection to the ledger."""
    async with connected(url) as connection:
        yield Ledger(connection)
