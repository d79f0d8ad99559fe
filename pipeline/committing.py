"""Commits rows of one run in one statement, and says of each what became of it, however often the server goes away."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib.resources import files

import psycopg
from psycopg import AsyncConnection

from pipeline.database import connect_as_writer, translate
from pipeline.domain import CustomerId, Origin, Recommendation, RunId
from pipeline.errors import RowRefusedError, SlateTakenOverError, first_line, taken_over
from pipeline.persistence import persistent

# Data, constraints, a view's check option, limits such as the size of an index entry, and what a trigger raises.
_FAULTS_OF_A_ROW = {"22", "23", "44", "54", "P0"}

Fate = datetime | RowRefusedError | SlateTakenOverError
"""What became of a row: when it was committed, or why it was not."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `recommendations`, ready to be written by who holds the slate's `lease`.

    `origin` is what ranked it, where that is not the run's own model.
    """

    customer_id: CustomerId
    lease: int
    attempt: int
    recommendation: Recommendation
    origin: Origin | None = None


class Committer:
    """One connection that writes rows of one run: opened for the first of them, replaced when it is lost."""

    def __init__(self, url: str, run_id: RunId, day: date, provenance: str) -> None:
        self._url = url
        self._run: dict[str, object] = {"run_id": run_id, "day": day, "provenance": provenance}
        self._connection: AsyncConnection | None = None

    @persistent
    async def commit(self, rows: Sequence[Row]) -> list[Fate]:
        """The fate of each row, in their order, once all that can be written are durable.

        It is done again after what may pass: what was committed unseen is recognised then.

        Raises:
            RowRefusedError: Postgres refuses one of the rows, and so took none.
            DatabaseUnavailableError: the server stayed away.
            DatabaseError: Postgres takes no row at all, as when the table is not there.
        """
        try:
            return await self._commit(await self._connected(), rows)
        except (psycopg.Error, UnicodeError) as error:
            if _is_fault_of_a_row(error):
                raise RowRefusedError(f"Postgres refuses the row: {first_line(error)}") from error
            await self.close()
            raise translate(error, self._url) from error

    async def close(self) -> None:
        """Close the connection; another commit would open a new one."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _commit(self, connection: AsyncConnection, rows: Sequence[Row]) -> list[Fate]:
        # One statement is one transaction: its rows come back after its COMMIT, in a single round trip.
        sent = self._run | _columns(rows)
        written = await (await connection.execute(_sql("commit_recommendations"), sent)).fetchall()
        if len(written) == len(rows):
            times = {(customer_id, rank): committed_at for customer_id, rank, committed_at in written}
            return [times[row.customer_id, row.recommendation.rank] for row in rows]
        found = await (await connection.execute(_sql("recognise_recommendations"), sent)).fetchall()
        return [_fate(row, committed_at, holds) for row, (committed_at, holds) in zip(rows, found, strict=True)]

    async def _connected(self) -> AsyncConnection:
        if self._connection is None or self._connection.closed:
            self._connection = await connect_as_writer(self._url, "recstream writer")
            await self._connection.execute("SET synchronous_commit = on")  # whatever the server's default is
        return self._connection


@cache
def _sql(name: str) -> bytes:
    return (files("pipeline") / "sql" / f"{name}.sql").read_bytes()


def _columns(rows: Sequence[Row]) -> dict[str, list[object]]:
    return {
        "customer_ids": [row.customer_id for row in rows],
        "leases": [row.lease for row in rows],
        "ranks": [row.recommendation.rank for row in rows],
        "product_ids": [row.recommendation.product_id for row in rows],
        "product_names": [row.recommendation.product_name for row in rows],
        "relevance_scores": [row.recommendation.relevance_score for row in rows],
        "attempts": [row.attempt for row in rows],
        "provenances": [row.origin.provenance if row.origin else None for row in rows],
        "models": [row.origin.model if row.origin else None for row in rows],
    }


def _fate(row: Row, committed_at: datetime | None, holds: bool) -> Fate:
    if committed_at is not None:
        return committed_at
    if not holds:
        return taken_over(row.customer_id)
    return RowRefusedError(
        f"rank {row.recommendation.rank} or product {row.recommendation.product_id!r} is taken by another row of the "
        "slate"
    )


def _is_fault_of_a_row(error: psycopg.Error | UnicodeError) -> bool:
    """True where another row may well be taken. What psycopg refuses by itself, as U+0000, has no SQLSTATE."""
    if isinstance(error, (psycopg.DataError, UnicodeError)):
        return True
    return error.sqlstate is not None and error.sqlstate[:2] in _FAULTS_OF_A_ROW
