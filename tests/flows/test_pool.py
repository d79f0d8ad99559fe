"""Shards in real workers of a real pool, and what becomes of a night when processes die: the ledger alone judges."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fixtures.command_line import ROOT
from tests.fixtures.held_endpoint import HeldEndpoint, held_endpoint
from tests.fixtures.prefect_pool import deploy_shards, process_of, runs_of_shard, worker
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, run_nightly
from tests.fixtures.shop import add_customer, add_product, comes_to, read, scalar

pytestmark = [pytest.mark.usefixtures("prefect_in_reach"), pytest.mark.timeout(300), LEAVES_SOCKETS]
CUSTOMERS = ("a", "b", "c", "d")
PARENT = "import asyncio; from flows.nightly import nightly; asyncio.run(nightly())"
PATIENCE_S = 120.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a worker has its files."""
    folder = tmp_path / "worker"
    folder.mkdir()
    return folder


@pytest.fixture
async def held(database_url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HeldEndpoint]:
    """A shop of four customers in two shards, and an endpoint that begins all answers and holds them."""
    for number in range(1, 4):
        await add_product(engine, f"p{number}")
    for customer in CUSTOMERS:
        await add_customer(engine, customer)
    async with held_endpoint() as endpoint:
        settings = {
            "DATABASE_URL": database_url,
            "OPENAI_BASE_URL": endpoint.base_url,
            "RECSTREAM_MODEL": "test-model",
            "RECSTREAM_SLATE_SIZE": "2",
            "RECSTREAM_SHARD_SIZE": "2",
            "RECSTREAM_SHARDS_AT_ONCE": "2",
            "RECSTREAM_PLACEMENT": "pool",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        await deploy_shards(settings)
        yield endpoint


async def test_shards_of_the_dead_and_of_the_frozen_are_served_by_others_who_alone_write(
    engine: AsyncEngine, held: HeldEndpoint, home: Path
) -> None:
    with worker(home):
        night = asyncio.create_task(run_nightly())
        await held.until(lambda it: it.begun == 4)
        await comes_to(engine, "SELECT count(*) FROM recommendations", 4)
        before = await rows_of(engine)
        killed, frozen = await first_attempts(engine)
        os.kill(process_of(killed), signal.SIGKILL)
        os.kill(process_of(frozen), signal.SIGSTOP)

        await comes_to(engine, "SELECT min(attempt) FROM run_shards", 2)
        await held.until(lambda it: it.begun == 8)
        os.kill(process_of(frozen), signal.SIGCONT)
        await held.until(lambda it: it.left == 4)
        await held.let_go(100)
        state = await asyncio.wait_for(night, PATIENCE_S)

    assert state.is_completed(), state.message
    await every_customer_is_served_once(engine)
    assert [row for row in await rows_of(engine) if row in before] == before
    assert await read(engine, "SELECT shard, attempt, state FROM run_shards ORDER BY shard") == [
        (0, 2, "served"),
        (1, 2, "served"),
    ]


async def test_shards_outlive_their_parent_and_the_next_night_waits_for_them(
    engine: AsyncEngine, admin: AsyncEngine, held: HeldEndpoint, home: Path, prefect_api_url: str
) -> None:
    with worker(home):
        async with parent(prefect_api_url) as dying:
            await held.until(lambda it: it.begun == 4)
            dying.kill()
            await dying.wait()
        await comes_to(admin, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'recstream night%'", 0)
        night = asyncio.create_task(run_nightly())
        await comes_to(admin, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'recstream night%'", 1)
        await comes_to(engine, "SELECT state FROM runs", "running")
        await held.let_go(100)
        state = await asyncio.wait_for(night, PATIENCE_S)

    assert state.is_completed(), state.message
    assert "gone on with since it was interrupted" in str(state.message)
    await every_customer_is_served_once(engine)
    assert await read(engine, "SELECT attempt, state FROM run_shards") == [(1, "served"), (1, "served")]
    assert held.begun == len(CUSTOMERS)


async def every_customer_is_served_once(engine: AsyncEngine) -> None:
    assert await scalar(engine, "SELECT count(*) FROM runs") == 1
    assert await read(engine, "SELECT customer_id, state FROM slates ORDER BY 1") == [
        (customer, "complete") for customer in CUSTOMERS
    ]
    assert await read(
        engine, "SELECT customer_id, array_agg(rank ORDER BY rank) FROM recommendations GROUP BY 1 ORDER BY 1"
    ) == [(customer, [1, 2]) for customer in CUSTOMERS]


async def rows_of(engine: AsyncEngine) -> Sequence[tuple[object, ...]]:
    return await read(engine, "SELECT * FROM recommendations ORDER BY customer_id, rank")


async def first_attempts(engine: AsyncEngine) -> list[FlowRun]:
    """The runs in Prefect of both shards."""
    run_id: Any = await scalar(engine, "SELECT run_id FROM runs")
    return [(await runs_of_shard(run_id, shard))[0] for shard in (0, 1)]


@asynccontextmanager
async def parent(api_url: str) -> AsyncIterator[Process]:
    """A night in a process of its own."""
    environment = os.environ | {"PREFECT_API_URL": api_url, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, env=environment, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
