"""Tries recipes on one split: each by a build of its own, on the same customers, with what each of them found."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from heapq import nlargest
from types import TracebackType
from typing import Final, Self

import numpy as np

from pipeline.candidates.building import build_candidates, drop_build
from pipeline.candidates.builds import Build
from pipeline.candidates.lookup import BuiltCandidates
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.database import open_engine
from pipeline.domain import CustomerId
from pipeline.errors import InputError
from pipeline.evaluating.lists import CANDIDATES, CandidateLists, ListName
from pipeline.evaluating.measuring import measured
from pipeline.evaluating.measuring_candidates import Way
from pipeline.evaluating.resampling import Matrix
from pipeline.evaluating.shoppers import PAGE, Catalog, Shopper, shoppers, sold_before
from pipeline.evaluating.splits import Split, require_known
from pipeline.evaluating.trial import patiently
from pipeline.evaluating.vocabulary import At, Measure, Scope, Segment

MOST_CUSTOMERS: Final = 3_000
"""So many customers are tried on at most, chosen by a digest of their ids: whoever is chosen once always is."""
SCOPES: Final = (Scope.ALL, Scope.NEW)


class Trials:
    """Recipes tried on one split. A context manager: its builds are dropped at the end, whatever that is."""

    def __init__(self, url: str, split: Split, way: Way, zone: str, tell: Callable[[str], None]) -> None:
        self._url = url
        self._split = split
        self._way = way
        self._tell = tell
        self._builds: list[Build] = []
        self._sample = asyncio.run(_sample(url, split, zone))

    def __enter__(self) -> Self:
        """Nothing is built yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Drop what was built."""
        while self._builds:
            drop_build(self._url, self._builds.pop().build_id)

    @property
    def customers(self) -> int:
        """How many are tried on."""
        return len(self._sample)

    def recall(self, recipe: CandidateRecipe) -> Matrix:
        """A row for each customer: how much of all that he purchased is found, and of what was new to him (or NaN).

        Raises:
            DatabaseError: the build failed, or the connection was lost.
        """
        build = self._build_for(recipe)
        return asyncio.run(self._recall(replace(self._way, recipe=recipe), build))

    def _build_for(self, recipe: CandidateRecipe) -> Build:
        """One that has this recipe's shape; the two that were used last are kept."""
        for build in self._builds:
            if recipe.shapes_as(build.recipe):
                self._builds.remove(build)
                self._builds.append(build)
                return build
        while len(self._builds) > 1:
            drop_build(self._url, self._builds.pop(0).build_id)
        as_of, method = self._split.as_of, self._way.method
        making = partial(build_candidates, self._url, recipe, as_of=as_of, method=method, trial=True)
        build = patiently(making, self._tell)
        self._builds.append(build)
        require_known(self._split, build)
        return build

    async def _recall(self, way: Way, build: Build) -> Matrix:
        name, at = ListName(CANDIDATES, "candidates", SCOPES), [At(Measure.RECALL, way.places)]
        found: list[Matrix] = []
        async with open_engine(self._url, connections=1) as engine:
            source = await BuiltCandidates.open(
                engine,
                build,
                self._split.as_of,
                recipe=way.recipe,
                rules=way.rules,
                most=way.places,
                order="retrieval",
                seed=0,
            )
            for start in range(0, len(self._sample), PAGE):
                page = self._sample[start : start + PAGE]
                lists = await CandidateLists(name, source).lists(page)
                columns = [
                    measured({it.customer_id: it.targets.of(scope) for it in page}, lists[CANDIDATES, scope], at)
                    for scope in SCOPES
                ]
                found.append(np.concatenate(columns, axis=1))
        return np.concatenate(found)


async def _sample(url: str, split: Split, zone: str) -> Sequence[Shopper]:
    """The customers to try on, of those who had purchased something before and did again.

    Raises:
        InputError: there are none.
    """
    chosen: list[tuple[bytes, Shopper]] = []
    async with open_engine(url, connections=1) as engine:
        catalog = Catalog(await sold_before(engine, split), (), zone)
        async with aclosing(shoppers(engine, split, catalog)) as pages:
            async for page in pages:
                chosen += [(_digest(it.customer_id), it) for it in page if _is_tried(it)]
                chosen = nlargest(MOST_CUSTOMERS, chosen, key=lambda each: each[0])
    if not chosen:
        raise InputError(
            f"nobody who had purchased something before {split.begins:%Y-%m-%d} did again by {split.until:%Y-%m-%d}: "
            "there is nothing to tune by; take other --days"
        )
    return [shopper for _, shopper in chosen]


def _is_tried(shopper: Shopper) -> bool:
    return shopper.targets.segment is not Segment.COLD and bool(shopper.targets.of(Scope.ALL))


def _digest(customer_id: CustomerId) -> bytes:
    return blake2b(customer_id.encode(errors="surrogatepass"), digest_size=8).digest()
