"""Readers that look at random customers all the time, and write down every slate that is not whole, or gone."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import AsyncConnection

from bench.chaos.names import read_name
from bench.chaos.shop import SLATE_SIZE

_PAUSE_S = 0.003  # between two looks, so that the readers leave the machine to the others
_DOWN_S = 0.1
_LOOK = """
    SELECT current.run_id::text, current.rank, current.product_name, slate.state
    FROM current_recommendations AS current
    LEFT JOIN slates AS slate USING (run_id, customer_id)
    WHERE customer_id = %s
    ORDER BY current.rank
"""

Line = tuple[str, int, str, str | None]
"""Run, rank, name of the product, state of the slate."""


@dataclass(slots=True)
class Withdrawals:
    """The runs that readers may not see by now because this bench rolls them back; `changes` counts its orders."""

    runs: set[str] = field(default_factory=set)
    changes: int = 0

    def begin(self, run: str) -> None:
        """The run is about to be rolled back."""
        self.runs.add(run)
        self.changes += 1

    def end(self, run: str) -> None:
        """The run is published again."""
        self.runs.discard(run)
        self.changes += 1


@dataclass(slots=True)
class Looks:
    """How many slates were looked at, how many of the looks found one, and how many were not whole.

    `seen` has the runs of which each customer was ever shown a slate: he is owed one while any of them is published.
    """

    looks: int = 0
    slates: int = 0
    torn: int = 0
    seen: dict[str, set[str]] = field(default_factory=dict)
    withdrawals: Withdrawals = field(default_factory=Withdrawals)

    def is_owed(self, customer: str) -> bool:
        """Whether he had a slate of a run that nobody has rolled back."""
        return bool(self.seen.get(customer, set()) - self.withdrawals.runs)


def complaint(customer: str, lines: Sequence[Line], *, is_owed: bool = False) -> str | None:
    """Why these rows of one look at a customer are no whole slate of his, of one run; None if they are.

    None, too, where there are no rows, unless he is owed some.
    """
    if not lines:
        return "the slate that he had is gone" if is_owed else None
    names = [read_name(name) for _, _, name, _ in lines]
    if {named and named.customer_id for named in names} != {customer}:
        return "products of another customer"
    if len({run for run, _, _, _ in lines}) > 1 or len({named and named.mark for named in names}) > 1:
        return "rows of more than one run"
    if {state for _, _, _, state in lines} - {"complete"}:
        return "a slate that is not complete"
    if [rank for _, rank, _, _ in lines] != list(range(1, SLATE_SIZE + 1)):
        return f"not the ranks 1 to {SLATE_SIZE}"
    return None


@asynccontextmanager
async def reading(conninfo: str, customers: Sequence[str], torn_log: Path, *, readers: int = 2) -> AsyncIterator[Looks]:
    """Readers that look while the block runs."""
    looks = Looks()
    tasks = [asyncio.create_task(_read_for_ever(conninfo, customers, torn_log, looks)) for _ in range(readers)]
    try:
        yield looks
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _read_for_ever(conninfo: str, customers: Sequence[str], torn_log: Path, looks: Looks) -> None:
    while True:
        try:
            async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
                while True:
                    await _look(connection, random.choice(customers), torn_log, looks)
                    await asyncio.sleep(_PAUSE_S)
        except psycopg.OperationalError:  # Postgres is down, which is what this bench is about
            await asyncio.sleep(_DOWN_S)


async def _look(connection: AsyncConnection, customer: str, torn_log: Path, looks: Looks) -> None:
    is_owed, before = looks.is_owed(customer), looks.withdrawals.changes
    lines: list[Line] = await (await connection.execute(_LOOK, [customer])).fetchall()
    # A look during which a run was withdrawn or published may have seen what was before or what was after.
    is_owed = is_owed and before == looks.withdrawals.changes
    looks.looks += 1
    looks.slates += bool(lines)
    wrong = complaint(customer, lines, is_owed=is_owed)
    looks.seen.setdefault(customer, set()).update(run for run, _, _, _ in lines)
    if wrong is not None:
        looks.torn += 1
        with torn_log.open("a", encoding="utf-8") as log:
            log.write(json.dumps({"seen": f"{customer}: {wrong}: {lines}"}) + "\n")
