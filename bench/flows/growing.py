"""Whether a process that serves many customers grows: its own memory when all are done, and when a tenth is."""

import asyncio
from collections.abc import Sequence
from math import nan
from statistics import median

from bench.candidates.usage import own_memory
from bench.flows.grounds import Figures, Grounds
from bench.flows.ledger import Ledger, open_ledger
from bench.flows.nights import night, seconds_of
from bench.flows.plan import SHORT_SLATE_SIZE
from bench.flows.rankers import silent_ranker
from bench.flows.settings import environment_of
from bench.flows.shop import another_database, fill_alike
from bench.limits.workers import Worker

_LOOK_S = 0.5
_MOST = 100_000  # in a shard

Sample = tuple[int, float]
"""How many customers are done, and the bytes that are held then."""


def held_at(samples: Sequence[Sample], customers: int) -> float:
    """The median of what was held around then, up to a tenth earlier or later; not a number where nobody looked."""
    held = [size for done, size in samples if 0.9 * customers <= done <= 1.1 * customers]
    return median(held) if held else nan


async def growth_figures(grounds: Grounds) -> Figures:
    """One shard, one process, no Prefect in it: what it holds is the pipeline's.

    Raises:
        UnfinishedRunError: the shard was not served to its end.
    """
    url, customers = another_database(grounds.server, "growing"), grounds.plan.grown
    fill_alike(url, customers)
    samples, seconds = await _samples(grounds, url)
    few, all_of_them = held_at(samples, customers // 10), held_at(samples, customers)
    print(
        f"one process: {few / 1e6:.0f} MB at {customers // 10:,} customers, {all_of_them / 1e6:.0f} MB at "
        f"{customers:,}, after {seconds:.0f} s",
        flush=True,
    )
    return {"rss_growth": all_of_them / few, "rss_mb": all_of_them / 1e6}


async def _samples(grounds: Grounds, url: str) -> tuple[list[Sample], float]:
    folder = grounds.place("growing")
    settings = {"RECSTREAM_SHARD_SIZE": _MOST, "RECSTREAM_SLATE_SIZE": SHORT_SLATE_SIZE}
    async with silent_ranker(0) as base_url, open_ledger(url) as ledger:
        ours = environment_of(url, base_url, folder, settings)
        async with night("alone", grounds.plan.grown, folder, ours) as process:
            return await _watched(process, ledger)


async def _watched(process: Worker, ledger: Ledger) -> tuple[list[Sample], float]:
    samples: list[Sample] = []
    ending = asyncio.create_task(seconds_of(process))
    while not ending.done():
        samples.append((await ledger.complete(), own_memory(process.pid)))
        await asyncio.wait({ending}, timeout=_LOOK_S)
    samples.append((await ledger.complete(), own_memory(process.pid)))  # it stays until nobody listens
    return samples, await ending
