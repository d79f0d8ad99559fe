"""Measures the candidates as the shop finds them: built and looked up as of a moment, held against what came after."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from pipeline.candidates.building import BuildMethod
from pipeline.candidates.builds import Build
from pipeline.candidates.lookup import BuiltCandidates
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.candidates.rules import Rules
from pipeline.database import open_engine
from pipeline.evaluating.evaluation import Wanted, measure
from pipeline.evaluating.lists import CANDIDATES, NEW_CANDIDATES, CandidateLists, ListName
from pipeline.evaluating.report import Evaluation
from pipeline.evaluating.splits import Split, read_span, split_of
from pipeline.evaluating.trial import trial_build
from pipeline.evaluating.vocabulary import Scope

_AS_SET = ListName(CANDIDATES, "our candidates, in order")
_NEW_ONLY = ListName(NEW_CANDIDATES, "our candidates, no places for repeats", (Scope.NEW,))


@dataclass(frozen=True, slots=True)
class Way:
    """How the shop finds its candidates."""

    recipe: CandidateRecipe
    rules: Rules
    method: BuildMethod
    places: int


def evaluate_candidates(
    url: str,
    way: Way,
    *,
    begins: datetime | None,
    days: int,
    zone: ZoneInfo,
    seed: int,
    slates: bool = True,
    tell: Callable[[str], None],
) -> Evaluation:
    """Build the candidates as of the split, look them up for everybody, and measure them; the build is dropped.

    Raises:
        InputError: the split cannot be made without knowing what is to be foretold.
        DatabaseError: the build failed, a statement was refused, or the connection was lost.
    """
    split = asyncio.run(find_split(url, begins=begins, days=days, zone=zone))
    with trial_build(url, way.recipe, split, method=way.method, tell=tell) as build:
        tell(f"looking up {way.places} candidates for everybody who had purchased something by then")
        wanted = Wanted(split, zone, way.places, seed, slates)
        return asyncio.run(measure_build(url, build, way, wanted))


async def find_split(url: str, *, begins: datetime | None, days: int, zone: ZoneInfo) -> Split:
    """The split at `begins`, or the last one.

    Raises:
        InputError: it cannot be made.
    """
    async with open_engine(url, connections=1) as engine:
        return split_of(await read_span(engine), begins=begins, days=days, zone=zone)


async def measure_build(url: str, build: Build, way: Way, wanted: Wanted) -> Evaluation:
    """Measure what is found in one build: with the places as they are set, and with all of them for new products."""
    only_new = way.recipe.model_copy(update={"repeat_share": 0.0})
    async with open_engine(url, connections=1) as engine:
        sources = []
        for name, recipe in ((_AS_SET, way.recipe), (_NEW_ONLY, only_new)):
            found = await BuiltCandidates.open(
                engine,
                build,
                wanted.split.as_of,
                recipe=recipe,
                rules=way.rules,
                most=way.places,
                order="retrieval",
                seed=0,
            )
            sources.append(CandidateLists(name, found))
        return await measure(engine, wanted, sources)
