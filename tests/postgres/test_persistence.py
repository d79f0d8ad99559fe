"""The ledger and a restart of Postgres: what finds nobody there is done once the server is back."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_engine
from pipeline.domain import AnswerRecord, CustomerId, Ending, Rejection, RejectionReason, SlateState, Usage
from pipeline.embedded_postgres import discard_embedded_postgres, embedded_postgres
from pipeline.persistence import wait_for_database
from pipeline.profiles import read_profiles, unfinished_customers
from pipeline.run_states import begin_run
from pipeline.runs import Run, find_run, plan_run, shards_of, summarise
from pipeline.schema import migrate
from pipeline.segments import ShopHabits
from pipeline.services import open_run_services
from pipeline.settings import load_settings
from pipeline.shards import ShardReport, serve_shard
from pipeline.slates import Slate, SlateLedger
from tests.fixtures.scripted_endpoint import Answer, happens, item_text, scripted_endpoint, text_event, whole_stream
from tests.fixtures.shop import NOW, RANKER, add_product, add_run, read, some_candidates

CUSTOMER, OTHER = CustomerId("c"), CustomerId("other")
PATIENCE_S = 60.0

Deed = Callable[[AsyncEngine, Run, SlateLedger, Slate], Awaitable[object]]

DEEDS: dict[str, Deed] = {
    "open": lambda engine, run, ledger, slate: ledger.open(OTHER, some_candidates(3), 3),
    "reject": lambda engine, run, ledger, slate: ledger.reject(slate, Rejection(RejectionReason.NOT_JSON, "", "{")),
    "end an attempt": lambda engine, run, ledger, slate: ledger.end_attempt(
        slate, AnswerRecord(usage=Usage(7)), Ending.CUT, None
    ),
    "wait": lambda engine, run, ledger, slate: wait_for_database(engine),
    "find a run": lambda engine, run, ledger, slate: find_run(engine, run.run_id),
    "begin a run": lambda engine, run, ledger, slate: begin_run(engine, run.run_id),
    "find the shards": lambda engine, run, ledger, slate: shards_of(engine, run),
    "sum up": lambda engine, run, ledger, slate: summarise(engine, run.run_id),
    "plan": lambda engine, run, ledger, slate: plan_run(engine, run.kind, RANKER, slate_size=3, shard_size=1),
    "read a page": lambda engine, run, ledger, slate: anext(unfinished_customers(engine, run.run_id, run.day, 0)),
    "read profiles": lambda engine, run, ledger, slate: read_profiles(engine, [OTHER], NOW, ShopHabits("UTC", "$")),
}


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a server that a test may stop and start."""
    folder = tmp_path_factory.mktemp("restarted")
    yield folder
    discard_embedded_postgres(folder)


def refused(engine: AsyncEngine, times: int) -> asyncio.Event:
    """Set once the engine has found so many times that nobody answers."""
    met, enough = 0, asyncio.Event()

    def count(context: ExceptionContext) -> None:
        nonlocal met
        met += not context.is_pre_ping
        if met == times:
            enough.set()

    event.listen(engine.sync_engine, "handle_error", count)
    return enough


async def test_whatever_the_ledger_is_told_or_asked_while_postgres_is_away_is_done_when_it_is_back(
    folder: Path,
) -> None:
    with ExitStack() as running:
        url = running.enter_context(embedded_postgres(folder)).url()
        migrate(url)
        async with open_engine(url, connections=len(DEEDS)) as engine:
            run = await add_run(engine, CUSTOMER, OTHER)
            ledger = SlateLedger(engine, run.run_id, run.day)
            slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
            await ledger.begin_attempt(slate, "hash")
            nobody_answered = refused(engine, len(DEEDS))
            running.close()

            tasks = {name: asyncio.ensure_future(deed(engine, run, ledger, slate)) for name, deed in DEEDS.items()}
            async with asyncio.timeout(PATIENCE_S):
                await nobody_answered.wait()
                assert not [name for name, task in tasks.items() if task.done()]
                running.enter_context(embedded_postgres(folder))
                await asyncio.gather(*tasks.values())
                await ledger.close(slate, SlateState.FAILED, "cut")

            assert await read(engine, "SELECT state, count(*) FROM runs GROUP BY 1 ORDER BY 1") == [
                ("planned", 1),
                ("running", 1),
            ]
            assert await read(engine, "SELECT attempt, ending, tokens_in FROM llm_calls") == [(1, "cut", 7)]
            assert await read(engine, "SELECT attempt, number FROM rejections") == [(1, 1)]
            assert await read(
                engine,
                "SELECT customer_id, state, tokens_in FROM slates WHERE run_id = :run_id ORDER BY 1",
                run_id=run.run_id,
            ) == [("c", "failed", 7), ("other", "streaming", 0)]


async def test_who_leaves_does_not_wait_for_a_postgres_that_is_away(folder: Path) -> None:
    with ExitStack() as running:
        url = running.enter_context(embedded_postgres(folder)).url()
        migrate(url)
        async with open_engine(url, connections=2) as engine:
            run = await add_run(engine, CUSTOMER)
            ledger = SlateLedger(engine, run.run_id, run.day)
            slate = await ledger.open(CUSTOMER, some_candidates(3), 3)
            await ledger.begin_attempt(slate, "hash")
            running.close()
            tries: list[bool] = []
            event.listen(engine.sync_engine, "handle_error", lambda context: tries.append(context.is_pre_ping))

            await ledger.abandon_attempt(slate, AnswerRecord())
            await ledger.give_back(slate, "not served: its run ended before")

            assert tries.count(False) == 2, "each tried once"
            running.enter_context(embedded_postgres(folder))
            assert await read(engine, "SELECT ending FROM llm_calls") == [("in_flight",)]
            assert await read(engine, "SELECT state FROM slates") == [("streaming",)]


async def test_a_shard_goes_on_through_a_restart_with_every_row_once(folder: Path) -> None:
    gate = asyncio.Event()
    held_back = Answer([text_event(item_text(2)), gate, *whole_stream(item_text(9), item_text(1), item_text(3))])
    with ExitStack() as running:
        url = running.enter_context(embedded_postgres(folder)).url()
        migrate(url)
        async with (
            open_engine(url, connections=2) as engine,
            scripted_endpoint(held_back, Answer(whole_stream(item_text(1), item_text(2), item_text(3)))) as scripted,
        ):
            for number in range(1, 4):
                await add_product(engine, f"p{number}")
            run = await add_run(engine, CUSTOMER, OTHER, slate_size=3)
            settings = load_settings(concurrency=1, database_url=url)
            async with open_run_services(settings, url, scripted.endpoint(), run) as services:
                serving = asyncio.create_task(serve_shard(run, 0, services))
                async with asyncio.timeout(PATIENCE_S):
                    while not await read(engine, "SELECT FROM recommendations"):  # noqa: ASYNC110 - nobody tells of it
                        await asyncio.sleep(0.05)
                nobody_answered = refused(services.engine, 1)
                running.close()
                gate.set()
                assert await happens(nobody_answered)
                running.enter_context(embedded_postgres(folder))

                assert await serving == ShardReport(0, customers=2, rows=6)

            assert await read(engine, "SELECT customer_id, state, attempts FROM slates ORDER BY 1") == [
                ("c", "complete", 1),
                ("other", "complete", 1),
            ]
            assert await read(engine, "SELECT customer_id, rank FROM recommendations ORDER BY 1, 2") == [
                (customer, rank) for customer in (CUSTOMER, OTHER) for rank in (1, 2, 3)
            ]
            assert await read(engine, "SELECT reason FROM rejections") == [("unknown_candidate",)]
