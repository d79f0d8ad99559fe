"""The ledger of runs on a real database: planned whole or not at all, resumed by a query, summed up truly."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import CustomerId, RunId, RunKind, RunState, SlateState
from pipeline.errors import DatabaseError, InputError, RunConflictError, UnknownCustomerError
from pipeline.gates import Gates
from pipeline.profiles import unfinished_customers
from pipeline.publishing import publish_by_hand
from pipeline.resuming import require_resumable
from pipeline.run_list import last_runs
from pipeline.run_lock import hold_new_run
from pipeline.run_states import begin_run, end_dead_runs, end_run
from pipeline.runs import LEFT, Run, RunSummary, find_run, plan_run, shards_of, summarise
from pipeline.slates import SlateLedger
from tests.fixtures.shop import (
    NOW,
    RANKER,
    SATURDAY_EVENING,
    add_customer,
    add_event,
    add_product,
    add_run,
    change,
    end_slates,
    read,
    scalar,
)

MANY_CUSTOMERS = """
    INSERT INTO customers (customer_id, active)
    SELECT 'customer ' || to_char(n, 'FM000'), n % 10 > 0 FROM generate_series(1, :number) AS n
"""


async def plan(
    engine: AsyncEngine, *only: str, shard_size: int = 1000, most: int | None = None, kind: RunKind = RunKind.NIGHTLY
) -> Run:
    chosen = [CustomerId(customer_id) for customer_id in only] or None
    return await plan_run(engine, kind, RANKER, slate_size=10, shard_size=shard_size, only=chosen, most=most)


async def unfinished(
    engine: AsyncEngine, run: Run, shard: int = 0, left: Sequence[SlateState] = LEFT
) -> list[CustomerId]:
    async with aclosing(unfinished_customers(engine, run.run_id, run.day, shard, left)) as pages:
        return [customer_id async for page in pages for customer_id in page]


async def test_planning_cuts_the_active_customers_into_shards(engine: AsyncEngine) -> None:
    await add_product(engine, "p")
    await change(engine, MANY_CUSTOMERS, number=100)

    run = await plan(engine, shard_size=25)

    assert await shards_of(engine, run) == {0: 25, 1: 25, 2: 25, 3: 15}
    assert await scalar(engine, "SELECT count(*) FROM slates JOIN customers USING (customer_id) WHERE active") == 90
    assert await scalar(engine, "SELECT count(*) FROM slates WHERE state = 'pending' AND attempts = 0") == 90
    shards = [await unfinished(engine, run, shard) for shard in range(4)]
    assert len({customer_id for shard in shards for customer_id in shard}) == 90


async def test_a_run_may_be_bounded_or_name_its_customers(engine: AsyncEngine) -> None:
    await add_product(engine, "p")
    await change(engine, MANY_CUSTOMERS, number=20)

    assert len(await unfinished(engine, await plan(engine, most=7))) == 7
    named = await plan(engine, "customer 003", "customer 001", "customer 003", kind=RunKind.ON_DEMAND)
    assert await unfinished(engine, named) == ["customer 001", "customer 003"]


async def test_a_run_keeps_what_makes_it_repeatable(engine: AsyncEngine) -> None:
    run = await add_run(engine, "c", slate_size=7)

    (kept,) = await read(
        engine,
        "SELECT kind, state, model, endpoint, provenance, temperature, slate_size, length(prompt_version), parameters"
        " FROM runs",
    )
    assert kept == (
        "nightly",
        "planned",
        RANKER.model,
        RANKER.endpoint,
        "language_model",
        0.1,
        7,
        16,
        {
            "shard_size": 1000,
            "most": None,
            "only": ["c"],
            "planned": 1,
            "variants": [],
            "unchanged_max_age_days": 0,
            "currency": None,
        },
    )
    assert await find_run(engine, run.run_id) == run


async def test_a_run_looks_up_to_the_newest_event_that_has_happened(engine: AsyncEngine) -> None:
    for kind, at in (("view", NOW), ("search", SATURDAY_EVENING), ("rating", datetime.now(UTC) + timedelta(days=1))):
        await add_event(engine, "c", kind, words="Laptop", at=at)

    assert (await add_run(engine, "c")).as_of == NOW


async def test_an_answer_to_a_slate_is_no_sign_of_life_of_the_shops_events(engine: AsyncEngine) -> None:
    await add_event(engine, "c", "purchase", product_id="p", at=NOW)
    await add_event(engine, "c", "response", product_id="p", value=1, response="clicked", at=NOW + timedelta(days=1))
    assert (await add_run(engine, "c")).as_of == NOW


async def test_a_shop_without_events_is_looked_at_as_of_now(engine: AsyncEngine) -> None:
    run = await add_run(engine, "c")

    assert run.as_of == await scalar(engine, "SELECT created_at FROM runs")


async def test_an_unknown_customer_is_refused_and_nothing_is_planned(engine: AsyncEngine) -> None:
    await add_product(engine, "p")
    await add_customer(engine, "here")

    with pytest.raises(UnknownCustomerError, match="customer 'nobody' is not in the customers table") as refused:
        await plan(engine, "here", "nobody")

    assert "\n" not in str(refused.value)
    assert await scalar(engine, "SELECT count(*) FROM runs") == 0


async def test_an_inactive_customer_is_refused_and_nothing_is_planned(engine: AsyncEngine) -> None:
    await add_product(engine, "p")
    await add_customer(engine, "asleep", active=False)

    with pytest.raises(UnknownCustomerError, match="customer 'asleep' is not active") as refused:
        await plan(engine, "asleep")

    assert "\n" not in str(refused.value)
    assert await scalar(engine, "SELECT count(*) FROM runs") == 0


async def test_a_shop_without_active_customers_is_refused_and_nothing_is_planned(engine: AsyncEngine) -> None:
    await add_product(engine, "p")
    await add_customer(engine, "asleep", active=False)

    with pytest.raises(InputError, match="no active customers: load some with `recstream load customers FILE`"):
        await plan(engine)

    assert await scalar(engine, "SELECT count(*) FROM runs") == 0


@pytest.mark.parametrize("product", [None, {"available": False}, {"hidden": True}])
async def test_a_catalog_with_nothing_to_recommend_is_refused_and_nothing_is_planned(
    engine: AsyncEngine, product: dict[str, bool] | None
) -> None:
    await add_customer(engine, "c")
    if product is not None:
        await add_product(engine, "p", available=product.get("available", True), hidden=product.get("hidden", False))

    with pytest.raises(InputError, match="load some with `recstream load products FILE`"):
        await plan(engine)

    assert await scalar(engine, "SELECT count(*) FROM runs") == 0


async def test_a_very_long_list_of_customers_can_be_named(engine: AsyncEngine) -> None:
    await add_product(engine, "p")
    await change(engine, "INSERT INTO customers (customer_id) SELECT n FROM generate_series(1, 70000) AS n")

    run = await plan(engine, *(str(number) for number in range(1, 70_001)))

    assert await shards_of(engine, run) == dict.fromkeys(range(70), 1000)


async def test_resuming_takes_only_slates_that_are_not_complete(engine: AsyncEngine) -> None:
    run = await add_run(engine, "a", "b", "c", "d", "e", "f", shard_size=2)
    states = {"a": "complete", "b": "complete", "c": "complete", "e": "short", "f": "failed"}
    await end_slates(engine, run, states)

    assert await shards_of(engine, run) == {1: 1, 2: 2}
    assert [await unfinished(engine, run, shard) for shard in range(3)] == [[], ["d"], ["e", "f"]]


async def test_only_the_failed_slates_can_be_asked_for(engine: AsyncEngine) -> None:
    run = await add_run(engine, "a", "b", "c", "d", shard_size=2)
    await end_slates(engine, run, {"a": "complete", "b": "failed", "c": "short"})

    assert await shards_of(engine, run, [SlateState.FAILED]) == {0: 1}
    assert await unfinished(engine, run, 0, [SlateState.FAILED]) == ["b"]
    assert await unfinished(engine, run, 1, [SlateState.FAILED]) == []


async def test_the_slates_of_another_run_of_the_same_customers_are_left_alone(engine: AsyncEngine) -> None:
    run, other = await add_run(engine, "a", "b"), await add_run(engine, "a", "b")
    await end_slates(engine, other, {"a": "complete", "b": "complete"})

    assert await shards_of(engine, run) == {0: 2}
    assert await unfinished(engine, run) == ["a", "b"]


async def test_a_run_may_be_planned_under_an_id_that_is_known_before_and_is_planned_once(engine: AsyncEngine) -> None:
    await add_product(engine, "p")
    await add_customer(engine, "a")
    run_id = RunId(uuid4())

    plans = [
        await plan_run(engine, RunKind.NIGHTLY, RANKER, slate_size=10, shard_size=1, run_id=run_id) for _ in range(2)
    ]

    assert plans[0] == plans[1]
    assert plans[0].run_id == run_id
    assert await read(engine, "SELECT run_id FROM runs") == [(run_id,)]
    assert await read(engine, "SELECT run_id FROM slates") == [(run_id,)]


async def test_a_run_begins_once_and_ends_each_time(engine: AsyncEngine) -> None:
    run = await add_run(engine, "c")

    await begin_run(engine, run.run_id)
    first = await summarise(engine, run.run_id)
    await end_run(engine, run.run_id, RunState.FAILED, "1 customer has no complete slate")
    failed = await summarise(engine, run.run_id)
    await begin_run(engine, run.run_id)
    resumed = await summarise(engine, run.run_id)

    assert (first.state, first.ended_at, first.reason) == (RunState.RUNNING, None, None)
    assert (failed.state, failed.reason) == (RunState.FAILED, "1 customer has no complete slate")
    assert failed.ended_at is not None
    assert (resumed.state, resumed.ended_at, resumed.reason) == (RunState.RUNNING, None, None)
    assert resumed.started_at == first.started_at is not None


async def test_the_runs_of_dead_processes_are_marked_and_others_are_left(
    engine: AsyncEngine, database_url: str
) -> None:
    states = {
        "planned": await add_run(engine, "c"),
        "running": await add_run(engine, "c"),
        "finished": await add_run(engine, "c"),
        "on demand": await add_run(engine, "c", kind=RunKind.ON_DEMAND),
    }
    for name in ("running", "finished", "on demand"):
        await begin_run(engine, states[name].run_id)
    await end_run(engine, states["finished"].run_id, RunState.FINISHED)
    slate = await SlateLedger(engine, states["running"].run_id, states["running"].day).open(CustomerId("c"), None, 1)
    await SlateLedger(engine, slate.run_id, slate.day).begin_attempt(slate, "hash")

    async with hold_new_run(database_url) as alive:
        states["alive"] = await add_run(engine, "c", kind=RunKind.ON_DEMAND, run_id=alive)
        await begin_run(engine, alive)
        await end_dead_runs(engine)
        await end_dead_runs(engine)

    found = {name: await summarise(engine, run.run_id) for name, run in states.items()}
    assert {name: summary.state for name, summary in found.items()} == {
        "planned": RunState.FAILED,
        "running": RunState.FAILED,
        "finished": RunState.FINISHED,
        "on demand": RunState.FAILED,
        "alive": RunState.RUNNING,
    }
    assert "recstream resume" in str(found["running"].reason)
    assert "recstream recommend" in str(found["on demand"].reason)
    assert {name: summary.died for name, summary in found.items() if summary.died} == {"running": 1}


async def test_an_on_demand_run_whose_process_has_ended_is_no_longer_taken_for_alive(
    engine: AsyncEngine, database_url: str
) -> None:
    async with hold_new_run(database_url) as run_id:
        await add_run(engine, "c", kind=RunKind.ON_DEMAND, run_id=run_id)

    await end_dead_runs(engine)

    assert (await summarise(engine, run_id)).state is RunState.FAILED


async def test_a_run_whose_rows_were_pruned_is_not_begun_again(engine: AsyncEngine, admin: AsyncEngine) -> None:
    run = await add_run(engine, "c")
    await begin_run(engine, run.run_id)
    await end_run(engine, run.run_id, RunState.FAILED, "one is left")
    await change(admin, "UPDATE runs SET pruned_at = now()")

    with pytest.raises(RunConflictError, match="were pruned: start a new one with `recstream run`"):
        await begin_run(engine, run.run_id)

    assert await read(engine, "SELECT state, reason FROM runs") == [("failed", "one is left")]


async def test_a_run_that_has_finished_is_not_begun_again(engine: AsyncEngine) -> None:
    run = await add_run(engine, "c")
    await begin_run(engine, run.run_id)
    await end_run(engine, run.run_id, RunState.FINISHED)

    with pytest.raises(RunConflictError, match="has finished: start a new one with `recstream run`"):
        await begin_run(engine, run.run_id)
    await end_run(engine, run.run_id, RunState.FAILED, "said by somebody who did not know")

    assert await read(engine, "SELECT state, reason FROM runs") == [("finished", None)]


@pytest.mark.parametrize("end", [RunState.FINISHED, RunState.FAILED, RunState.CANCELLED])
async def test_a_run_that_was_taken_for_dead_ends_as_its_own_process_says(engine: AsyncEngine, end: RunState) -> None:
    run = await add_run(engine, "c")
    await begin_run(engine, run.run_id)
    await end_dead_runs(engine)

    await end_run(engine, run.run_id, end, "its own words")

    assert await read(engine, "SELECT state, reason, ended_at IS NULL FROM runs") == [(end, "its own words", False)]


async def test_a_run_ends_as_often_as_it_is_said_and_begins_likewise(engine: AsyncEngine) -> None:
    run = await add_run(engine, "c")
    for _ in range(2):
        await begin_run(engine, run.run_id)
    for _ in range(2):
        await end_run(engine, run.run_id, RunState.CANCELLED, "interrupted")

    assert await read(engine, "SELECT state, reason FROM runs") == [("cancelled", "interrupted")]


async def test_a_run_that_is_not_there_neither_begins_nor_ends(engine: AsyncEngine) -> None:
    with pytest.raises(InputError, match="there is no run"):
        await begin_run(engine, RunId(uuid4()))
    with pytest.raises(InputError, match="there is no run"):
        await end_run(engine, RunId(uuid4()), RunState.FAILED)


async def test_a_planned_run_cannot_finish_without_having_begun(engine: AsyncEngine) -> None:
    run = await add_run(engine, "c")

    with pytest.raises(DatabaseError, match="cannot go from planned to finished"):
        await end_run(engine, run.run_id, RunState.FINISHED)


async def test_the_last_runs_are_listed_with_the_newest_first(engine: AsyncEngine, admin: AsyncEngine) -> None:
    assert await last_runs(engine, 10) == []
    oldest = await add_run(engine, "a")
    middle = await add_run(engine, "a", "b", "c")
    newest = await add_run(engine, "a", kind=RunKind.ON_DEMAND)
    await begin_run(engine, middle.run_id)
    await end_run(engine, middle.run_id, RunState.FAILED, "broken off")

    lines = await last_runs(engine, 2)

    assert [line.run_id for line in lines] == [newest.run_id, middle.run_id]
    assert (lines[1].kind, lines[1].state, lines[1].customers, lines[1].model, lines[1].reason) == (
        RunKind.NIGHTLY,
        RunState.FAILED,
        3,
        RANKER.model,
        "broken off",
    )
    assert [line.run_id for line in await last_runs(engine, 3)][2] == oldest.run_id
    await change(admin, "UPDATE runs SET parameters = parameters - 'planned'")
    assert [line.customers for line in await last_runs(engine, 1)] == [None]


RESUMABLE = Run(
    RunId(uuid4()),
    NOW.date(),
    RunKind.NIGHTLY,
    RunState.FAILED,
    10,
    NOW,
    RANKER.model,
    RANKER.provenance,
    RANKER.temperature,
    RANKER.prompt_version,
    "0.1",
)


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED, RunState.FINISHED])
def test_a_run_that_has_ended_can_be_resumed_by_the_ranker_that_made_it(state: RunState) -> None:
    require_resumable(replace(RESUMABLE, state=state), RANKER)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (replace(RESUMABLE, pruned_at=NOW), "were pruned on 2024-03-12: start another with `recstream run`"),
        (replace(RESUMABLE, state=RunState.PLANNED), "is going on in another process"),
        (replace(RESUMABLE, state=RunState.RUNNING), "is going on in another process"),
        (replace(RESUMABLE, state=RunState.DRAINING), "is going on in another process"),
        (replace(RESUMABLE, model="former"), "set RECSTREAM_MODEL=former to resume it"),
        (replace(RESUMABLE, provenance="offline_ranker"), "set RECSTREAM_MODEL=test-model to resume it"),
        (replace(RESUMABLE, temperature=0.7), "set RECSTREAM_TEMPERATURE=0.7 to resume it"),
        (replace(RESUMABLE, prompt_version="former"), "prompt version former of recstream 0.1"),
    ],
)
def test_a_run_is_not_gone_on_with_by_another_ranker_nor_without_its_rows(run: Run, words: str) -> None:
    with pytest.raises(RunConflictError, match=words) as refused:
        require_resumable(run, RANKER)
    assert "\n" not in str(refused.value)


async def test_the_newest_nightly_run_is_found_when_none_is_named(engine: AsyncEngine) -> None:
    assert await find_run(engine, None) is None
    await add_run(engine, "c")
    newest = await add_run(engine, "c")
    await add_run(engine, "c", kind=RunKind.ON_DEMAND)

    assert await find_run(engine, None) == newest
    assert await find_run(engine, RunId(uuid4())) is None


async def test_the_summary_of_an_unknown_run_is_refused_in_one_line(engine: AsyncEngine) -> None:
    with pytest.raises(InputError, match=r"there is no run .*: `recstream status` shows the last one"):
        await summarise(engine, RunId(uuid4()))


async def test_the_summary_of_a_run_without_rows_has_no_times(engine: AsyncEngine) -> None:
    run = await add_run(engine, "a", "b")

    summary = await summarise(engine, run.run_id)

    assert (summary.customers, summary.unfinished, summary.left, summary.rows) == (2, 2, 2, 0)
    assert (summary.first_row_p50_s, summary.first_row_p95_s) == (None, None)
    assert (summary.started_at, summary.ended_at, summary.duration_s) == (None, None, None)


async def test_the_summary_says_what_a_run_has_come_to(engine: AsyncEngine) -> None:
    run = await add_run(engine, *(f"c{number}" for number in range(1, 11)))
    other = await add_run(engine, "c1", "c2")
    states = [*["complete"] * 6, "short", "failed", "pending", "streaming"]
    for each in (run, other):
        await end_slates(engine, each, {f"c{number}": state for number, state in enumerate(states, start=1)})
    await change(
        engine,
        "UPDATE slates SET tokens_in = 100, tokens_out = 10, tokens_cached = 5, cost = 0.25,"
        " first_row_s = nullif(substr(customer_id, 2)::integer, 8)",
    )
    for run_id in (run.run_id, other.run_id):
        await change(
            engine,
            "INSERT INTO recommendations (run_id, customer_id, day, rank, product_id, product_name, relevance_score,"
            " provenance, attempt) SELECT :run_id, customer_id, day, n, n, n, 0.5, 'language_model', 1"
            " FROM slates, generate_series(1, 3) AS n WHERE run_id = :run_id AND state IN ('complete', 'short')",
            run_id=run_id,
        )
    await change(
        engine,
        "INSERT INTO rejections (run_id, customer_id, day, attempt, number, reason, detail, raw)"
        " SELECT run_id, customer_id, day, 1, 1, 'not_json', '', '' FROM slates"
        " WHERE run_id = :run_id AND state = 'failed'",
        run_id=run.run_id,
    )
    await begin_run(engine, run.run_id)
    await change(
        engine,
        "UPDATE runs SET started_at = CAST(:at AS timestamptz), ended_at = :at + interval '90 seconds',"
        " state = 'failed', reason = 'some are left' WHERE run_id = :run_id",
        at=NOW,
        run_id=run.run_id,
    )
    publication = await publish_by_hand(engine, run.run_id, Gates(), force=True)

    summary = await summarise(engine, run.run_id)

    assert summary == RunSummary(
        run_id=run.run_id,
        kind=RunKind.NIGHTLY,
        state=RunState.FAILED,
        reason="some are left",
        model=RANKER.model,
        endpoint=RANKER.endpoint,
        provenance=RANKER.provenance,
        slate_size=10,
        prompt_version=summary.prompt_version,
        created_at=summary.created_at,
        started_at=NOW,
        ended_at=NOW + timedelta(seconds=90),
        duration_s=90,
        customers=10,
        complete=6,
        short=1,
        failed=1,
        unfinished=2,
        unchanged=0,
        filled_up=0,
        tokens_in=1000,
        tokens_out=100,
        tokens_cached=50,
        cost=Decimal("2.5"),
        currency=None,
        first_row_p50_s=5,
        first_row_p95_s=summary.first_row_p95_s,
        rows=21,
        rows_of_others=0,
        refused_objects=1,
        died=0,
        published=6,
        published_at=summary.published_at,
        withdrawn_at=None,
        pruned_at=None,
    )
    assert publication.changed
    assert summary.published_at is not None
    assert summary.first_row_p95_s == pytest.approx(9.6)
    assert summary.left == 4
