"""What Prefect's server has to show of a night, read back from a real one; and what housekeeping removes from it."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, State
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed, Running
from sqlalchemy.ext.asyncio import AsyncEngine

from flows import artifacts, prefect_retention
from flows.artifacts import NIGHTS, Progress
from flows.catch_up import catch_up
from flows.prefect_retention import drop_old_flow_runs
from pipeline.housekeeping import done
from pipeline.offline_ranker.faults import Fault
from pipeline.runs import Run, find_run
from pipeline.settings import load_settings
from tests.fixtures.misbehaving_ranker import MisbehavingRanker
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, PATIENCE_S, run_nightly
from tests.fixtures.shop import add_customer, add_product, change, scalar

pytestmark = [pytest.mark.usefixtures("_settings_of_the_flows"), LEAVES_SOCKETS]
ZONE = "Pacific/Kiritimati"  # where it is tomorrow for most of our day


@pytest.fixture
async def shop(engine: AsyncEngine) -> None:
    for number in range(1, 13):
        await add_product(engine, str(number), f"Product {number}")
    for customer in ("a", "b", "c"):
        await add_customer(engine, customer)


async def artifacts_of(*keys: str) -> list[Artifact]:
    async with get_client() as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=list(keys)))
        return await client.read_artifacts(artifact_filter=wanted, limit=200)


async def the_run(engine: AsyncEngine) -> Run:
    run = await find_run(engine, None)
    assert run is not None
    return run


def of_state(state: State[Any]) -> UUID:
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    return flow_run_id


async def becomes(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds, within the bound of all waiting in tests."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what it waits for happens in another process
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("shop")
async def test_a_night_has_its_name_tags_progress_and_report_and_so_has_each_shard(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_SHARD_SIZE", "2")
    monkeypatch.setenv("RECSTREAM_TIME_ZONE", ZONE)

    flow_run_id = of_state(await run_nightly())

    run = await the_run(engine)
    assert run.created_at is not None
    day = run.created_at.astimezone(ZoneInfo(ZONE)).date()
    key = f"night-{str(run.run_id)[:8]}"
    async with get_client() as client:
        flow_run = await client.read_flow_run(flow_run_id)
    assert flow_run.name == f"nightly {day}"
    assert set(flow_run.tags) >= {"recstream", "nightly", str(run.run_id), str(day)}

    (progress,) = await artifacts_of(key)
    assert (progress.type, progress.data, progress.flow_run_id) == ("progress", 100, flow_run_id)
    assert progress.description == "3 of 3 customers, 30 rows"
    shards = await artifacts_of(f"{key}-shard-1", f"{key}-shard-2")
    assert {artifact.description for artifact in shards} == {
        "shard 1: 2 of 2 customers",
        "shard 2: 1 of 1 customers",
    }
    assert all(artifact.task_run_id is not None for artifact in shards)

    (report,) = await artifacts_of(f"{key}-report")
    assert report.type == "markdown"
    assert str(report.data).startswith(f"# nightly {day}: finished, 3 of 3 customers\n")
    assert "| 2 of 2 | 3 | 1 | served | 1 |" in str(report.data)
    assert report.data in [artifact.data for artifact in await artifacts_of(NIGHTS)]


@pytest.mark.usefixtures("shop")
async def test_progress_is_seen_while_the_night_goes_on(engine: AsyncEngine, ranker: MisbehavingRanker) -> None:
    ranker.misbehave(Fault.HELD, hold_after_objects=1)
    night = asyncio.create_task(run_nightly())

    async def rows_are_seen() -> bool:
        if not await scalar(engine, "SELECT count(*) FROM runs"):
            return False
        found = await artifacts_of(f"night-{str((await the_run(engine)).run_id)[:8]}")
        return [artifact.description for artifact in found] == ["0 of 3 customers, 3 rows"]

    await becomes(rows_are_seen)
    ranker.behave()
    assert (await night).is_completed()


@pytest.mark.usefixtures("shop")
async def test_a_night_that_breaks_off_has_a_report_that_says_what_to_do(
    engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_CONCURRENCY", "1")
    monkeypatch.setenv("RECSTREAM_ATTEMPTS", "1")
    ranker.misbehave_at(Fault.REFUSED_500, [False, True, False])

    flow_run_id = of_state(await run_nightly())

    run = await the_run(engine)
    (report,) = await artifacts_of(f"night-{str(run.run_id)[:8]}-report")
    assert f"1 customer is without a complete slate: `recstream resume {run.run_id}` serves them." in str(report.data)
    assert "## Customers without a slate" in str(report.data)

    async def is_told() -> bool:
        async with get_client() as client:
            logs = await client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])), limit=200)
        about = f"run {str(run.run_id)[:8]} · shard 1 · customer b: the slate is failed: "
        return any(log.message.startswith(about) for log in logs)

    await becomes(is_told)


async def test_what_cannot_be_shown_disturbs_nobody_is_told_once_and_goes_on_when_it_can(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_EVERY_S", 0.05)
    looks, key = 0, f"night-{uuid4().hex[:8]}"

    async def look() -> Progress:
        nonlocal looks
        looks += 1
        if looks < 4:
            raise RuntimeError("the server is away")
        return Progress(1, 2, "1 of 2 customers")

    async def is_shown() -> bool:
        return bool(await artifacts_of(key))

    with caplog.at_level(logging.INFO, "flows.artifacts"):
        async with artifacts._progress_shown(key, look):
            await becomes(is_shown)
    told = [record.getMessage() for record in caplog.records if record.name == "flows.artifacts"]
    assert told == [f"{key} is not shown in Prefect for now: the server is away", f"{key} is shown in Prefect again"]
    assert [artifact.data for artifact in await artifacts_of(key)] == [50]


@pytest.mark.usefixtures("shop")
async def test_a_server_that_is_away_costs_a_look_its_bound_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_LAST_WITHIN_S", 0.5)

    async def look() -> Progress:
        return Progress(1, 1, "1 of 1 customers")

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        async with asyncio.timeout(30), artifacts._progress_shown("night-away", look):
            pass
    assert await artifacts_of("night-away") == []


async def test_old_flow_runs_go_with_their_artifacts_and_the_others_stay() -> None:
    from flows.nightly import nightly

    @flow(name="nightly")
    def other() -> None: ...

    async with get_client() as client:
        ended = await client.create_flow_run(nightly, name="an old night", state=Completed(), tags=["recstream"])
        going_on = await client.create_flow_run(
            nightly, name="a night that goes on", state=Running(), tags=["recstream"]
        )
        elsewhere = await client.create_flow_run(other, name="not ours", state=Completed())
        runs = (ended, going_on, elsewhere)
        for run in runs:
            await client.create_artifact(ArtifactCreate(key=f"of-{run.id}", data="x", flow_run_id=run.id))

        await drop_old_flow_runs(30, as_of=datetime.now(UTC) + timedelta(days=29))
        assert await _are_there(*runs) == [True, True, True]
        told = await drop_old_flow_runs(30, as_of=datetime.now(UTC) + timedelta(days=31))

        assert told.endswith(" artifacts dropped that were older than 30 days")
        assert await _are_there(*runs) == [False, True, True]
        assert [len(await artifacts_of(f"of-{run.id}")) for run in runs] == [0, 1, 1]
        for run in (going_on, elsewhere):
            await client.delete_flow_run(run.id)


async def test_more_old_flow_runs_than_a_page_are_all_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.nightly import nightly

    monkeypatch.setattr(prefect_retention, "_PAGE", 2)
    async with get_client() as client:
        runs = [await client.create_flow_run(nightly, state=Completed(), tags=["recstream"]) for _ in range(5)]
    await drop_old_flow_runs(30, as_of=datetime.now(UTC) + timedelta(days=31))
    assert await _are_there(*runs) == [False] * 5


@pytest.mark.usefixtures("shop")
async def test_housekeeping_does_not_disturb_a_night_that_goes_on(
    engine: AsyncEngine, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.housekeeping import housekeeping

    monkeypatch.setenv("RECSTREAM_KEEP_DAYS", "1")
    ranker.misbehave(Fault.HELD, hold_after_objects=1)
    night = asyncio.create_task(run_nightly())

    async def all_have_a_row() -> bool:
        return await scalar(engine, "SELECT count(*) FROM recommendations") == 3

    await becomes(all_have_a_row)
    kept: State[Any] = await housekeeping(return_state=True)
    assert kept.is_completed(), kept.message
    assert await scalar(engine, "SELECT state FROM runs") == "running"
    ranker.behave()
    assert (await night).is_completed()
    assert kept.message is not None
    assert "dead runs: none" in kept.message
    assert "Prefect's records: 0 flow runs" in kept.message


async def test_housekeeping_fails_with_what_failed_and_does_the_rest(admin: AsyncEngine) -> None:
    from flows.housekeeping import housekeeping

    await change(admin, "REVOKE EXECUTE ON FUNCTION recstream_prepare_day FROM recstream_writer")
    kept: State[Any] = await housekeeping(return_state=True)
    assert kept.is_failed()
    assert kept.message is not None
    assert re.match(r"1 of \d+ steps failed: days ahead: ", kept.message)
    assert "permission denied for function recstream_prepare_day" in kept.message


async def test_housekeeping_without_the_shops_database_fails_in_a_line_and_does_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.housekeeping import housekeeping

    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    kept: State[Any] = await housekeeping(return_state=True)
    assert kept.is_failed()
    assert kept.message is not None
    assert kept.message.startswith("1 of 2 steps failed: the shop's database: ")
    assert "\n" not in kept.message


async def test_housekeeping_tells_of_settings_that_cannot_be_read_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.housekeeping import housekeeping

    monkeypatch.setenv("RECSTREAM_CATCH_UP_HOURS", "many")
    kept: State[Any] = await housekeeping(return_state=True)
    assert kept.is_failed()
    assert "catch_up_hours" in (kept.message or "").lower()
    assert "Traceback" not in (kept.message or "")


async def test_a_server_that_is_away_fails_the_step_that_asks_it_and_no_other(database_url: str) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        report = await done("missed nights", partial(catch_up, load_settings(), database_url))
    assert report.failed
    assert report.told.startswith("Prefect's server does not say whether a night was missed (")


async def _are_there(*runs: FlowRun) -> list[bool]:
    async with get_client() as client:
        found = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in runs]))
        )
    return [run.id in {it.id for it in found} for run in runs]
