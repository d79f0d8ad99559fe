"""How long a row waits for its acknowledgement where few are written, and whether others see it at that moment."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, islice

from psycopg import AsyncConnection

from bench.write.contenders import Commit, Contender
from bench.write.database import connected
from bench.write.rows import SLATE_SIZE, OpenedRun, open_run, rows_of
from pipeline.errors import DatabaseError
from pipeline.group_commit import Row

_SEED = 5
_EACH_LOOKED_FOR = 10  # one row in so many is looked for from another connection

_LOOK = "SELECT FROM recommendations WHERE (run_id, day, customer_id, rank) = (%s, %s, %s, %s)"

Look = Callable[[Row], Awaitable[None]]


@dataclass(slots=True)
class Acknowledgements:
    """Milliseconds from each row's hand-over to its acknowledgement; and the rows that another connection sought."""

    waited_ms: list[float] = field(default_factory=list)
    looked_for: int = 0


async def acknowledge(contender: Contender, url: str, per_second: float, seconds: float) -> Acknowledgements:
    """Hand over rows at moments that know nothing of each other, as customers' streams do.

    Raises:
        DatabaseError: a row that was acknowledged could not be seen.
    """
    wanted = int(per_second * seconds)
    async with connected(url) as opening, connected(url) as looking:
        run = await open_run(opening, slates=wanted // SLATE_SIZE + 1)
        rows = islice(chain.from_iterable(map(rows_of, run.customers())), wanted)
        async with contender.opened(url, run) as commit:
            return await _hand_over(rows, commit, _look(looking, run), per_second)


async def _hand_over(rows: Iterable[Row], commit: Commit, look: Look, per_second: float) -> Acknowledgements:
    found = Acknowledgements()

    async def hand_over(number: int, row: Row) -> None:
        begun = time.monotonic()
        await commit(row)
        found.waited_ms.append((time.monotonic() - begun) * 1000)
        if number % _EACH_LOOKED_FOR == 0:
            await look(row)
            found.looked_for += 1

    moments = random.Random(_SEED)
    due = time.monotonic()
    handing_over = []
    for number, row in enumerate(rows):
        due += moments.expovariate(per_second)
        await asyncio.sleep(due - time.monotonic())
        handing_over.append(asyncio.create_task(hand_over(number, row)))
    await asyncio.gather(*handing_over)
    return found


def _look(connection: AsyncConnection, run: OpenedRun) -> Look:
    async def look(row: Row) -> None:
        place = [run.run_id, run.day, row.customer_id, row.recommendation.rank]
        if not (await connection.execute(_LOOK, place)).rowcount:
            raise DatabaseError(f"rank {place[-1]} of {row.customer_id} was acknowledged and cannot be seen")

    return look
