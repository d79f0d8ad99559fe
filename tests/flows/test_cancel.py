"""A night that is cancelled in Prefect while real workers serve it: no stream stays open, and the ledger says who."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import RunState
from pipeline.night import open_night
from pipeline.run_states import begin_run, end_run
from pipeline.settings import load_settings
from tests.fixtures.held_endpoint import HeldEndpoint, held_endpoint
from tests.fixtures.prefect_pool import deploy_nights, deploy_shards, runs_of_shard, send_night, worker
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, run_nightly
from tests.fixtures.shop import add_customer, add_product, comes_to, read, scalar

pytestmark = [pytest.mark.usefixtures("prefect_in_reach"), pytest.mark.timeout(300), LEAVES_SOCKETS]
CUSTOMERS = ("a", "b", "c", "d")
PATIENCE_S = 120.0
BY_SOMEBODY = r"cancelled by somebody in Prefect, as .+@.+ heard \(as .+\) at .+ UTC; `recstream resume` goes on"

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a worker has its files."""
    folder = tmp_path / "worker"
    folder.mkdir()
    return folder


@pytest.fixture
async def held(engine: AsyncEngine) -> AsyncIterator[HeldEndpoint]:
    """A shop of four customers, and an endpoint that begins all answers and holds them."""
    for number in range(1, 4):
        await add_product(engine, f"p{number}")
    for customer in CUSTOMERS:
        await add_customer(engine, customer)
    async with held_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def settings(held: HeldEndpoint, database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of the night and of its shards, in this process and in others: two shards of two customers."""
    ours = {
        "DATABASE_URL": database_url,
        "OPENAI_BASE_URL": held.base_url,
        "RECSTREAM_MODEL": "test-model",
        "RECSTREAM_SLATE_SIZE": "2",
        "RECSTREAM_SHARD_SIZE": "2",
        "RECSTREAM_SHARDS_AT_ONCE": "2",
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return ours


@pytest.mark.parametrize("placement", ["here", "pool"])
async def test_a_night_that_is_cancelled_in_prefect_closes_its_streams_in_all_processes_and_keeps_its_rows(
    engine: AsyncEngine, held: HeldEndpoint, settings: dict[str, str], home: Path, placement: str
) -> None:
    settings = settings | {"RECSTREAM_PLACEMENT": placement}
    await deploy_shards(settings)
    await deploy_nights(settings)
    with worker(home):
        night = await send_night()
        await held.until(lambda it: it.under_way == len(CUSTOMERS))
        await comes_to(engine, "SELECT count(*) FROM recommendations", len(CUSTOMERS))
        await cancel(night)
        await held.until(lambda it: it.under_way == 0)
        await comes_to(engine, "SELECT state FROM runs", "cancelled")
        state = await ended(night)

    assert state.is_cancelled()
    assert re.match(BY_SOMEBODY, str(await scalar(engine, "SELECT reason FROM runs")))
    assert any("cancelled by somebody in Prefect" in message for message in await messages(night))
    assert await read(engine, "SELECT kind FROM run_orders") == [("cancel",)]
    assert (held.begun, held.left) == (len(CUSTOMERS), len(CUSTOMERS))
    assert await scalar(engine, "SELECT count(*) FROM recommendations") == len(CUSTOMERS)
    assert await read(engine, "SELECT DISTINCT ending FROM llm_calls") == [("abandoned",)]
    assert await scalar(engine, "SELECT count(*) FROM published_runs") == 0


async def test_a_shard_that_is_cancelled_alone_is_not_begun_again_and_the_night_fails_with_the_figure(
    engine: AsyncEngine, held: HeldEndpoint, settings: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_PLACEMENT", "pool")
    await deploy_shards(settings)
    with worker(home):
        night = asyncio.create_task(run_nightly())
        await held.until(lambda it: it.under_way == len(CUSTOMERS))
        run_id: Any = await scalar(engine, "SELECT run_id FROM runs")
        (of_it,) = await runs_of_shard(run_id, 0)
        await cancel(of_it.id)
        await held.until(lambda it: it.left == 2)
        await held.let_go(100)
        state = await asyncio.wait_for(night, PATIENCE_S)
        of_the_shard = await ended(of_it.id)

    assert state.is_failed()
    assert "2 of 4 customers" in str(state.message)
    assert "2 customers have no complete slate" in str(state.message)
    assert of_the_shard.is_cancelled()
    assert await read(engine, "SELECT attempt, state, error FROM run_shards ORDER BY shard") == [
        (1, "broken_off", "CalledOffError"),
        (1, "served", None),
    ]
    reason = str(await scalar(engine, "SELECT reason FROM run_shards WHERE shard = 0"))
    assert re.fullmatch(r"cancelled by somebody in Prefect, as .+@.+ heard", reason)
    assert held.begun == len(CUSTOMERS)


async def test_a_night_that_is_cancelled_in_prefect_while_it_begins_asks_nobody_and_is_not_taken_up(
    engine: AsyncEngine, admin: AsyncEngine, held: HeldEndpoint, settings: dict[str, str]
) -> None:
    async with open_night(load_settings()) as before:
        run = await before.plan(None)
        await begin_run(engine, run.run_id)
        await end_run(engine, run.run_id, RunState.FAILED, "its process died", interrupted=True)
    async with admin.begin() as row:
        await row.execute(text("SELECT FROM runs FOR UPDATE"))
        night = asyncio.create_task(run_nightly())
        await comes_to(admin, WAITING, 1)
        await cancel(await running_night())
        os.kill(os.getpid(), signal.SIGTERM)
        await comes_to(admin, f"{WAITING} AND query LIKE '%NO KEY UPDATE%'", 1)  # it is ending
    state = await asyncio.wait_for(night, PATIENCE_S)

    assert state.is_cancelled()
    assert held.begun == 0
    ((ledger, reason),) = await read(engine, "SELECT state, reason FROM runs")
    assert ledger == "cancelled"
    assert str(reason).startswith(str(state.message))
    async with open_night(load_settings()) as after:
        assert await after.interrupted() is None


async def test_a_night_that_a_person_breaks_off_at_the_terminal_is_not_taken_up(
    engine: AsyncEngine, held: HeldEndpoint, settings: dict[str, str]
) -> None:
    night = asyncio.create_task(run_nightly())
    await held.until(lambda it: it.under_way == len(CUSTOMERS))
    night.cancel()  # as Ctrl-C does
    state = await asyncio.wait_for(night, PATIENCE_S)
    assert state.is_cancelled()
    assert await read(engine, "SELECT state, interrupted FROM runs") == [("cancelled", False)]


async def running_night() -> UUID:
    """The flow run that goes on in this process: the newest, for others may have left theirs so."""
    running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    async with get_client() as client:
        (found,) = await client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["nightly"])),
            flow_run_filter=FlowRunFilter(state=running),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=1,
        )
    return found.id


async def cancel(flow_run_id: UUID) -> None:
    """As Prefect's page and `prefect flow-run cancel` do."""
    async with get_client() as client:
        await client.set_flow_run_state(flow_run_id, State(type=StateType.CANCELLING))


async def messages(flow_run_id: UUID) -> list[str]:
    """What all states of a flow run said: the last word is its runner's."""
    async with get_client() as client:
        return [state.message or "" for state in await client.read_flow_run_states(flow_run_id)]


async def ended(flow_run_id: UUID) -> State[Any]:
    """The state that a flow run comes to."""
    async with asyncio.timeout(PATIENCE_S), get_client() as client:
        while True:
            state = (await client.read_flow_run(flow_run_id)).state
            if state is not None and state.is_final():
                return state
            await asyncio.sleep(0.2)
