"""Keeps the database in order between the nights: step by step, so that one that fails keeps no other from being done.

Nothing here waits for a night or has one wait: what somebody holds is left to the next time.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.building import drop_dead_builds
from pipeline.database import open_engine, statement
from pipeline.errors import RecstreamError
from pipeline.pruning import prune
from pipeline.run_states import end_abandoned_runs

_PRUNE_PATIENCE_S: Final = 20.0

Step = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step has done, or why it could not: then `failed` is true."""

    step: str
    told: str
    failed: bool = False


async def keep_house(url: str, *, keep_days: int | None) -> AsyncGenerator[StepReport]:
    """Do every step, and say of each what it came to. Days are pruned where `keep_days` says how many stay.

    Raises:
        DatabaseUnavailableError: nobody answers at `url`.
    """
    async with open_engine(url, connections=1) as engine:
        steps: dict[str, Step] = {
            "days ahead": partial(_prepare_days, engine),
            "dead runs": partial(_end_dead_runs, engine),
            "dead processes": partial(_sweep, engine),
            "dead builds": partial(_drop_dead_builds, url),
            "statistics": partial(_analyze, engine),
        }
        if keep_days is not None:
            steps["old days"] = partial(_prune, url, keep_days)
        for name, step in steps.items():
            yield await done(name, step)


async def done(name: str, step: Step) -> StepReport:
    """Do one step; what keeps it from being done is told, and raised no further."""
    try:
        return StepReport(name, await step())
    except RecstreamError as error:
        return StepReport(name, str(error), failed=True)


async def _prepare_days(engine: AsyncEngine) -> str:
    """A night that begins at midnight finds its partitions, and need not ask for a lock on their tables."""
    today = datetime.now(UTC).date()
    days = (today, today + timedelta(days=1))
    for day in days:
        async with engine.begin() as connection:
            await connection.execute(select(func.recstream_prepare_day(day)))
    return f"partitions are there up to {days[-1]}"


async def _end_dead_runs(engine: AsyncEngine) -> str:
    dead = await end_abandoned_runs(engine)
    if not dead:
        return "none"
    return f"marked as failed: {', '.join(map(str, dead))}; `recstream resume RUN` goes on with a night"


async def _sweep(engine: AsyncEngine) -> str:
    async with engine.begin() as connection:
        swept = (await connection.execute(statement("sweep_processes"))).one()
    return f"{swept.processes:,} taken out of runs, {swept.leases:,} out of limits"


async def _drop_dead_builds(url: str) -> str:
    dropped = await asyncio.to_thread(drop_dead_builds, url)
    return f"{dropped:,} dropped"


async def _analyze(engine: AsyncEngine) -> str:
    async with engine.connect() as connection:
        grown = list((await connection.scalars(statement("grown_partitions"))).all())
    for name in grown:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT recstream_analyze_partition(:name)"), {"name": name})
    return f"{len(grown):,} partitions had changed much" + (f": {', '.join(grown)}" if grown else "")


async def _prune(url: str, keep_days: int) -> str:
    report = await asyncio.to_thread(partial(prune, url, keep=keep_days, patience_s=_PRUNE_PATIENCE_S))
    told = f"{len(report.dropped):,} dropped, {len(report.staying):,} stay"
    return told + "".join(f"; {left.day} could not go: {left.reason}" for left in report.left)
