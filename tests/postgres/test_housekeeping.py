"""What keeps the database in order, on a real Postgres: beside a night that goes on, and after one that died."""

import asyncio
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_connection
from pipeline.domain import RunId
from pipeline.housekeeping import StepReport, done, keep_house
from pipeline.night_lock import hold_the_night
from pipeline.pruning import prune
from pipeline.run_lock import hold_new_run
from pipeline.run_states import begin_run, end_abandoned_runs
from pipeline.runs import Run
from tests.fixtures.shop import add_customer, add_product, add_run, change, read, scalar


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    """A nightly run that the ledger has going on."""
    await add_product(engine, "1", "A product")
    await add_customer(engine, "a")
    added = await add_run(engine)
    await begin_run(engine, added.run_id)
    return added


async def kept_house(url: str, keep_days: int | None = None) -> dict[str, StepReport]:
    async with aclosing(keep_house(url, keep_days=keep_days)) as steps:
        return {report.step: report async for report in steps}


async def test_every_step_is_done_in_an_empty_database(database_url: str, engine: AsyncEngine) -> None:
    reports = await kept_house(database_url, keep_days=7)

    assert {name: report.failed for name, report in reports.items()} == dict.fromkeys(reports, False)
    assert list(reports) == ["days ahead", "dead runs", "dead processes", "dead builds", "statistics", "old days"]
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert await scalar(engine, f"SELECT to_regclass('slates_{tomorrow:%Y%m%d}') IS NOT NULL")


async def test_days_are_pruned_only_where_it_is_set(database_url: str) -> None:
    assert "old days" not in await kept_house(database_url)


async def test_a_step_that_fails_keeps_no_other_from_being_done(
    database_url: str, admin: AsyncEngine, run: Run
) -> None:
    await change(admin, "REVOKE EXECUTE ON FUNCTION recstream_prepare_day FROM recstream_writer")

    reports = await kept_house(database_url)

    assert [name for name, report in reports.items() if report.failed] == ["days ahead"]
    assert "permission denied for function recstream_prepare_day" in reports["days ahead"].told
    assert str(run.run_id) in reports["dead runs"].told


async def test_a_run_whose_process_died_is_marked_with_its_attempts(engine: AsyncEngine, run: Run) -> None:
    await change(
        engine,
        "INSERT INTO llm_calls (run_id, day, customer_id, attempt, lease, ending) "
        f"VALUES ('{run.run_id}', '{run.day}', 'a', 1, 1, 'in_flight')",
    )

    assert await end_abandoned_runs(engine, look_again_s=0) == [run.run_id]

    assert await read(engine, "SELECT state, interrupted FROM runs") == [("failed", True)]
    assert "its process died" in str(await scalar(engine, "SELECT reason FROM runs"))
    assert await scalar(engine, "SELECT ending FROM llm_calls") == "died"
    assert await end_abandoned_runs(engine, look_again_s=0) == []


async def test_a_night_that_somebody_holds_is_left_alone(engine: AsyncEngine, database_url: str, run: Run) -> None:
    async with hold_the_night(database_url):
        assert await end_abandoned_runs(engine, look_again_s=0) == []
    assert await scalar(engine, "SELECT state FROM runs") == "running"


async def test_a_run_whose_shards_are_served_is_left_alone_though_its_parent_died(
    engine: AsyncEngine, run: Run
) -> None:
    await change(
        engine,
        "INSERT INTO run_processes (run_id, process, heard_of, seen_at) "
        f"VALUES ('{run.run_id}', '{uuid4()}', 0, clock_timestamp())",
    )
    assert await end_abandoned_runs(engine, look_again_s=0) == []


async def test_a_run_on_demand_is_left_alone_while_its_own_lock_is_held(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str, run: Run
) -> None:
    async with hold_new_run(database_url) as run_id:
        await change(admin, "DELETE FROM run_shards")  # the run gets the id whose lock is held
        await change(admin, f"UPDATE runs SET run_id = '{run_id}', kind = 'on_demand'")
        assert await end_abandoned_runs(engine, look_again_s=0) == []
    assert await end_abandoned_runs(engine, look_again_s=0) == [run_id]


async def test_a_run_that_is_taken_again_at_the_second_look_is_left_alone(
    engine: AsyncEngine, database_url: str, run: Run
) -> None:
    looking = asyncio.create_task(end_abandoned_runs(engine, look_again_s=1))
    await asyncio.sleep(0)
    async with hold_the_night(database_url):
        assert await looking == []
    assert await scalar(engine, "SELECT state FROM runs") == "running"


async def test_a_run_whose_row_somebody_holds_is_not_waited_for(engine: AsyncEngine, run: Run) -> None:
    async with engine.begin() as connection:
        await connection.exec_driver_sql("SELECT FROM runs FOR UPDATE")
        async with asyncio.timeout(10):
            assert await end_abandoned_runs(engine, look_again_s=0) == []


async def test_the_night_can_be_held_while_the_house_is_kept(engine: AsyncEngine, database_url: str, run: Run) -> None:
    """A housekeeping that took the night's lock would have the night refused that begins at the same moment."""
    keeping = asyncio.create_task(kept_house(database_url, keep_days=1))
    while not keeping.done():
        async with hold_the_night(database_url):
            pass
    assert not any(report.failed for report in (await keeping).values())


