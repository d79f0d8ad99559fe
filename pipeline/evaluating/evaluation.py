"""Measures what was known at a moment against what was purchased after it: candidates, and the slates of runs."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import CustomerId, ProductId
from pipeline.evaluating.lists import ListName, Lists, ListSource, PopularLists, Ranked, popular_products
from pipeline.evaluating.report import Evaluation, MeasuredList
from pipeline.evaluating.resampling import RESAMPLES
from pipeline.evaluating.shoppers import Catalog, Shopper, shoppers, sold_before
from pipeline.evaluating.splits import Split
from pipeline.evaluating.tallying import Tally
from pipeline.evaluating.vocabulary import Scope
from pipeline.persistence import persistent
from pipeline.tables import products

POPULARITY_DAYS: Final = 14
_MOST_POPULAR: Final = 5_000  # who has purchased nearly all of these gets a shorter list of popular products
_TODAY: Final = (
    "out of stock, hidden and banned are products as they are today: what they were then is kept nowhere, so of lists "
    "that were made today some targets are missing"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How an evaluation is made: with which depth of candidates, seed and zone, and with slates or without."""

    split: Split
    zone: ZoneInfo
    places: int
    seed: int
    slates: bool = True


async def measure(
    engine: AsyncEngine,
    wanted: Wanted,
    sources: Sequence[ListSource],
    *,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Measure these lists, and popularity beside them, for every customer who had purchased anything before.

    Where slates of runs are among them, only customers count who have a complete slate in each, so that all lists are
    of the same ones. Where they are of groups that have nobody in common, each group counts for its own lists.

    Raises:
        DatabaseError: a statement was refused, or the connection was lost on the way.
    """
    popular = await popular_products(engine, wanted.split.as_of, POPULARITY_DAYS, _MOST_POPULAR)
    sold = await sold_before(engine, wanted.split)
    names = [name for source in sources for name in source.names]
    runs = [name for name in names if name.run is not None]
    beside = list(dict.fromkeys(name.of for name in runs)) or [None]
    popularity = [PopularLists(popular, wanted.places, POPULARITY_DAYS, of) for of in beside]
    everything = [*sources, *popularity]
    names += [name for source in popularity for name in source.names]
    tally = Tally(names, places=wanted.places, seed=wanted.seed, slates=wanted.slates)
    pages = shoppers(engine, wanted.split, Catalog(sold, popular, wanted.zone.key))
    async with aclosing(pages):
        async for page in pages:
            lists = await _lists(everything, page)
            tally.add(*_of_those_with(runs, page, lists))
    return await _report(engine, wanted, tally, names, len(sold), notes)


async def _lists(sources: Sequence[ListSource], page: Sequence[Shopper]) -> Lists:
    found: dict[tuple[str, Scope], Ranked] = {}
    for source in sources:
        found.update(await source.lists(page))
    return found


def _of_those_with(runs: Sequence[ListName], page: Sequence[Shopper], lists: Lists) -> tuple[Sequence[Shopper], Lists]:
    """The customers who have a slate in each run, or in their group's, and their lists."""
    if not runs:
        return page, lists
    slates = [set(lists[name.key, Scope.ALL]) for name in runs]
    having = set.intersection(*slates) if runs[0].of is None else set.union(*slates)
    kept = [shopper for shopper in page if shopper.customer_id in having]
    return kept, {key: _only(ranked, having) for key, ranked in lists.items()}


def _only(ranked: Ranked, having: set[CustomerId]) -> Mapping[CustomerId, Sequence[ProductId]]:
    return {customer: listed for customer, listed in ranked.items() if customer in having}


async def _report(
    engine: AsyncEngine, wanted: Wanted, tally: Tally, names: Sequence[ListName], sold: int, notes: Sequence[str]
) -> Evaluation:
    catalog = await _catalog_size(engine)
    split = wanted.split
    return Evaluation(
        begins=split.begins,
        until=split.until,
        days=(split.until - split.begins).days,
        places=wanted.places,
        seed=wanted.seed,
        resamples=RESAMPLES,
        counted=tally.counted(catalog, sold),
        lists=tuple(MeasuredList(name.key, name.told, name.run, name.ranked_by) for name in names),
        figures=tally.figures(),
        coverage=tally.coverage(catalog),
        notes=(*notes, _TODAY),
    )


@persistent
async def _catalog_size(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(products)) or 0
