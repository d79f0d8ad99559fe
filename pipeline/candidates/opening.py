"""Opens where candidates are found: the build that was in service when a run began, or what is popular without one."""

import logging
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates import CandidateSource
from pipeline.candidates.builds import (
    Build,
    BuildState,
    build_of_run,
    current_build,
    find_build,
    note_build_of_run,
)
from pipeline.candidates.lookup import BuiltCandidates
from pipeline.candidates.popular import PopularCandidates
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.domain import CandidateOrder, RunId
from pipeline.rule_entries import Rules

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CandidateWishes:
    """How the settings want candidates: at most so many for a customer, by these rules, shown in this order.

    `popularity_days` and `every_days` are for a shop without a build: how far popularity looks back, and for how long
    it stands still.
    """

    most: int
    recipe: CandidateRecipe
    rules: Rules
    order: CandidateOrder
    popularity_days: int
    every_days: int


async def open_candidates(
    engine: AsyncEngine, as_of: datetime, wishes: CandidateWishes, *, seed: int = 0, run_id: RunId | None = None
) -> CandidateSource:
    """Where the candidates of a run are found that looks at customers as of `as_of`, shuffled by its `seed`.

    With `run_id` they are found in the build that this run has begun with, whatever was built since. Where that is
    gone, or the run had none, it goes on with the one in service, and the ledger has that. Without, nothing is written.
    """
    build = await current_build(engine) if run_id is None else await _build_of(engine, run_id)
    if build is None:
        _log.info("no candidates have been built yet: all are offered what is popular (`recstream candidates build`)")
        return await PopularCandidates.open(
            engine,
            as_of,
            days=wishes.popularity_days,
            most=wishes.most,
            every_days=wishes.every_days,
            rules=wishes.rules,
            order=wishes.order,
            seed=seed,
        )
    return await BuiltCandidates.open(
        engine,
        build,
        as_of,
        recipe=wishes.recipe,
        rules=wishes.rules,
        most=wishes.most,
        order=wishes.order,
        seed=seed,
    )


async def _build_of(engine: AsyncEngine, run_id: RunId) -> Build | None:
    noted = await build_of_run(engine, run_id)
    begun_with = None if noted is None else await find_build(engine, noted)
    if begun_with is not None and begun_with.state is BuildState.READY:
        return begun_with
    serving = await current_build(engine)
    if noted is not None:
        _log.warning(
            "run %s began with build %d of the candidates, which was dropped since: it goes on with %s, and its other "
            "customers find other candidates",
            run_id,
            noted,
            "what is popular" if serving is None else f"build {serving.build_id}, which is in service",
        )
    if serving is not None:
        await note_build_of_run(engine, run_id, serving.build_id)
    return serving
