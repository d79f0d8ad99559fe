"""Publishing and rolling back on a real database: who is let through, and what readers see then."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import PUBLISHING_LOCK, libpq_url, open_connection
from pipeline.domain import RunId, RunKind, RunState
from pipeline.errors import InputError, RunConflictError
from pipeline.gates import Figures, Gates
from pipeline.publishing import publish_by_hand, publish_customer, publish_night, read_figures, roll_back
from pipeline.run_states import begin_run, end_run
from pipeline.runs import summarise
from tests.fixtures.readers import PURCHASABLE, add_slates, runs_that_readers_see, what_readers_see
from tests.fixtures.shop import change, end_slates, read, scalar

GATES = Gates()
NONE = Gates(served_share=0, rows_per_slate=0, refused_share=1, worsening=1)
STORED = "SELECT published_at, precedence, withdrawn_at FROM published_runs ORDER BY precedence"
PATIENCE_S = 30.0


async def test_readers_see_the_complete_slates_of_a_published_night_and_no_others(
    engine: AsyncEngine, database_url: str
) -> None:
    run = await add_slates(
        engine, database_url, a="complete", b="short", c="failed", d="streaming", e="pending", f="complete"
    )
    assert await runs_that_readers_see(engine) == {}

    publication = await publish_night(engine, run.run_id, NONE)

    assert (publication.changed, publication.refusal) == (True, None)
    assert await runs_that_readers_see(engine) == {"a": run.run_id, "f": run.run_id}
    assert await what_readers_see(engine, "a") == [(run.run_id, product) for product in PURCHASABLE]


async def test_who_has_no_complete_slate_keeps_the_former_one(engine: AsyncEngine, database_url: str) -> None:
    former = await add_slates(engine, database_url, a="complete", b="complete")
    await publish_night(engine, former.run_id, NONE)
    newer = await add_slates(engine, database_url, a="complete", b="short")

    await publish_night(engine, newer.run_id, NONE)

    assert await runs_that_readers_see(engine) == {"a": newer.run_id, "b": former.run_id}


async def test_a_night_that_its_gates_refuse_changes_nothing_and_says_what_to_do(
    engine: AsyncEngine, database_url: str
) -> None:
    former = await add_slates(engine, database_url, a="complete", b="complete")
    await publish_night(engine, former.run_id, GATES)
    poor = await add_slates(engine, database_url, a="complete", b="short")

    publication = await publish_night(engine, poor.run_id, GATES)

    assert not publication.changed
    assert publication.refusal == (
        "not published: served 50% of 2 customers, the gate wants 90%; readers keep what they had: "
        f"`recstream resume {poor.run_id}` goes on with the customers that are left, "
        f"`recstream publish {poor.run_id} --force` publishes it all the same"
    )
    assert await runs_that_readers_see(engine) == {"a": former.run_id, "b": former.run_id}
    assert await scalar(engine, "SELECT count(*) FROM published_runs") == 1


async def test_a_night_is_held_against_the_one_that_readers_see_and_no_other(
    engine: AsyncEngine, database_url: str
) -> None:
    full = await add_slates(engine, database_url, a="complete", b="complete")
    await publish_night(engine, full.run_id, NONE)
    poor = await add_slates(engine, database_url, a="complete", b="short")
    lenient = replace(NONE, worsening=0.1)

    refused = await publish_night(engine, poor.run_id, lenient)
    assert refused.refusal is not None
    assert "served 50% of 2 customers, the last night 100%, the gate wants 90%" in refused.refusal

    await roll_back(engine)
    assert (await publish_night(engine, poor.run_id, lenient)).refusal is None


async def test_the_figures_of_a_run_count_rows_of_complete_slates_and_refused_objects(
    engine: AsyncEngine, database_url: str
) -> None:
    await add_slates(engine, database_url, a="complete", z="failed")  # another run of the same day
    run = await add_slates(engine, database_url, a="complete", b="short", c="complete", d="pending")
    await change(
        engine,
        "INSERT INTO rejections (run_id, customer_id, day, attempt, number, reason, detail, raw)"
        " SELECT :run_id, 'a', :day, 1, number, 'not_json', '', '' FROM generate_series(1, 4) AS number",
        run_id=run.run_id,
        day=run.day,
    )

    assert await read_figures(engine, run.run_id) == Figures(planned=4, complete=2, rows=6, committed=12, refused=4)

    await publish_night(engine, run.run_id, NONE)
    stored = await read(engine, "SELECT day, served_share, rows_per_slate, refused_share FROM published_runs")
    assert stored == [(run.day, 0.5, 3.0, 0.25)]


async def test_a_slate_that_was_made_for_one_customer_meanwhile_stays_and_the_others_are_switched(
    engine: AsyncEngine, database_url: str
) -> None:
    night = await add_slates(engine, database_url, a="complete", b="complete", c="complete")
    for_one = await add_slates(engine, database_url, kind=RunKind.ON_DEMAND, b="complete")
    assert await publish_customer(engine, for_one.run_id) == 1

    await publish_night(engine, night.run_id, GATES)
    assert await runs_that_readers_see(engine) == {"a": night.run_id, "b": for_one.run_id, "c": night.run_id}

    later = await add_slates(engine, database_url, a="complete", b="complete", c="complete")
    await publish_night(engine, later.run_id, GATES)
    assert set((await runs_that_readers_see(engine)).values()) == {later.run_id}


async def test_a_pointer_never_goes_back_to_an_older_run(engine: AsyncEngine, database_url: str) -> None:
    older, newer = [await add_slates(engine, database_url, kind=RunKind.ON_DEMAND, a="complete") for _ in range(2)]
    assert await publish_customer(engine, newer.run_id) == 1
    before = await read(engine, "SELECT * FROM published")

    assert await publish_customer(engine, newer.run_id) == 0
    assert await publish_customer(engine, older.run_id) == 0

    assert await read(engine, "SELECT * FROM published") == before
    assert await runs_that_readers_see(engine) == {"a": newer.run_id}


async def test_a_slate_made_on_demand_is_published_only_if_it_is_complete(
    engine: AsyncEngine, database_url: str
) -> None:
    short = await add_slates(engine, database_url, kind=RunKind.ON_DEMAND, a="short")

    assert await publish_customer(engine, short.run_id) == 0

    assert await runs_that_readers_see(engine) == {}


async def test_publishing_by_hand_puts_an_older_night_before_all_others(engine: AsyncEngine, database_url: str) -> None:
    older = await add_slates(engine, database_url, a="complete", b="complete")
    newer = await add_slates(engine, database_url, a="complete", b="complete")
    for_one = await add_slates(engine, database_url, kind=RunKind.ON_DEMAND, b="complete")
    await publish_night(engine, older.run_id, GATES)
    await publish_night(engine, newer.run_id, GATES)
    await publish_customer(engine, for_one.run_id)

    assert (await publish_by_hand(engine, older.run_id, GATES)).changed

    assert set((await runs_that_readers_see(engine)).values()) == {older.run_id}


async def test_publishing_by_hand_puts_the_first_night_before_a_slate_made_since(
    engine: AsyncEngine, database_url: str
) -> None:
    night = await add_slates(engine, database_url, a="complete", b="complete")
    for_one = await add_slates(engine, database_url, kind=RunKind.ON_DEMAND, b="complete")
    await publish_night(engine, night.run_id, GATES)
    await publish_customer(engine, for_one.run_id)

    assert (await publish_by_hand(engine, night.run_id, GATES)).changed

    assert set((await runs_that_readers_see(engine)).values()) == {night.run_id}


async def test_publishing_what_readers_see_already_changes_nothing(engine: AsyncEngine, database_url: str) -> None:
    run = await add_slates(engine, database_url, a="complete")
    await publish_night(engine, run.run_id, GATES)
    before = await read(engine, STORED)

    assert not (await publish_by_hand(engine, run.run_id, GATES)).changed
    assert not (await publish_night(engine, run.run_id, GATES)).changed

    assert await read(engine, STORED) == before


async def test_force_publishes_what_the_gates_refuse_and_the_ledger_stops_saying_that_it_is_not_published(
    engine: AsyncEngine, database_url: str
) -> None:
    poor = await add_slates(engine, database_url, ended=False, a="complete", b="short")
    refusal = (await publish_night(engine, poor.run_id, GATES)).refusal
    await end_run(engine, poor.run_id, RunState.FAILED, f"1 customer has no complete slate; {refusal}")

    by_hand = await publish_by_hand(engine, poor.run_id, GATES)
    assert (by_hand.changed, by_hand.refusal) == (False, refusal)
    forced = await publish_by_hand(engine, poor.run_id, GATES, force=True)

    assert (forced.changed, forced.refusal) == (True, None)
    assert await runs_that_readers_see(engine) == {"a": poor.run_id}
    summary = await summarise(engine, poor.run_id)
    assert (summary.reason, summary.published, summary.kept_back) == ("1 customer has no complete slate", 1, False)


async def test_a_run_that_goes_on_is_published_by_force_alone_and_shows_each_slate_as_it_is_completed(
    engine: AsyncEngine, database_url: str
) -> None:
    run = await add_slates(engine, database_url, ended=False, a="complete", b="streaming")
    with pytest.raises(RunConflictError, match=f"still going on: .*`recstream publish {run.run_id} --force`"):
        await publish_by_hand(engine, run.run_id, NONE)
    await publish_by_hand(engine, run.run_id, GATES, force=True)
    assert await runs_that_readers_see(engine) == {"a": run.run_id}

    await change(engine, "UPDATE slates SET state = 'complete' WHERE customer_id = 'b'")

    assert await runs_that_readers_see(engine) == {"a": run.run_id, "b": run.run_id}


async def test_a_published_run_that_is_resumed_stays_published_with_its_new_figures(
    engine: AsyncEngine, database_url: str
) -> None:
    run = await add_slates(engine, database_url, a="complete", b="short")
    await publish_by_hand(engine, run.run_id, GATES, force=True)
    before = await read(engine, STORED)
    await begin_run(engine, run.run_id)
    await end_slates(engine, run, {"b": "complete"})

    assert (await publish_night(engine, run.run_id, GATES)).refusal is None

    assert await read(engine, STORED) == before
    assert await scalar(engine, "SELECT served_share FROM published_runs") == 1
    assert await runs_that_readers_see(engine) == {"a": run.run_id, "b": run.run_id}


async def test_rolling_back_shows_what_was_before_one_night_after_the_other(
    engine: AsyncEngine, database_url: str
) -> None:
    first, second = [await add_slates(engine, database_url, a="complete", b="complete") for _ in range(2)]
    for_one = await add_slates(engine, database_url, kind=RunKind.ON_DEMAND, b="complete")
    third = await add_slates(engine, database_url, a="complete", b="complete")
    for night in (first, second, third):
        await publish_night(engine, night.run_id, GATES)
    await publish_customer(engine, for_one.run_id)

    done = await roll_back(engine)
    assert (done.run_id, done.changed, done.shown and done.shown.run_id) == (third.run_id, True, second.run_id)
    assert await runs_that_readers_see(engine) == {"a": second.run_id, "b": for_one.run_id}

    await roll_back(engine)
    assert await runs_that_readers_see(engine) == {"a": first.run_id, "b": for_one.run_id}

    assert (await roll_back(engine)).shown is None
    assert await runs_that_readers_see(engine) == {"b": for_one.run_id}
    with pytest.raises(InputError, match="no night is published: there is nothing to roll back"):
        await roll_back(engine)


async def test_a_night_below_the_one_that_readers_see_can_be_rolled_back_by_name(
    engine: AsyncEngine, database_url: str
) -> None:
    older = await add_slates(engine, database_url, a="complete", b="complete")
    newer = await add_slates(engine, database_url, a="complete", b="short")
    for night in (older, newer):
        await publish_night(engine, night.run_id, NONE)

    done = await roll_back(engine, older.run_id)

    assert (done.changed, done.shown and done.shown.run_id) == (True, newer.run_id)
    assert await runs_that_readers_see(engine) == {"a": newer.run_id}
    again = await roll_back(engine, older.run_id)
    assert (again.changed, again.shown) == (False, done.shown)


async def test_a_run_that_was_rolled_back_stays_so_when_it_is_resumed_until_somebody_publishes_it(
    engine: AsyncEngine, database_url: str
) -> None:
    run = await add_slates(engine, database_url, a="complete")
    await publish_night(engine, run.run_id, GATES)
    await roll_back(engine)

    resumed = await publish_night(engine, run.run_id, GATES)
    assert resumed.refusal is not None
    assert resumed.refusal.endswith(f"UTC; `recstream publish {run.run_id}` brings it back")
    assert await runs_that_readers_see(engine) == {}
    summary = await summarise(engine, run.run_id)
    assert (summary.published, summary.withdrawn_at is None, summary.kept_back) == (0, False, False)

    assert (await publish_by_hand(engine, run.run_id, GATES)).changed
    assert await runs_that_readers_see(engine) == {"a": run.run_id}


async def test_a_switch_writes_no_row_but_the_one_of_the_run(engine: AsyncEngine, database_url: str) -> None:
    rows = "SELECT xmin, ctid FROM recommendations UNION ALL SELECT xmin, ctid FROM slates"
    runs = [await add_slates(engine, database_url, a="complete", b="complete") for _ in range(2)]
    before = await read(engine, f"{rows} UNION ALL SELECT xmin, ctid FROM published")

    for run in runs:
        await publish_night(engine, run.run_id, GATES)
    await roll_back(engine)
    await publish_by_hand(engine, runs[1].run_id, GATES)

    assert await read(engine, f"{rows} UNION ALL SELECT xmin, ctid FROM published") == before


async def test_what_cannot_be_published_or_rolled_back_is_refused_in_one_line(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    unknown = RunId(uuid4())
    on_demand = await add_slates(engine, database_url, kind=RunKind.ON_DEMAND, a="complete")
    pruned = await add_slates(engine, database_url, a="complete")
    await change(admin, "UPDATE runs SET pruned_at = '2024-03-12' WHERE run_id = :run_id", run_id=pruned.run_id)
    never = await add_slates(engine, database_url, a="complete")
    empty = await add_slates(engine, database_url, a="failed")
    await begin_run(engine, empty.run_id)
    await end_run(engine, empty.run_id, RunState.FAILED)

    for publishing, error, told in (
        (publish_by_hand(engine, unknown, GATES), InputError, "there is no run"),
        (publish_by_hand(engine, on_demand.run_id, GATES, force=True), RunConflictError, "was made on demand"),
        (publish_by_hand(engine, pruned.run_id, GATES, force=True), RunConflictError, "were pruned on 2024-03-12"),
        (publish_by_hand(engine, empty.run_id, GATES, force=True), RunConflictError, "has no complete slate"),
    ):
        with pytest.raises(error, match=told) as refused:
            await publishing
        assert "\n" not in str(refused.value)
    for rolling_back, error, told in (
        (roll_back(engine, unknown), InputError, "there is no run"),
        (roll_back(engine, on_demand.run_id), RunConflictError, "was made on demand"),
        (roll_back(engine, never.run_id), RunConflictError, "was not published as a night"),
    ):
        with pytest.raises(error, match=told) as refused:
            await rolling_back
        assert "\n" not in str(refused.value)
    assert await runs_that_readers_see(engine) == {}


async def test_whoever_changes_what_readers_see_waits_for_whoever_does_already(
    engine: AsyncEngine, database_url: str
) -> None:
    run = await add_slates(engine, database_url, a="complete")
    await publish_night(engine, run.run_id, GATES)
    for change_of_sight in (
        lambda: roll_back(engine),
        lambda: publish_by_hand(engine, run.run_id, GATES),
        lambda: publish_night(engine, run.run_id, GATES),
        lambda: publish_customer(engine, run.run_id),
    ):
        with open_connection(database_url) as other:
            other.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [PUBLISHING_LOCK])
            before = await read(engine, STORED)
            waiting = asyncio.ensure_future(change_of_sight())
            await until_somebody_waits(database_url)
            assert await read(engine, STORED) == before
        await asyncio.wait_for(waiting, PATIENCE_S)


async def until_somebody_waits(url: str) -> None:
    """Until a connection of this database waits for an advisory lock."""
    async with asyncio.timeout(PATIENCE_S):
        async with await psycopg.AsyncConnection.connect(libpq_url(url), autocommit=True) as connection:
            waiting: tuple[int] | None = (0,)
            while waiting == (0,):
                cursor = await connection.execute(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
                waiting = await cursor.fetchone()
