"""The nightly flow on a real Prefect server: what it makes, what it says, and what it refuses."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.building import build_candidates
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.database import open_connection
from pipeline.demo_shop import populate
from pipeline.errors import InputError, RunConflictError
from pipeline.offline_ranker.faults import Fault
from pipeline.runs import RunSummary, find_run
from tests.fixtures.misbehaving_ranker import MisbehavingRanker
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, PATIENCE_S, run_nightly
from tests.fixtures.readers import runs_that_readers_see
from tests.fixtures.shop import NOW, add_customer, add_event, add_product, change, end_slates, read, scalar

pytestmark = [pytest.mark.usefixtures("_settings_of_the_flows"), LEAVES_SOCKETS]


async def add_small_shop(engine: AsyncEngine, *customers: str) -> None:
    for number in range(1, 13):
        await add_product(engine, str(number), f"Product {number}")
    for customer in customers:
        await add_customer(engine, customer)


async def becomes(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds, within the bound of all waiting in tests."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what it waits for happens in another process
            await asyncio.sleep(0.05)


async def shard_names(state: State[RunSummary]) -> list[str]:
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    async with get_client() as client:
        task_runs = await client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
    return sorted(task_run.name for task_run in task_runs)


async def called(engine: AsyncEngine) -> list[str]:
    """The customers of all requests so far, in order."""
    return [str(row[0]) for row in await read(engine, "SELECT customer_id FROM llm_calls ORDER BY started_at")]


async def test_thirty_customers_of_the_demo_shop_get_slates_in_named_shards(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_SHARD_SIZE", "12")
    with open_connection(database_url) as connection:
        populate(connection)

    state = await run_nightly(limit=30)

    assert state.is_completed()
    run_id = await scalar(engine, "SELECT run_id FROM runs")
    assert state.message == f"run {run_id}: 30 of 30 customers, 300 rows"
    assert await scalar(engine, "SELECT count(*) FROM recommendations") == 300
    assert await scalar(engine, "SELECT count(DISTINCT customer_id) FROM current_recommendations") == 30
    day = datetime.now(UTC).date()
    shards = [
        f"nightly {day} · 1 of 3 · customers 1-12",
        f"nightly {day} · 2 of 3 · customers 13-24",
        f"nightly {day} · 3 of 3 · customers 25-30",
    ]

    async def all_are_known() -> bool:
        return await shard_names(state) == shards

    await becomes(all_are_known)  # the server takes in task runs behind the flow's back


@pytest.mark.parametrize("placement", ["pool", "dask"])
async def test_a_night_whose_workers_would_not_reach_its_database_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, placement: str
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("RECSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RECSTREAM_PLACEMENT", placement)
    state = await run_nightly()
    assert state.is_failed()
    assert "needs a database that all workers reach: set DATABASE_URL" in str(state.message)
    assert not (tmp_path / "home").exists()


async def test_a_shard_tells_its_customers_and_rows(engine: AsyncEngine) -> None:
    await add_small_shop(engine, "a", "b")
    state = await run_nightly()
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    told: Sequence[str] = ()

    async def is_told() -> bool:
        nonlocal told
        async with get_client() as client:
            runs = await client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
        told = [run.state.message or "" for run in runs if run.state is not None and run.state.is_completed()]
        return bool(told)

    await becomes(is_told)
    assert told == ["2 customers, 20 rows committed"]


async def test_a_customer_without_a_slate_fails_the_flow_run_with_the_figure(
    engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_small_shop(engine, "a", "b", "c")
    monkeypatch.setenv("RECSTREAM_CONCURRENCY", "1")
    monkeypatch.setenv("RECSTREAM_ATTEMPTS", "1")
    ranker.misbehave_at(Fault.REFUSED_500, [False, True, False])

    state = await run_nightly()

    assert state.is_failed()
    assert state.message is not None
    run_id = await scalar(engine, "SELECT run_id FROM runs")
    assert state.message == (
        f"run {run_id}: 2 of 3 customers, 20 rows; 1 customer has no complete slate; "
        "not published: served 66.7% of 3 customers, the gate wants 90%; readers keep what they had: "
        f"`recstream resume {run_id}` goes on with the customers that are left, "
        f"`recstream publish {run_id} --force` publishes it all the same"
    )
    assert str(await scalar(engine, "SELECT reason FROM runs")) in state.message
    failed = await read(engine, "SELECT customer_id, reason FROM slates WHERE state = 'failed'")
    assert [row[0] for row in failed] == ["b"]
    assert "500" in str(failed[0][1])
    assert await runs_that_readers_see(engine) == {}


async def test_a_night_that_passes_its_gates_is_published_although_customers_are_left(
    engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_small_shop(engine, "a", "b", "c")
    monkeypatch.setenv("RECSTREAM_CONCURRENCY", "1")
    monkeypatch.setenv("RECSTREAM_ATTEMPTS", "1")
    monkeypatch.setenv("RECSTREAM_GATE_SERVED_SHARE", "0.6")
    ranker.misbehave_at(Fault.REFUSED_500, [False, True, False])

    state = await run_nightly()

    assert state.is_failed()
    assert state.message is not None
    assert state.message.endswith("1 customer has no complete slate; `recstream resume` takes only those")
    assert set(await runs_that_readers_see(engine)) == {"a", "c"}


async def test_a_whole_night_that_its_gates_refuse_fails_the_flow_run_and_readers_keep_the_former_one(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_small_shop(engine, "a")
    await run_nightly()
    before = await runs_that_readers_see(engine)
    monkeypatch.setenv("RECSTREAM_GATE_ROWS_PER_SLATE", "11")

    state = await run_nightly(refresh=True)

    assert state.is_failed()
    assert state.message is not None
    assert "1 of 1 customers, 10 rows; not published: 10 rows per slate, the gate wants 11; " in state.message
    assert await read(engine, "SELECT state FROM runs") == [("finished",), ("finished",)]
    assert await runs_that_readers_see(engine) == before


async def test_a_night_in_which_nothing_has_changed_asks_nobody_and_says_so_unless_all_is_to_be_made_anew(
    engine: AsyncEngine,
) -> None:
    await add_small_shop(engine, "a", "b")
    await run_nightly()
    calls = await called(engine)

    state = await run_nightly()

    assert state.is_completed()
    assert state.message is not None
    assert state.message.endswith(": 0 of 2 customers, 0 rows, 2 skipped (unchanged)")
    assert await called(engine) == calls
    assert (await run_nightly(refresh=True)).is_completed()
    assert len(await called(engine)) == 2 * len(calls)


async def test_a_night_builds_candidates_first_unless_those_in_service_are_to_stay(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_small_shop(engine, "a")
    await run_nightly()
    await run_nightly()
    assert await scalar(engine, "SELECT count(*) FROM candidate_builds WHERE state = 'ready'") == 2

    monkeypatch.setenv("RECSTREAM_CANDIDATES_EVERY_DAYS", "7")
    await run_nightly()
    assert await scalar(engine, "SELECT count(*) FROM candidate_builds") == 2


async def test_a_build_that_looks_far_back_does_not_stay(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_CANDIDATES_EVERY_DAYS", "7")
    await add_small_shop(engine, "a")
    await add_event(engine, "a", "purchase", product_id="1", at=NOW)
    build_candidates(database_url, CandidateRecipe(), as_of=NOW - timedelta(days=8))
    await run_nightly()
    assert await scalar(engine, "SELECT count(*) FROM candidate_builds") == 2
    await run_nightly()
    assert await scalar(engine, "SELECT count(*) FROM candidate_builds") == 2


async def test_a_build_by_a_recipe_of_another_version_ends_no_night(
    engine: AsyncEngine, admin: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_CANDIDATES_EVERY_DAYS", "7")
    await add_small_shop(engine, "a")
    await run_nightly()
    await change(admin, """UPDATE candidate_builds SET recipe = recipe || jsonb_build_object('later', 1)""")
    assert (await run_nightly(refresh=True)).is_completed()


async def test_a_night_without_the_extra_that_it_is_to_build_with_goes_on_and_says_so(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)  # as where it is not installed
    monkeypatch.setenv("RECSTREAM_CANDIDATE_METHOD", "scipy")
    await add_small_shop(engine, "a")

    state = await run_nightly()

    assert state.is_completed()
    assert state.message is not None
    assert "1 of 1 customers" in state.message
    assert "; candidates cannot be built with scipy, which is not installed" in state.message


async def test_a_night_whose_build_fails_goes_on_with_the_candidates_of_before_and_says_so(
    engine: AsyncEngine, admin: AsyncEngine
) -> None:
    await add_small_shop(engine, "a")
    await run_nightly()
    await change(admin, "REVOKE EXECUTE ON FUNCTION recstream_analyze_build FROM recstream_writer")

    state = await run_nightly(refresh=True)

    assert state.is_completed()
    assert state.message is not None
    assert "1 of 1 customers" in state.message
    assert "; candidates could not be built: permission denied for function recstream_analyze_build" in state.message
    assert await scalar(engine, "SELECT state FROM candidate_builds ORDER BY build_id DESC LIMIT 1") == "failed"


async def test_resume_asks_only_for_the_customers_that_are_left(
    engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_small_shop(engine, "a", "b", "c")
    monkeypatch.setenv("RECSTREAM_CONCURRENCY", "1")
    monkeypatch.setenv("RECSTREAM_ATTEMPTS", "1")
    ranker.misbehave_at(Fault.REFUSED_500, [False, True, False])
    await run_nightly()
    before = await called(engine)
    ranker.behave()

    state = await run_nightly(resume=await scalar(engine, "SELECT run_id FROM runs"))

    assert state.is_completed()
    assert (await called(engine))[len(before) :] == ["b"]
    assert await scalar(engine, "SELECT count(*) FROM runs") == 1
    assert await scalar(engine, "SELECT state FROM runs") == "finished"
    assert set(await runs_that_readers_see(engine)) == {"a", "b", "c"}


async def test_a_cut_slate_is_resumed_from_the_rows_that_are_there(
    engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_small_shop(engine, "a")
    monkeypatch.setenv("RECSTREAM_ATTEMPTS", "1")
    ranker.misbehave(Fault.CUT, cut_after_objects=4)
    assert (await run_nightly()).is_failed()
    rows = "SELECT rank, product_id, committed_at FROM recommendations ORDER BY rank"
    before = await read(engine, rows)
    ranker.behave()

    state = await run_nightly(resume=await scalar(engine, "SELECT run_id FROM runs"))

    assert state.is_completed()
    after = await read(engine, rows)
    assert len(before) == 4
    assert after[:4] == before
    assert [row[0] for row in after] == list(range(1, 11))
    assert len({row[1] for row in after}) == 10


async def test_only_the_failed_slates_are_tried_again_and_the_short_ones_are_left(
    engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_small_shop(engine, "a", "b", "c")
    monkeypatch.setenv("RECSTREAM_CONCURRENCY", "1")
    monkeypatch.setenv("RECSTREAM_ATTEMPTS", "1")
    ranker.misbehave(Fault.CUT, cut_after_objects=4)
    await run_nightly(limit=1)
    run = await find_run(engine, None)
    assert run is not None
    await change(
        engine,
        "INSERT INTO slates (run_id, day, shard, customer_id) SELECT run_id, day, 0, unnest(ARRAY['b', 'c']) FROM runs",
    )
    await end_slates(engine, run, {"b": "failed"})
    before = await called(engine)
    ranker.behave()

    state = await run_nightly(resume=run.run_id, only="failed")

    assert (await called(engine))[len(before) :] == ["b"]
    assert await read(engine, "SELECT customer_id, state FROM slates ORDER BY 1") == [
        ("a", "short"),
        ("b", "complete"),
        ("c", "pending"),
    ]
    assert state.is_failed()
    assert await scalar(engine, "SELECT state FROM runs") == "failed"


async def test_a_run_that_has_finished_is_resumed_without_a_word_to_anybody(
    engine: AsyncEngine, ranker: MisbehavingRanker
) -> None:
    await add_small_shop(engine, "a")
    await run_nightly()
    before = await read(engine, "SELECT * FROM runs"), await called(engine)

    state = await run_nightly(resume=await scalar(engine, "SELECT run_id FROM runs"))

    assert state.is_completed()
    assert (await read(engine, "SELECT * FROM runs"), await called(engine)) == before


async def test_a_run_is_not_resumed_at_another_temperature(
    engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_small_shop(engine, "a")
    await run_nightly()
    monkeypatch.setenv("RECSTREAM_TEMPERATURE", "0.7")

    state = await run_nightly(resume=await scalar(engine, "SELECT run_id FROM runs"))

    with pytest.raises(RunConflictError, match=r"set RECSTREAM_TEMPERATURE=0\.1 to resume it"):
        await state.aresult()


async def test_a_second_night_is_refused_while_one_is_going_and_does_not_disturb_it(
    engine: AsyncEngine, ranker: MisbehavingRanker
) -> None:
    await add_small_shop(engine, "a", "b")
    ranker.misbehave(Fault.HELD, hold_after_objects=1)
    first = asyncio.create_task(run_nightly())

    async def both_have_a_row() -> bool:
        return await scalar(engine, "SELECT count(*) FROM recommendations") == 2

    await becomes(both_have_a_row)
    second = await run_nightly()
    ranker.behave()

    assert second.is_cancelled()
    assert str(second.message).startswith("another nightly run is going on")
    with pytest.raises(RunConflictError, match="another nightly run is going on"):
        await second.aresult()
    assert (await first).is_completed()
    assert await scalar(engine, "SELECT count(*) FROM runs") == 1


async def test_a_night_that_is_cancelled_keeps_its_rows_and_says_so_in_the_ledger(
    engine: AsyncEngine, ranker: MisbehavingRanker
) -> None:
    await add_small_shop(engine, "a")
    ranker.misbehave(Fault.HELD, hold_after_objects=1)
    night = asyncio.create_task(run_nightly())

    async def has_a_row() -> bool:
        return await scalar(engine, "SELECT count(*) FROM recommendations") == 1

    await becomes(has_a_row)
    night.cancel()
    await asyncio.wait({night})

    assert await scalar(engine, "SELECT state FROM runs") == "cancelled"
    assert await scalar(engine, "SELECT ending FROM llm_calls") == "abandoned"
    assert await scalar(engine, "SELECT count(*) FROM recommendations") == 1


async def test_a_run_that_is_not_there_cannot_be_resumed(engine: AsyncEngine) -> None:
    await add_small_shop(engine, "a")
    state = await run_nightly(resume=uuid4())
    assert state.is_failed()
    with pytest.raises(InputError, match="there is no run"):
        await state.aresult()


async def test_a_run_is_not_resumed_with_another_model(
    engine: AsyncEngine, admin: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_small_shop(engine, "a")
    await run_nightly()
    await change(admin, "UPDATE runs SET model = 'a-former-model'")
    state = await run_nightly(resume=await scalar(engine, "SELECT run_id FROM runs"))
    with pytest.raises(RunConflictError, match="set RECSTREAM_MODEL=a-former-model"):
        await state.aresult()


async def test_an_empty_shop_plans_no_run(engine: AsyncEngine) -> None:
    await add_customer(engine, "a")
    state = await run_nightly()
    with pytest.raises(InputError, match="recstream load products"):
        await state.aresult()
    assert await scalar(engine, "SELECT count(*) FROM runs") == 0
