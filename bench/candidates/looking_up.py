"""Candidates of many customers, found as a run finds them: pages of five hundred, through one connection."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from bench.candidates.plan import PAGE, PLACES
from bench.candidates.usage import cpu_seconds
from pipeline.candidates.builds import Build
from pipeline.candidates.lookup import BuiltCandidates
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.database import open_engine
from pipeline.domain import CustomerId, ProductId, Profile
from pipeline.rule_entries import Rules

FoundLists = dict[CustomerId, list[ProductId]]


async def look_up(
    url: str, build: Build, as_of: datetime, recipe: CandidateRecipe, customers: Sequence[CustomerId]
) -> FoundLists:
    """For each customer the products that were found, best first, with the rules that hold where none are set."""
    found: FoundLists = {}
    async with _source(url, build, as_of, recipe) as source:
        for page in _pages(customers):
            for customer, candidates in (await source.candidates(page)).items():
                found[customer] = [candidate.product.product_id for candidate in candidates.found]
    return found


async def customers_per_core(
    url: str, postmaster: int, build: Build, as_of: datetime, recipe: CandidateRecipe, customers: Sequence[CustomerId]
) -> float:
    """Customers looked up in a second of CPU, the server's and ours together. What is read once a run is left out."""
    async with _source(url, build, as_of, recipe) as source:
        first, *pages = _pages(customers)
        await source.candidates(first)
        ours, theirs = time.process_time(), cpu_seconds(postmaster)
        for page in pages:
            await source.candidates(page)
        taken = time.process_time() - ours + cpu_seconds(postmaster) - theirs
    return sum(map(len, pages)) / taken


@asynccontextmanager
async def _source(url: str, build: Build, as_of: datetime, recipe: CandidateRecipe) -> AsyncIterator[BuiltCandidates]:
    async with open_engine(url, connections=1) as engine:
        yield await BuiltCandidates.open(
            engine, build, as_of, recipe=recipe, rules=Rules(), most=PLACES, order="shuffled", seed=0
        )


def _pages(customers: Sequence[CustomerId]) -> list[list[Profile]]:
    profiles = [Profile(customer) for customer in customers]
    return [profiles[begin : begin + PAGE] for begin in range(0, len(profiles), PAGE)]
