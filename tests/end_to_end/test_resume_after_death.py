"""A night that is killed with SIGKILL, and the one that goes on with it: what is there stands, nor is it paid again."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import RunState
from pipeline.night import open_night
from pipeline.run_states import begin_run
from pipeline.runs import find_run, summarise
from pipeline.services import open_run_services
from pipeline.settings import load_settings
from pipeline.shards import serve_shard
from tests.fixtures.command_line import ROOT
from tests.fixtures.scripted_endpoint import (
    JSON,
    Answer,
    ScriptedEndpoint,
    Step,
    item_text,
    scripted_endpoint,
    text_event,
    whole_stream,
)
from tests.fixtures.shop import add_customer, add_product, comes_to, read

PATIENCE_S = 60.0
MODELS = Answer([b"{}"], headers=JSON)  # what is asked for before a night begins
NIGHT = """
import asyncio
from pipeline.night import open_night
from pipeline.run_states import begin_run
from pipeline.services import open_run_services
from pipeline.settings import load_settings
from pipeline.shards import serve_shard

async def main():
    async with open_night(load_settings()) as night:
        run = await night.plan(None)
        await begin_run(night.engine, run.run_id)
        async with open_run_services(night.settings, night.url, night.endpoint, run) as services:
            await serve_shard(run, 0, services)

asyncio.run(main())
"""


@pytest.fixture
def settings(database_url: str) -> dict[str, str]:
    """The environment of a night that serves one customer after another."""
    return {"DATABASE_URL": database_url, "RECSTREAM_CONCURRENCY": "1", "RECSTREAM_SLATE_SIZE": "3"}


@asynccontextmanager
async def night_process(scripted: ScriptedEndpoint, settings: dict[str, str]) -> AsyncIterator[Process]:
    """A process that plans a run and serves it, from nothing but its environment."""
    asked = {"OPENAI_BASE_URL": scripted.base_url, "RECSTREAM_MODEL": "test-model", "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NIGHT, env=os.environ | settings | asked, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def ranks_asked_for(scripted: ScriptedEndpoint) -> list[int]:
    """How many places each prompt asked for, in the order of the requests."""
    prompts = [str(body["messages"][1]["content"]) for body in scripted.bodies if body]
    return [int(re.findall(r"Rank the (\d+) most relevant", prompt)[0]) for prompt in prompts]


async def test_a_night_that_is_killed_is_gone_on_with_and_only_what_was_in_flight_is_paid_again(
    engine: AsyncEngine, admin: AsyncEngine, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        await add_product(engine, f"p{number}")
    for customer in ("a", "b", "c"):
        await add_customer(engine, customer)
    whole = Answer(whole_stream(item_text(1), item_text(2), item_text(3)))
    held: list[Step] = [text_event(item_text(4)), text_event(item_text(2)), text_event('{"i": '), asyncio.Event()]
    async with scripted_endpoint(MODELS, whole, Answer(held), MODELS, whole) as scripted:
        async with night_process(scripted, settings) as process:
            await comes_to(engine, "SELECT count(*) FROM recommendations", 5)
            process.kill()
        await comes_to(admin, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'recstream night%'", 0)
        before = await read(engine, "SELECT * FROM recommendations ORDER BY customer_id, rank")

        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        async with open_night(load_settings(openai_base_url=scripted.base_url, model="test-model")) as night:
            died = await find_run(engine, None)
            assert died is not None
            assert died.state is RunState.FAILED
            run = await night.take_up(died.run_id)
            await begin_run(engine, run.run_id)
            async with open_run_services(night.settings, night.url, night.endpoint, run) as services:
                await serve_shard(run, 0, services)

    assert ranks_asked_for(scripted) == [3, 3, 1, 3]
    after = await read(engine, "SELECT * FROM recommendations ORDER BY customer_id, rank")
    assert [row for row in after if row in before] == before
    assert await read(
        engine, "SELECT customer_id, array_agg(rank ORDER BY rank) FROM recommendations GROUP BY 1 ORDER BY 1"
    ) == [("a", [1, 2, 3]), ("b", [1, 2, 3]), ("c", [1, 2, 3])]
    assert await read(engine, "SELECT customer_id, attempt, ending FROM llm_calls ORDER BY 1, 2") == [
        ("a", 1, "complete"),
        ("b", 1, "died"),
        ("b", 2, "enough"),
        ("c", 1, "complete"),
    ]
    summary = await summarise(engine, run.run_id)
    assert (summary.left, summary.died) == (0, 1)
