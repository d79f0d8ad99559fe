"""The ledger of builds: which there are, which is in service, and how one is put there."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal, cast

from sqlalchemy import Select, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.recipe import CandidateRecipe
from pipeline.database import statement
from pipeline.domain import RunId
from pipeline.errors import InputError
from pipeline.serving_build import serving_build
from pipeline.tables import candidate_builds as builds
from pipeline.tables import runs

Method = Literal["sql", "scipy"]
_LATE: Final = timedelta(days=0.5)  # nights do not begin at the same second


class BuildState(StrEnum):
    """BUILDING: being made, or its process died. READY: can be in service. FAILED, DROPPED: nothing of it is left."""

    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Build:
    """What candidates are looked up in. It knows of nothing after `as_of`.

    `customers` have purchased something; `products` have a number in it, those nobody has purchased too; `purchases`
    are different products of a customer, summed over customers; `pairs` are the neighbours of all products.
    """

    build_id: int
    state: BuildState
    trial: bool
    method: Method
    as_of: datetime
    recipe: CandidateRecipe
    customers: int
    products: int
    purchases: int
    pairs: int
    started_at: datetime
    ended_at: datetime | None = None
    in_service_at: datetime | None = None
    reason: str | None = None


async def current_build(engine: AsyncEngine) -> Build | None:
    """The build in service; None where there has not been one yet."""
    found = await _read(engine, select(builds).where(builds.c.build_id == serving_build().scalar_subquery()))
    return found[0] if found else None


async def stays_in_service(engine: AsyncEngine, recipe: CandidateRecipe, every_days: int) -> bool:
    """Whether a night that began now would leave the build in service: it is by this recipe, and young enough.

    Both count: when it was built, and what it looks up to. With one day every night builds.
    """
    current = None if every_days == 1 else await current_build(engine)
    if current is None or not current.recipe.shapes_as(recipe):
        return False
    async with engine.connect() as connection:
        newest: datetime = (await connection.execute(statement("as_of"))).scalar_one()
    age = max(datetime.now(UTC) - current.started_at, newest - current.as_of)
    return age < timedelta(days=every_days) - _LATE


async def find_build(engine: AsyncEngine, build_id: int) -> Build | None:
    """The build of this number, whatever its state; None where there is none."""
    found = await _read(engine, select(builds).where(builds.c.build_id == build_id))
    return found[0] if found else None


async def list_builds(engine: AsyncEngine, limit: int, *, trials: bool = False) -> list[Build]:
    """The newest builds of every state, at most `limit`, the newest first; and the one in service, however old it is.

    What was made on trial is left out, unless `trials` are wanted too.
    """
    newest = select(builds.c.build_id).order_by(builds.c.build_id.desc()).limit(limit)
    if not trials:
        newest = newest.where(~builds.c.trial)
    shown = builds.c.build_id.in_(newest) | (builds.c.build_id == serving_build().scalar_subquery())
    return await _read(engine, select(builds).where(shown).order_by(builds.c.build_id.desc()))


async def build_of_run(engine: AsyncEngine, run_id: RunId) -> int | None:
    """The number of the build that the run has begun with, be it there or not; None where there was none."""
    async with engine.connect() as connection:
        noted: int | None = await connection.scalar(select(runs.c.candidate_build).where(runs.c.run_id == run_id))
        return noted


async def note_build_of_run(engine: AsyncEngine, run_id: RunId, build_id: int) -> None:
    """The run goes on with this build: it stays for as long as the run does."""
    async with engine.begin() as connection:
        await connection.execute(update(runs).where(runs.c.run_id == run_id).values(candidate_build=build_id))


async def take_into_service(engine: AsyncEngine, build_id: int) -> Build:
    """Have candidates looked up in this build from now on; runs that go on keep the one that they have begun with.

    Raises:
        InputError: there is no such build, or it cannot be in service.
    """
    taking = (
        update(builds)
        .where(builds.c.build_id == build_id, builds.c.state == BuildState.READY, ~builds.c.trial)
        .values(in_service_at=func.clock_timestamp())
    )
    async with engine.begin() as connection:
        taken = (await connection.execute(taking)).rowcount
    build = await find_build(engine, build_id)
    if build is None:
        raise InputError(f"there is no build {build_id}: `recstream candidates list` shows them")
    if not taken:
        raise InputError(f"build {build_id} cannot be in service: it {_why_not(build)}")
    return build


def _why_not(build: Build) -> str:
    if build.trial:
        return "was made on trial, to be measured"
    said = {BuildState.BUILDING: "is not ready", BuildState.DROPPED: "was dropped", BuildState.FAILED: "has failed"}
    return said.get(build.state, f"is {build.state}")


async def _read(engine: AsyncEngine, query: Select[tuple[object, ...]]) -> list[Build]:
    async with engine.connect() as connection:
        return [build_of(dict(row)) for row in (await connection.execute(query)).mappings()]


def build_of(row: Mapping[str, Any]) -> Build:
    """The build that a row of the ledger tells of, whichever version wrote it."""
    return Build(
        build_id=row["build_id"],
        state=BuildState(row["state"]),
        trial=row["trial"],
        method=cast(Method, row["method"]),
        as_of=row["as_of"].astimezone(UTC),
        recipe=CandidateRecipe.written_by_any_version(row["recipe"]),
        customers=row["customers"] or 0,
        products=row["products"] or 0,
        purchases=row["purchases"] or 0,
        pairs=row["pairs"] or 0,
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        in_service_at=row["in_service_at"],
        reason=row["reason"],
    )
