"""A night that is started again after a crash: it goes on with the run of the dead one, and plans no second."""

from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Crashed, Running
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.nightly import nightly
from pipeline.domain import OrderKind, RunState
from pipeline.night import open_night
from pipeline.orders import give_order
from pipeline.run_states import begin_run, end_run
from pipeline.runs import Run
from pipeline.settings import load_settings
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, run_nightly
from tests.fixtures.shop import add_customer, add_product, change, read, scalar

pytestmark = [pytest.mark.usefixtures("_settings_of_the_flows", "shop"), LEAVES_SOCKETS]


@pytest.fixture
async def shop(engine: AsyncEngine) -> None:
    """Twelve products and three customers."""
    for number in range(1, 13):
        await add_product(engine, str(number), f"Product {number}")
    for customer in ("a", "b", "c"):
        await add_customer(engine, customer)


async def flow_run_begins(**parameters: object) -> UUID:
    """A nightly flow run that Prefect has going on."""
    async with get_client() as client:
        return (await client.create_flow_run(nightly, parameters={"parameters": parameters}, state=Running())).id


async def crashes(flow_run_id: UUID, run: Run | None = None) -> None:
    """Its process dies, perhaps after it was tagged with its run."""
    async with get_client() as client:
        if run is not None:
            await client.update_flow_run(flow_run_id, tags=["recstream", "nightly", str(run.run_id), str(run.day)])
        await client.set_flow_run_state(flow_run_id, Crashed(message="by the test"), force=True)


async def died(most: int | None = None) -> Run:
    """A run in the ledger whose process died in the middle."""
    async with open_night(load_settings()) as night:
        run = await night.plan(most)
        await begin_run(night.engine, run.run_id)
        return run


@pytest.mark.parametrize("is_tagged", [True, False])
async def test_a_limited_night_that_crashed_is_gone_on_with_and_no_whole_one_planned(
    engine: AsyncEngine, is_tagged: bool
) -> None:
    crashed = await flow_run_begins(limit=2, refresh=True)
    run = await died(2)
    await crashes(crashed, run if is_tagged else None)

    state = await run_nightly(limit=2, refresh=True, restarts=1, crashed=crashed)

    assert state.is_completed()
    assert await read(engine, "SELECT run_id, state FROM runs") == [(run.run_id, "finished")]
    assert state.message == (
        f"run {run.run_id}: 2 of 2 customers, 20 rows; "
        f"gone on with since its flow run crashed, planned at {run.created_at:%Y-%m-%d %H:%M} UTC"
    )


async def test_one_that_was_resumed_is_gone_on_with_whatever_its_age(engine: AsyncEngine, admin: AsyncEngine) -> None:
    run = await died()
    await change(admin, "UPDATE runs SET created_at = now() - interval '2 days'")
    crashed = await flow_run_begins(resume=str(run.run_id))
    await crashes(crashed)

    state = await run_nightly(resume=run.run_id, restarts=1, crashed=crashed)

    assert state.is_completed()
    assert await scalar(engine, "SELECT count(*) FROM runs") == 1


async def test_one_that_was_taken_up_long_ago_is_found_over_a_second_crash(
    engine: AsyncEngine, admin: AsyncEngine
) -> None:
    run = await died()
    await change(admin, "UPDATE runs SET created_at = now() - interval '2 days'")
    first = await flow_run_begins()
    await crashes(first, run)
    second = await flow_run_begins(restarts=1, crashed=str(first))
    await crashes(second)

    state = await run_nightly(restarts=2, crashed=second)

    assert state.is_completed()
    assert await scalar(engine, "SELECT count(*) FROM runs") == 1


async def test_a_night_that_has_finished_since_is_told_and_none_is_planned(engine: AsyncEngine) -> None:
    crashed = await flow_run_begins()
    done = await run_nightly()
    await crashes(crashed)

    state = await run_nightly(restarts=1, crashed=crashed)

    assert state.is_completed()
    assert state.message == f"{done.message}; it had finished before it was started again"
    assert await scalar(engine, "SELECT count(*) FROM runs") == 1


async def test_a_night_that_a_person_cancelled_before_its_process_died_is_cancelled(engine: AsyncEngine) -> None:
    crashed = await flow_run_begins()
    run = await died()
    await give_order(engine, run.run_id, OrderKind.CANCEL)
    await crashes(crashed, run)

    state = await run_nightly(restarts=1, crashed=crashed)

    assert state.is_cancelled()
    assert (state.message or "").startswith(
        f"run {run.run_id} of the night that crashed was cancelled since: cancelled by"
    )
    assert await read(engine, "SELECT state FROM runs") == [("cancelled",)]


async def test_a_night_that_failed_for_a_reason_of_its_own_fails(engine: AsyncEngine) -> None:
    crashed = await flow_run_begins()
    run = await died()
    await end_run(engine, run.run_id, RunState.FAILED, "no quota")
    await crashes(crashed, run)

    state = await run_nightly(restarts=1, crashed=crashed)

    assert state.is_failed()
    assert state.message == f"run {run.run_id} of the night that crashed has failed since: no quota"
    assert await scalar(engine, "SELECT count(*) FROM runs") == 1


async def test_one_that_had_planned_nothing_begins_anew_as_it_was_told(engine: AsyncEngine) -> None:
    before = await run_nightly(limit=1)
    assert before.is_completed()
    crashed = await flow_run_begins(limit=2)
    await crashes(crashed)

    state = await run_nightly(limit=2, restarts=1, crashed=crashed)

    assert state.is_completed()
    assert await scalar(engine, "SELECT count(*) FROM runs") == 2
    assert await scalar(engine, "SELECT max((parameters->>'most')::int) FROM runs") == 2
