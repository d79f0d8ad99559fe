"""Readers who read the slates of random customers all the time, and look whether each is wholly of one night."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bench.write.shop import Shop
from bench.write.slates import night_of, slate_reader
from pipeline.domain import RunId

READERS = 4
_LOOK_AGAIN_S = 0.01


@dataclass(slots=True)
class Watch:
    """What readers have seen so far: slates by night, slates that were torn, and how long each read took."""

    nights: Counter[int] = field(default_factory=Counter)
    torn: int = 0
    read_ms: list[float] = field(default_factory=list)
    readers: list["asyncio.Task[None]"] = field(default_factory=list)

    async def see_more(self, reads: int) -> None:
        """Wait until so many more slates have been read; what ended a reader is raised."""
        wanted = len(self.read_ms) + reads
        while len(self.read_ms) < wanted:
            await asyncio.sleep(_LOOK_AGAIN_S)
            for reader in self.readers:
                if reader.done():
                    reader.result()


@asynccontextmanager
async def watching(url: str, shop: Shop, nights: Sequence[RunId]) -> AsyncIterator[Watch]:
    """Readers, each with a connection of its own, while the block runs."""
    watch = Watch()
    watch.readers.extend(
        asyncio.create_task(_read_on(url, shop, nights, watch, random.Random(seed))) for seed in range(READERS)
    )
    try:
        yield watch
    finally:
        for reader in watch.readers:
            reader.cancel()
        await asyncio.wait(watch.readers)


async def _read_on(url: str, shop: Shop, nights: Sequence[RunId], watch: Watch, customers: random.Random) -> None:
    async with slate_reader(url) as read:
        while True:
            customer = customers.randint(1, shop.customers)
            begun = time.monotonic()
            rows = await read(customer)
            watch.read_ms.append((time.monotonic() - begun) * 1000)
            night = night_of(shop, nights, customer, rows)
            if night is None:
                watch.torn += 1
            else:
                watch.nights[night] += 1
