"""The composition root: opens what a run and its shards share, and puts the stages together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates import CandidateSource, PopularCandidates
from pipeline.database import open_engine
from pipeline.group_commit import Tell, open_group_commit, tell_nobody
from pipeline.notifying import open_notifier
from pipeline.persistence import persistent
from pipeline.recommending import SlateServices
from pipeline.runs import Ranker, Run
from pipeline.segments import ShopHabits
from pipeline.settings import Settings
from pipeline.slates import SlateLedger
from pipeline.streaming import Endpoint, open_client

MAX_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class ShardServices:
    """What the customers of one shard share."""

    engine: AsyncEngine
    candidates: CandidateSource
    slate: SlateServices
    habits: ShopHabits
    concurrency: int


@asynccontextmanager
async def open_shard_services(
    settings: Settings, url: str, endpoint: Endpoint, run: Run
) -> AsyncIterator[ShardServices]:
    """Everything a shard of this run needs, closed at its end.

    Raises:
        DatabaseUnavailableError: nobody answers at `url`.
    """
    connections = min(settings.concurrency, MAX_CONNECTIONS)
    async with (
        open_engine(url, connections=connections) as engine,
        open_client(endpoint, concurrency=settings.concurrency) as client,
        _telling(settings, url, run) as tell,
        open_group_commit(url, run.run_id, run.day, endpoint.provenance, tell=tell) as writer,
    ):
        source = await persistent(PopularCandidates.open)(
            engine, run.as_of, days=settings.popularity_days, most=settings.candidate_count
        )
        slate = SlateServices(
            client=client,
            endpoint=endpoint,
            writer=writer,
            ledger=SlateLedger(engine, run.run_id, run.day),
            slate_size=run.slate_size,
            attempts=settings.attempts,
        )
        habits = ShopHabits(settings.time_zone, settings.currency)
        yield ShardServices(engine, source, slate, habits, settings.concurrency)


@asynccontextmanager
async def _telling(settings: Settings, url: str, run: Run) -> AsyncIterator[Tell]:
    """What tells listeners of committed rows, unless the settings turn it off."""
    if not settings.notify:
        yield tell_nobody
        return
    async with open_notifier(url, run.run_id) as notifier:
        yield notifier.tell


def ranker_of(endpoint: Endpoint) -> Ranker:
    """What the ledger keeps of the endpoint: never its key, nor a password in its address."""
    return Ranker(endpoint.model, endpoint.address, endpoint.provenance, endpoint.temperature)
