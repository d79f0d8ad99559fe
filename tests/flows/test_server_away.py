"""Prefect's server goes away in the middle of a night and comes back: streams finish, rows commit, and it is told."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.prefect_server import CLIENT_RETRIES
from tests.fixtures.held_endpoint import HeldEndpoint, held_endpoint
from tests.fixtures.mortal_prefect import MortalPrefect, mortal_prefect
from tests.fixtures.prefect_pool import deploy_nights, process_of, send_night, worker
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, run_on_demand
from tests.fixtures.shop import add_customer, add_product, comes_to, read, scalar

pytestmark = [pytest.mark.timeout(300), LEAVES_SOCKETS]
CUSTOMERS = ("a", "b", "c", "d")
PATIENCE_S = 120.0
AWAY_S = 12.0  # longer than the client's first pauses


@pytest.fixture
async def mortal(tmp_path: Path, prefect_api_url: str) -> AsyncIterator[MortalPrefect]:
    """Flows that run inside report to this server, as patiently as a night's do."""
    folder = tmp_path / "prefect"
    folder.mkdir()
    async with mortal_prefect(folder) as server:
        with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_CLIENT_MAX_RETRIES: int(CLIENT_RETRIES)}):
            yield server


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
    """Two shards of two customers, one after the other."""
    ours = {
        "DATABASE_URL": database_url,
        "OPENAI_BASE_URL": held.base_url,
        "RECSTREAM_MODEL": "test-model",
        "RECSTREAM_SLATE_SIZE": "2",
        "RECSTREAM_SHARD_SIZE": "2",
        "RECSTREAM_SHARDS_AT_ONCE": "1",
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return ours


async def test_flows_in_this_process_and_in_a_worker_s_go_on_without_prefect_and_tell_it_when_it_is_back(
    engine: AsyncEngine, held: HeldEndpoint, settings: dict[str, str], mortal: MortalPrefect, tmp_path: Path
) -> None:
    home = tmp_path / "worker"
    home.mkdir()
    await deploy_nights(settings | {"PREFECT_CLIENT_MAX_RETRIES": CLIENT_RETRIES})
    with worker(home):
        night = await send_night()
        await held.until(lambda it: it.begun == 2)
        here = asyncio.create_task(run_on_demand(CUSTOMERS[0]))
        await held.until(lambda it: it.begun == 3)
        await mortal.kill()
        await held.let_go(100)
        await comes_to(engine, "SELECT count(*) FROM runs WHERE state = 'finished'", 2)
        assert held.begun == len(CUSTOMERS) + 1, "the second shard was begun without Prefect"
        assert not here.done(), "it has something to tell, and nobody hears it"
        await asyncio.sleep(AWAY_S)
        await mortal.start()
        state = await asyncio.wait_for(here, PATIENCE_S)
        of_the_night = await ended(night)
        async with get_client() as client:
            process = process_of(await client.read_flow_run(night))
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)  # it would go on telling its last events to a server that ends now

    assert state.is_completed(), state.message
    assert of_the_night.is_completed(), of_the_night.message
    assert state.state_details.flow_run_id is not None
    assert (await ended(state.state_details.flow_run_id)).is_completed()
    assert await read(engine, "SELECT DISTINCT state FROM slates") == [("complete",)]
    assert await scalar(engine, "SELECT count(*) FROM recommendations") == 2 * (len(CUSTOMERS) + 1)


async def test_a_night_that_is_cancelled_while_prefect_s_server_is_stuck_ends_by_itself_before_it_is_killed(
    engine: AsyncEngine, held: HeldEndpoint, settings: dict[str, str], mortal: MortalPrefect, tmp_path: Path
) -> None:
    home = tmp_path / "worker"
    home.mkdir()
    await deploy_nights(settings | {"PREFECT_CLIENT_MAX_RETRIES": CLIENT_RETRIES})
    with worker(home):
        night = await send_night()
        await held.until(lambda it: it.begun == 2)
        async with get_client() as client:
            process = process_of(await client.read_flow_run(night))
            await client.set_flow_run_state(night, State(type=StateType.CANCELLING))
        with stuck(mortal):
            await comes_to(engine, "SELECT state FROM runs", "cancelled")
            await gone(process)
        state = await ended(night)

    assert state.is_cancelled()
    assert "SIGKILL" not in (home / "worker.log").read_text()


@contextmanager
def stuck(server: MortalPrefect) -> Iterator[None]:
    """The server reads and cannot write inside: somebody else holds its database."""
    with closing(sqlite3.connect(server.folder / "prefect.db", timeout=PATIENCE_S, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


async def gone(process: int) -> None:
    """Until this process is there no more."""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ProcessLookupError):
            while True:
                os.kill(process, 0)
                await asyncio.sleep(0.2)


async def ended(flow_run_id: UUID) -> State[Any]:
    """The state that a flow run comes to, as the server has it."""
    async with asyncio.timeout(PATIENCE_S), get_client() as client:
        while True:
            state = (await client.read_flow_run(flow_run_id)).state
            if state is not None and state.is_final():
                return state
            await asyncio.sleep(0.2)
