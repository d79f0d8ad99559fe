"""A night that ended with its process is gone on with by the next, if that comes soon and would be the same."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import OrderKind, RunState
from pipeline.errors import CalledOffError, EndpointFatalError, RunHaltedError, ShardTakenOverError
from pipeline.night import Night, open_night
from pipeline.orders import give_order
from pipeline.run_states import begin_run, end_run
from pipeline.runs import Run
from pipeline.settings import Settings, load_settings
from tests.fixtures.moody_endpoint import MoodyEndpoint, always, moody_endpoint, slate
from tests.fixtures.shop import add_customer, add_product, change, comes_to, read


@pytest.fixture
async def endpoint(engine: AsyncEngine) -> AsyncIterator[MoodyEndpoint]:
    """A shop of one customer, and somebody who would serve him."""
    await add_product(engine, "p1")
    await add_customer(engine, "a")
    async with moody_endpoint(always(slate(1))) as opened:
        yield opened


@pytest.fixture
def settings(endpoint: MoodyEndpoint, database_url: str) -> Settings:
    return load_settings(database_url=database_url, openai_base_url=endpoint.base_url, model="test-model")


async def begun(night: Night) -> Run:
    run = await night.plan(None)
    await begin_run(night.engine, run.run_id)
    return run


async def what_is_gone_on_with(settings: Settings) -> Run | None:
    async with open_night(settings) as night:
        return await night.interrupted()


async def died(settings: Settings) -> Run:
    """A night whose process died in the middle."""
    async with open_night(settings) as night:
        return await begun(night)


async def test_a_night_whose_process_died_is_gone_on_with(settings: Settings) -> None:
    former = await died(settings)
    found = await what_is_gone_on_with(settings)
    assert found is not None
    assert (found.run_id, found.state, found.interrupted) == (former.run_id, RunState.FAILED, True)


async def answering(settings: Settings, begins: asyncio.Event) -> None:
    """A night that goes on until it is cancelled."""
    async with open_night(settings) as night, night.answering_for(await night.plan(None)):
        begins.set()
        await asyncio.Event().wait()


async def begin_and_wait(night: Night, run: Run) -> None:
    """Answer for the run until cancelled."""
    async with night.answering_for(run):
        await asyncio.Event().wait()


async def test_a_night_that_was_interrupted_is_gone_on_with(settings: Settings) -> None:
    begins = asyncio.Event()
    going_on = asyncio.create_task(answering(settings, begins))
    await asyncio.wait_for(begins.wait(), 30)
    going_on.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going_on

    found = await what_is_gone_on_with(settings)
    assert found is not None
    assert found.state is RunState.CANCELLED


async def test_a_trial_over_some_customers_is_left_alone_however_it_ended(settings: Settings) -> None:
    async with open_night(settings) as night:
        run = await night.plan(1)
        await begin_run(night.engine, run.run_id)
    assert await what_is_gone_on_with(settings) is None


async def test_a_night_that_was_only_planned_is_left_alone(settings: Settings) -> None:
    async with open_night(settings) as night:
        await night.plan(None)
    assert await what_is_gone_on_with(settings) is None


async def test_a_night_that_a_person_broke_off_at_the_terminal_is_left_alone(
    engine: AsyncEngine, settings: Settings
) -> None:
    begins = asyncio.Event()
    going_on = asyncio.create_task(answering(settings, begins))
    await asyncio.wait_for(begins.wait(), 30)
    going_on.cancel(RunHaltedError("interrupted"))
    with pytest.raises(asyncio.CancelledError):
        await going_on

    assert await read(engine, "SELECT state, interrupted, reason FROM runs") == [
        ("cancelled", False, "interrupted; `recstream resume` goes on from the rows that are committed")
    ]
    assert await what_is_gone_on_with(settings) is None


@pytest.mark.parametrize("taken_up", [False, True])
async def test_a_night_that_a_person_cancels_while_it_begins_is_cancelled_and_left_alone(
    engine: AsyncEngine, admin: AsyncEngine, settings: Settings, taken_up: bool
) -> None:
    if taken_up:
        await died(settings)
    async with open_night(settings) as night:
        run = await night.interrupted() or await night.plan(None)
        async with admin.begin() as held:
            await held.execute(text("SELECT FROM runs FOR UPDATE"))
            beginning = asyncio.create_task(begin_and_wait(night, run))
            await comes_to(
                admin,
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
                1,
            )
            beginning.cancel(CalledOffError("cancelled by anna"))
        with pytest.raises(asyncio.CancelledError):
            await beginning

    ((state, interrupted, reason),) = await read(engine, "SELECT state, interrupted, reason FROM runs")
    assert (state, interrupted) == ("cancelled", False)
    assert str(reason).startswith("cancelled by anna; `recstream resume` goes on")
    assert await what_is_gone_on_with(settings) is None


async def test_a_night_that_is_gone_on_with_is_not_interrupted_any_more(settings: Settings) -> None:
    former = await died(settings)
    async with open_night(settings) as night:
        await begin_run(night.engine, former.run_id)
        await end_run(night.engine, former.run_id, RunState.FAILED, "1 customer has no complete slate")
        assert await night.interrupted() is None


async def test_a_night_that_a_person_cancelled_is_left_alone(engine: AsyncEngine, settings: Settings) -> None:
    async with open_night(settings) as night:
        run = await night.plan(None)
        with pytest.raises(asyncio.CancelledError):
            async with night.answering_for(run):
                await give_order(engine, run.run_id, OrderKind.CANCEL)
                raise asyncio.CancelledError
    assert await read(engine, "SELECT state, interrupted FROM runs") == [("cancelled", False)]
    assert await what_is_gone_on_with(settings) is None


@pytest.mark.parametrize("kind", [OrderKind.CANCEL, OrderKind.DRAIN])
async def test_a_night_that_died_after_a_person_had_ordered_its_end_is_left_alone(
    engine: AsyncEngine, settings: Settings, kind: OrderKind
) -> None:
    former = await died(settings)
    await give_order(engine, former.run_id, kind)
    assert await what_is_gone_on_with(settings) is None
    assert await read(engine, "SELECT state, interrupted FROM runs") == [("cancelled", False)]


async def test_a_night_that_failed_for_a_reason_of_its_own_is_left_alone(settings: Settings) -> None:
    async with open_night(settings) as night:
        run = await night.plan(None)
        with pytest.raises(EndpointFatalError):
            async with night.answering_for(run):
                raise EndpointFatalError("no quota")
        assert await night.interrupted() is None


@pytest.mark.parametrize(("hours", "planned_before_h", "taken_up"), [(12, 11, True), (12, 13, False), (0, 0, False)])
async def test_a_night_is_gone_on_with_for_so_many_hours(
    engine: AsyncEngine,
    admin: AsyncEngine,
    settings: Settings,
    hours: float,
    planned_before_h: int,
    taken_up: bool,
) -> None:
    await died(settings)
    await change(admin, "UPDATE runs SET created_at = now() - make_interval(hours => :before)", before=planned_before_h)
    found = await what_is_gone_on_with(settings.model_copy(update={"take_up_hours": hours}))
    assert (found is not None) is taken_up


async def test_a_night_that_would_be_another_now_is_planned_anew(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    await died(settings)
    assert await what_is_gone_on_with(settings.model_copy(update={"temperature": 0.9})) is None
    assert "a night is planned anew" in caplog.text


async def test_a_parent_whose_run_another_has_taken_up_does_not_end_it(engine: AsyncEngine, settings: Settings) -> None:
    async with open_night(settings) as night:
        run = await night.plan(None)
        with pytest.raises(ShardTakenOverError):
            async with night.answering_for(run):
                raise ShardTakenOverError("offered by another")
    assert await read(engine, "SELECT state FROM runs") == [("running",)]
