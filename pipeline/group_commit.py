"""Commits recommendation rows in groups without making any row wait for a timer.

Callers hand over a row and wait until it is durable. One committer takes everything that arrived while the last
transaction was committing, writes it in one statement, commits, and releases each caller. An idle system commits a row
at once; a busy one commits many together. One row that Postgres refuses is found and refused alone.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from pipeline.database import CONNECT_TIMEOUT_S, libpq_url, translate
from pipeline.domain import CustomerId, Recommendation, RunId
from pipeline.errors import DatabaseError, DatabaseUnavailableError, RowRefusedError, first_line

MAX_GROUP = 2_000
RECONNECT_TRIES = 6
_LONGEST_PAUSE_S = 5.0

# Data, constraints, a view's check option, limits such as the size of an index entry, and what a trigger raises.
_FAULTS_OF_A_ROW = {"22", "23", "44", "54", "P0"}

RowKey = tuple[UUID, str, int, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `recommendations`, ready to be written."""

    run_id: RunId
    customer_id: CustomerId
    recommendation: Recommendation
    provenance: str
    attempt: int

    @property
    def key(self) -> RowKey:
        """The row's place and what stands there: two rows of one key are the same row."""
        return (self.run_id, self.customer_id, self.recommendation.rank, self.recommendation.product_id)


@dataclass(frozen=True, slots=True)
class _Waiting:
    row: Row
    durable: "asyncio.Future[datetime]"


class GroupCommit:
    """The writer of one event loop. Open it with `open_group_commit`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AsyncConnection | None = None
        self._arrived = asyncio.Event()
        self._waiting: list[_Waiting] = []
        self._unreleased: set[asyncio.Future[datetime]] = set()
        self._ended = False

    async def commit(self, row: Row) -> datetime:
        """Return the row's `committed_at` once it is durable. Handing over a row that is there already is harmless.

        Raises:
            RowRefusedError: Postgres refuses this row, or another row holds its rank or its product.
            DatabaseUnavailableError: the server stayed away, or the writer has ended; the row may be handed over again.
            DatabaseError: Postgres takes no row at all, as when the table is not there.
        """
        if self._ended:
            raise _writer_has_ended()
        waiting = _Waiting(row, asyncio.get_running_loop().create_future())
        self._unreleased.add(waiting.durable)
        waiting.durable.add_done_callback(self._unreleased.discard)
        self._waiting.append(waiting)
        self._arrived.set()
        return await waiting.durable

    async def run(self) -> None:
        """Commit what arrives, until cancelled."""
        try:
            while True:
                await self._arrived.wait()
                group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
                if not self._waiting:
                    self._arrived.clear()
                await self._commit_group([waiting for waiting in group if not waiting.durable.done()])
        finally:
            self._abandon()
            await self._disconnect()

    def _abandon(self) -> None:
        """Release the callers that nobody else will release, however the writer came to its end."""
        self._ended = True
        for durable in self._unreleased:
            if not durable.done():
                durable.set_exception(_writer_has_ended())

    async def _commit_group(self, group: Sequence[_Waiting]) -> None:
        if not group:
            return
        try:
            committed = await self._write_persistently([waiting.row for waiting in group])
        except DatabaseError as error:
            if len(group) > 1 and isinstance(error, RowRefusedError):
                middle = len(group) // 2
                await self._commit_group(group[:middle])
                await self._commit_group(group[middle:])
            else:
                _release(group, error)
        else:
            _release(group, committed)

    async def _write_persistently(self, rows: Sequence[Row]) -> dict[RowKey, datetime]:
        """Write the rows; a lost connection is tried again, for what was committed unseen is recognised then."""
        for attempt in range(1, RECONNECT_TRIES + 1):
            try:
                return await self._write(rows)
            except (psycopg.Error, UnicodeError) as error:
                if _is_fault_of_a_row(error):
                    raise RowRefusedError(f"Postgres refuses the row: {first_line(error)}") from error
                await self._disconnect()
                may_pass = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
                if attempt == RECONNECT_TRIES or not may_pass:
                    raise translate(error, self._url) from error
                await asyncio.sleep(random.uniform(0.5, 1) * min(2**attempt / 10, _LONGEST_PAUSE_S))  # noqa: S311 - jitter
        raise AssertionError("the loop above returns or raises")

    async def _write(self, rows: Sequence[Row]) -> dict[RowKey, datetime]:
        connection = await self._connected()
        cursor = await connection.execute(_insert(), _columns(rows))
        committed = _moments(await cursor.fetchall())
        if unseen := [row for row in rows if row.key not in committed]:
            cursor = await connection.execute(_SAME_ROWS, _columns(unseen))
            committed |= _moments(await cursor.fetchall())
        return committed

    async def _connected(self) -> AsyncConnection:
        if self._connection is None or self._connection.closed:
            # One statement is one transaction: its rows come back after its COMMIT, in a single round trip.
            self._connection = await AsyncConnection.connect(
                libpq_url(self._url),
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="recstream writer",
            )
            await self._connection.execute("SET synchronous_commit = on")  # whatever the server's default is
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


@asynccontextmanager
async def open_group_commit(url: str) -> AsyncIterator[GroupCommit]:
    """A running writer; at the end it stops, and callers that still wait get an error."""
    writer = GroupCommit(url)
    committer = asyncio.create_task(writer.run(), name="group commit")
    try:
        yield writer
    finally:
        committer.cancel()
        (ended_by,) = await asyncio.gather(committer, return_exceptions=True)
        if isinstance(ended_by, Exception):
            raise ended_by


# Of these rows those that an earlier transaction had committed exactly so.
_SAME_ROWS = """
    SELECT there.run_id, there.customer_id, there.rank, there.product_id, there.committed_at
    FROM unnest(%(run_ids)s::uuid[], %(customer_ids)s::text[], %(ranks)s::integer[], %(product_ids)s::text[])
         AS sent (run_id, customer_id, rank, product_id)
    JOIN recommendations AS there USING (run_id, customer_id, rank, product_id)
