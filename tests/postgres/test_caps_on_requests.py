"""A cap holds whatever the endpoint does with a request: refuses its limit, never answers, breaks off, says little."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.errors import BudgetSpentError, RecstreamError
from pipeline.runs import Run
from pipeline.services import open_run_services
from pipeline.settings import load_settings
from pipeline.shards import serve_shard
from pipeline.streaming import Endpoint
from tests.fixtures.moody_endpoint import always, moody_endpoint, refusal
from tests.fixtures.scripted_endpoint import (
    DONE,
    Answer,
    Drop,
    event_of,
    finish_event,
    item_text,
    text_event,
    usage_event,
)
from tests.fixtures.shop import add_product, add_run, change, comes_to, read, scalar

PATIENCE_S = 60.0
SPENT = "SELECT tokens FROM spending WHERE scope = 'run'"


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    for number in range(5):
        await add_product(engine, f"p{number}", price=10)
    return await add_run(engine, *(f"c{number:02}" for number in range(12)), slate_size=3)


async def serve(run: Run, url: str, endpoint: Endpoint, **settings: Any) -> int:
    """How many customers came to their end."""
    chosen = load_settings(database_url=url, **({"concurrency": 4, "attempts": 1} | settings))
    async with asyncio.timeout(PATIENCE_S), open_run_services(chosen, url, endpoint, run) as services:
        return (await serve_shard(run, 0, services)).customers


async def number(engine: AsyncEngine, sql: str) -> int:
    return int(str(await scalar(engine, sql)))


async def test_an_endpoint_that_takes_no_limit_of_its_answers_does_not_pass_the_cap(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    whole = [*map(text_event, map(item_text, (1, 2, 3))), finish_event()]

    def judged(body: dict[str, Any]) -> Answer:
        named = next((name for name in ("max_tokens", "max_completion_tokens") if name in body), None)
        if named is None:
            return Answer([*whole, usage_event(100, 6_000, 0), DONE])
        return refusal(400, f"Unsupported parameter: '{named}' is not supported with this model.")

    async with moody_endpoint(always(Answer([]))) as moody:
        moody.by_body = judged
        with pytest.raises(BudgetSpentError, match="token_budget_per_run is spent"):
            await serve(run, database_url, moody.endpoint(), token_budget_per_run=30_000)

    assert await number(engine, SPENT) <= 30_000
    used = "SELECT sum(tokens_in + tokens_out) FROM llm_calls"
    assert 6_100 <= await number(engine, used) <= 30_000


async def test_a_request_that_was_sent_and_never_answered_may_have_cost_all_that_was_reserved(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    silent = Answer([asyncio.Event()])
    async with moody_endpoint(always(silent)) as moody:
        endpoint = moody.endpoint(answer_timeout_s=0.5)
        with pytest.raises(RecstreamError):
            await serve(run, database_url, endpoint, token_budget_per_run=100_000, outage_patience_s=1)
        asked = moody.asked_so_far

    assert asked >= 1
    assert await number(engine, SPENT) >= asked * 500


async def test_what_a_broken_answer_said_of_its_tokens_is_not_its_last_word(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    early = event_of({"model": "m", "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 1}})
    broken = Answer([early, text_event(item_text(1)), text_event("{" + "x" * 300), Drop()])
    async with moody_endpoint(always(broken)) as moody:
        assert await serve(run, database_url, moody.endpoint(), token_budget_per_run=100_000) == 12
        asked = moody.asked_so_far

    assert await read(engine, "SELECT DISTINCT tokens_in, tokens_out > 10, tokens_estimated FROM llm_calls") == [
        (100, True, True)
    ]
    assert await number(engine, SPENT) >= asked * 500  # the bound, not what was said


PAUSED = """
CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN new; END $$;
CREATE TRIGGER paused BEFORE INSERT ON llm_calls FOR EACH ROW EXECUTE FUNCTION pause()
"""
WAITS = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"


async def test_an_attempt_that_is_cancelled_while_it_is_written_down_costs_nothing(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str, run: Run
) -> None:
    await change(admin, PAUSED)
    async with moody_endpoint(always(Answer([]))) as moody:
        async with admin.begin() as other:
            await other.execute(text("SELECT pg_advisory_xact_lock(42)"))
            serving = asyncio.create_task(serve(run, database_url, moody.endpoint(), token_budget_per_run=100_000))
            await comes_to(admin, WAITS, answer=True)
            assert await number(engine, SPENT) > 0
            serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert moody.asked_so_far == 0
    assert await number(engine, SPENT) == 0
