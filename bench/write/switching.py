"""Publishing a night and rolling it back, while readers read."""

import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field

from bench.write.shop import Shop
from bench.write.slates import night_of, slate_reader
from bench.write.watching import Watch, watching
from pipeline.database import open_engine
from pipeline.domain import RunId
from pipeline.errors import DatabaseError
from pipeline.gates import Gates
from pipeline.publishing import Publication, Rollback, publish_by_hand, publish_night, roll_back


@dataclass(frozen=True, slots=True)
class Switches:
    """Seconds that each publication and each rollback took, and what readers saw meanwhile."""

    watch: Watch
    published_s: list[float] = field(default_factory=list)
    rolled_back_s: list[float] = field(default_factory=list)


async def switch(url: str, shop: Shop, nights: Sequence[RunId], switches: int, reads_between: int) -> Switches:
    """Publish the nights in their order, then roll the last one back and publish it again; it is published at the end.

    Raises:
        DatabaseError: a switch was refused, or right after it a reader saw another night than he must.
    """
    last = nights[-1]
    gates = Gates()
    async with open_engine(url, connections=1) as engine:
        for night in nights[:-1]:
            await _timed(publish_night(engine, night, gates))
        async with watching(url, shop, nights) as watch:
            taken = Switches(watch)
            for number in range(switches + 1):
                if number:
                    taken.rolled_back_s.append(await _timed(roll_back(engine, last)))
                    await _require_night(url, shop, nights, nights[-2])
                    await watch.see_more(reads_between)
                published = publish_by_hand(engine, last, gates) if number else publish_night(engine, last, gates)
                taken.published_s.append(await _timed(published))
                await _require_night(url, shop, nights, last)
                await watch.see_more(reads_between)
    return taken


async def _timed(switching: Coroutine[None, None, Publication | Rollback]) -> float:
    begun = time.monotonic()
    switched = await switching
    seconds = time.monotonic() - begun
    if not switched.changed:
        raise DatabaseError(f"run {switched.run_id} was not switched: no figure holds")
    return seconds


async def _require_night(url: str, shop: Shop, nights: Sequence[RunId], wanted: RunId) -> None:
    async with slate_reader(url) as read:
        found = night_of(shop, nights, 1, await read(1))
    if found is None or nights[found] != wanted:
        raise DatabaseError(f"after the switch a reader must see run {wanted}, and does not: no figure holds")