"""


@cache
def _insert() -> bytes:
    return (files("pipeline") / "sql" / "commit_recommendations.sql").read_bytes()


def _columns(rows: Sequence[Row]) -> dict[str, list[object]]:
    return {
        "run_ids": [row.run_id for row in rows],
        "customer_ids": [row.customer_id for row in rows],
        "ranks": [row.recommendation.rank for row in rows],
        "product_ids": [row.recommendation.product_id for row in rows],
        "product_names": [row.recommendation.product_name for row in rows],
        "relevance_scores": [row.recommendation.relevance_score for row in rows],
        "provenances": [row.provenance for row in rows],
        "attempts": [row.attempt for row in rows],
    }


def _moments(rows: Sequence[tuple[UUID, str, int, str, datetime]]) -> dict[RowKey, datetime]:
    return {(run_id, customer_id, rank, product_id): at for run_id, customer_id, rank, product_id, at in rows}


def _is_fault_of_a_row(error: psycopg.Error | UnicodeError) -> bool:
    """True where another row may well be taken. What psycopg refuses by itself, as U+0000, has no SQLSTATE."""
    if isinstance(error, (psycopg.DataError, UnicodeError)):
        return True
    return error.sqlstate is not None and error.sqlstate[:2] in _FAULTS_OF_A_ROW


def _writer_has_ended() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the writer has ended and the row is not known to be durable: hand it over again")


def _release(group: Sequence[_Waiting], result: dict[RowKey, datetime] | DatabaseError) -> None:
    for waiting in group:
        if waiting.durable.done():
            continue  # its caller was cancelled; the row stands all the same
        if isinstance(result, DatabaseError):
            waiting.durable.set_exception(result)
        elif (committed_at := result.get(waiting.row.key)) is not None:
            waiting.durable.set_result(committed_at)
        else:
            waiting.durable.set_exception(
                RowRefusedError(
                    f"rank {waiting.row.recommendation.rank} or product {waiting.row.recommendation.product_id!r} "
                    "is taken by another row of the slate"
                )
            )
