"""The build that a run finds its candidates in: the one that it has begun with, however often it is gone on with."""

import logging

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.builds import take_into_service
from pipeline.candidates.opening import CandidateWishes, open_candidates
from pipeline.candidates.popular import PopularCandidates
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.domain import CustomerId, Profile, RunId
from pipeline.rule_entries import Rules
from tests.fixtures.built import add_build
from tests.fixtures.shop import NOW, add_product, add_run, change

BOUGHT = {"lamp": (1, 40.0, 40.0)}
WISHES = CandidateWishes(10, CandidateRecipe(), Rules(), "retrieval", popularity_days=30, every_days=1)


@pytest.fixture
async def shop(engine: AsyncEngine) -> AsyncEngine:
    """A lamp, which somebody has bought."""
    await add_product(engine, "lamp")
    return engine


async def test_a_run_goes_on_with_the_build_that_it_has_begun_with(shop: AsyncEngine) -> None:
    first = await add_build(shop, histories={"c": BOUGHT})
    run = await add_run(shop, "c")
    second = await add_build(shop, histories={"c": BOUGHT})

    assert await build_that_serves(shop, run.run_id) == first.build_id
    await take_into_service(shop, first.build_id)
    await take_into_service(shop, second.build_id)
    assert await build_that_serves(shop, run.run_id) == first.build_id, "whatever is taken into service, and when"
    assert await build_that_serves(shop) == second.build_id


async def test_a_run_whose_build_is_gone_says_so_once_and_goes_on_with_the_one_in_service(
    shop: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    first = await add_build(shop, histories={"c": BOUGHT})
    run = await add_run(shop, "c")
    second = await add_build(shop, histories={"c": BOUGHT})
    await change(shop, "SELECT recstream_drop_build(:build_id)", build_id=first.build_id)

    assert await build_that_serves(shop, run.run_id) == second.build_id
    third = await add_build(shop, histories={"c": BOUGHT})
    assert await build_that_serves(shop, run.run_id) == second.build_id != third.build_id

    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warning == (
        f"run {run.run_id} began with build {first.build_id} of the candidates, which was dropped since: it goes on "
        f"with build {second.build_id}, which is in service, and its other customers find other candidates"
    )


async def test_a_run_of_a_shop_without_a_build_keeps_the_first_that_it_finds(shop: AsyncEngine) -> None:
    run = await add_run(shop, "c")
    assert isinstance(await open_candidates(shop, NOW, WISHES, run_id=run.run_id), PopularCandidates)
    first = await add_build(shop, histories={"c": BOUGHT})
    assert await build_that_serves(shop, run.run_id) == first.build_id
    await add_build(shop, histories={"c": BOUGHT})
    assert await build_that_serves(shop, run.run_id) == first.build_id


async def build_that_serves(shop: AsyncEngine, run_id: RunId | None = None) -> int | None:
    """The build in which a customer's candidates are found, for this run or for none."""
    source = await open_candidates(shop, NOW, WISHES, run_id=run_id)
    (found,) = (await source.candidates([Profile(CustomerId("c"))])).values()
    return found.build_id