async def test_what_dead_processes_left_is_swept_and_what_is_alive_stays(
    database_url: str, engine: AsyncEngine, run: Run
) -> None:
    alive, dead = uuid4(), uuid4()
    for process, ago in ((alive, "1 second"), (dead, "1 hour")):
        await change(
            engine,
            "INSERT INTO run_processes (run_id, process, heard_of, seen_at) "
            f"VALUES ('{run.run_id}', '{process}', 0, clock_timestamp() - interval '{ago}')",
        )
        await change(
            engine,
            "INSERT INTO limit_leases (endpoint, model, account, process, renewal, began_at, renewed_at, expires_at, "
            "demand, in_flight, used_requests, used_tokens, portion, held) "
            f"VALUES ('e', 'm', 'a', '{process}', 1, now(), now(), clock_timestamp() - interval '{ago}', "
            "0, 0, 0, 0, 1, 1)",
        )

    told = (await kept_house(database_url))["dead processes"].told

    assert told == "1 taken out of runs, 1 out of limits"
    assert await read(engine, "SELECT process FROM run_processes") == [(alive,)]
    assert await read(engine, "SELECT process FROM limit_leases") == [(alive,)]


async def test_a_build_whose_process_died_is_dropped(database_url: str, engine: AsyncEngine) -> None:
    await change(
        engine, "INSERT INTO candidate_builds (state, method, as_of, recipe) VALUES ('building', 'sql', now(), '{}')"
    )
    await change(engine, "SELECT recstream_prepare_build(1)")

    assert (await kept_house(database_url))["dead builds"].told == "1 dropped"

    assert await scalar(engine, "SELECT state FROM candidate_builds") == "failed"
    assert await scalar(engine, "SELECT to_regclass('candidate_products_1') IS NULL")


async def test_partitions_that_have_grown_are_looked_at_for_the_planner(
    database_url: str, engine: AsyncEngine, admin: AsyncEngine, run: Run
) -> None:
    name = f"rejections_{run.day:%Y%m%d}"
    async with admin.begin() as connection:  # else the server may look at it first
        await connection.exec_driver_sql(f"ALTER TABLE {name} SET (autovacuum_enabled = false)")
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO rejections (run_id, customer_id, attempt, number, day, reason, detail, raw) "
            f"SELECT '{run.run_id}', 'a', 1, n, '{run.day}', 'r', 'd', 'raw' FROM generate_series(1, 500) AS n"
        )
        await connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")  # else told a second later

    assert name in (await kept_house(database_url))["statistics"].told

    assert await scalar(engine, f"SELECT reltuples FROM pg_class WHERE relname = '{name}'") == 500
    assert name not in (await kept_house(database_url))["statistics"].told


async def test_a_partition_that_somebody_holds_is_not_waited_for(
    database_url: str, engine: AsyncEngine, admin: AsyncEngine, run: Run
) -> None:
    name = f"rejections_{run.day:%Y%m%d}"
    async with admin.begin() as connection:
        await connection.exec_driver_sql(f"LOCK TABLE {name} IN SHARE UPDATE EXCLUSIVE MODE")
        async with asyncio.timeout(10):
            await change(engine, f"SELECT recstream_analyze_partition('{name}')")


@pytest.mark.parametrize("name", ["runs", "slates", "slates_20261123; DROP TABLE runs", "pg_authid"])
def test_the_service_may_look_at_nothing_but_days(database_url: str, name: str) -> None:
    with (
        open_connection(database_url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.RaiseException, match="is no partition of a day"),
    ):
        connection.execute("SELECT recstream_analyze_partition(%s)", [name])


def test_a_day_that_was_made_ready_and_not_needed_does_not_count_as_one_that_stays(database_url: str) -> None:
    today = datetime.now(UTC).date()
    with open_connection(database_url, autocommit=True, role=None) as connection:
        for ago in (4, 3, 2, -1):
            connection.execute("SELECT recstream_prepare_day(%s)", [today - timedelta(days=ago)])
        for ago in (4, 3):
            _add_ended_run(connection, today - timedelta(days=ago))

    report = prune(database_url, keep=1)

    assert [day.day for day in report.dropped] == [today - timedelta(days=4)]
    assert set(report.staying) == {today - timedelta(days=ago) for ago in (3, 2, -1)}


async def test_a_defect_is_no_report() -> None:
    async def defect() -> str:
        raise AssertionError("a defect")

    with pytest.raises(AssertionError):
        await done("a step", defect)


def _add_ended_run(connection: psycopg.Connection, day: date) -> RunId:
    run_id = RunId(uuid4())
    connection.execute(
        "INSERT INTO runs (run_id, kind, state, model, endpoint, provenance, slate_size, temperature, prompt_version, "
        "code_version, as_of, day, shuffle_seed) "
        "VALUES (%s, 'nightly', 'finished', 'm', 'e', 'offline_ranker', 10, 0, 'p', 'c', now(), %s, 1)",
        [run_id, day],
    )
    return run_id
