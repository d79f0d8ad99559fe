"""Rows a second: producers hand over one row after the other, each as soon as the one before is acknowledged."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.write.contenders import Commit, Contender
from bench.write.database import connected
from bench.write.rows import SLATE_SIZE, open_run, rows_of
from pipeline.errors import DatabaseError

_MOST_ROWS_PER_S = 100_000  # slates are opened for so many; with more, the turn ends early
_WARM_UP_S = 0.2

_COUNT = "SELECT count(*) FROM recommendations WHERE run_id = %s AND day = %s"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contender did: rows acknowledged, and what they took of the clock and of this process's CPU."""

    rows: int
    wall_s: float
    cpu_s: float

    @property
    def rows_per_s(self) -> float:
        """Acknowledged rows a second."""
        return self.rows / self.wall_s

    @property
    def cpu_us_per_row(self) -> float:
        """CPU microseconds of the client for each acknowledged row."""
        return self.cpu_s * 1e6 / self.rows


async def take_turn(contender: Contender, url: str, window_s: float) -> Turn:
    """Have the contender write into a run of its own for so long.

    Raises:
        DatabaseError: a row that was acknowledged is not there, or one that was not is.
    """
    async with connected(url) as connection:
        run = await open_run(connection, slates=int((window_s + _WARM_UP_S) * _MOST_ROWS_PER_S / SLATE_SIZE))
        customers = run.customers()
        async with contender.opened(url, run) as commit:
            before = await _produce(contender, commit, customers, _WARM_UP_S)
            begun, cpu_begun = time.monotonic(), time.process_time()
            rows = await _produce(contender, commit, customers, window_s)
            turn = Turn(rows, time.monotonic() - begun, time.process_time() - cpu_begun)
        found = await (await connection.execute(_COUNT, [run.run_id, run.day])).fetchone()
    require_all(contender, found, before + rows)
    return turn


def require_all(contender: Contender, found: tuple[int] | None, acknowledged: int) -> None:
    """Refuse a figure for rows that are not there.

    Raises:
        DatabaseError: there are more or fewer than were acknowledged.
    """
    there = 0 if found is None else found[0]
    if there != acknowledged:
        raise DatabaseError(
            f"{contender.name}: {acknowledged:,} rows were acknowledged and {there:,} are there: no figure holds"
        )


async def _produce(contender: Contender, commit: Commit, customers: Iterator[int], seconds: float) -> int:
    until = time.monotonic() + seconds
    return sum(await asyncio.gather(*(_write(commit, customers, until) for _ in range(contender.producers))))


async def _write(commit: Commit, customers: Iterator[int], until: float) -> int:
    acknowledged = 0
    for customer in customers:
        for row in rows_of(customer):
            await commit(row)
            acknowledged += 1
            if time.monotonic() > until:
                return acknowledged
    return acknowledged
