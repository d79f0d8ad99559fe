"""When nights begin: over the changes of the clocks, after a downtime, and never two at a time."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow_async
from prefect.states import Scheduled
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.catch_up import NIGHTLY, start_missed_night
from flows.deploying import deploy
from flows.deployments import deployments
from flows.nightly import nightly
from flows.parameters import NightlyParameters
from flows.schedules import due_between, last_due, odd_nights, schedule_of
from pipeline.night_lock import hold_the_night
from pipeline.reading import find_night_begun_since
from pipeline.settings import load_settings
from tests.fixtures.misbehaving_ranker import MisbehavingRanker
from tests.fixtures.prefect_runs import LEAVES_SOCKETS
from tests.fixtures.prefect_services import becomes
from tests.fixtures.shop import add_article_shop, change, read, scalar

pytestmark = [LEAVES_SOCKETS]

EVERY_5_S = "* * * * * */5"
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
CHANGES = {
    BERLIN: [date(2026, 3, 29), date(2026, 10, 25), date(2027, 3, 28), date(2027, 10, 31)],
    NEW_YORK: [date(2026, 3, 8), date(2026, 11, 1), date(2027, 3, 14), date(2027, 11, 7)],
}


def midnight(day: date, zone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))


async def as_scheduled(cron: str, zone: str, day: date) -> list[str]:
    """The nights of a day as a server makes them that looks for what comes next again and again."""
    begin, end = midnight(day, zone), midnight(day + timedelta(days=1), zone) - timedelta(seconds=1)
    looked = begin.astimezone(UTC)
    found: set[datetime] = set()
    while looked < end:
        found.update(await due_between(cron, zone, looked, end))
        looked += timedelta(minutes=10)
    return [f"{due.astimezone(ZoneInfo(zone)):%H:%M}" for due in sorted(found)]


@pytest.mark.parametrize("zone", CHANGES)
async def test_three_o_clock_comes_once_on_every_day_on_which_the_clocks_change(zone: str) -> None:
    for day in CHANGES[zone]:
        assert await as_scheduled("0 3 * * *", zone, day) == ["03:00"]
    assert await odd_nights("0 3 * * *", zone, datetime(2026, 1, 1, tzinfo=UTC)) == []


@pytest.mark.parametrize("zone", CHANGES)
async def test_half_past_two_comes_once_too_and_an_hour_early_where_it_does_not_exist(zone: str) -> None:
    spring, autumn = CHANGES[zone][::2], CHANGES[zone][1::2]
    assert [await as_scheduled("30 2 * * *", zone, day) for day in autumn] == [["02:30"]] * 2
    assert [await as_scheduled("30 2 * * *", zone, day) for day in spring] == [["01:30"]] * 2
    assert await odd_nights("30 2 * * *", zone, datetime(2026, 1, 1, tzinfo=UTC)) == [
        f"{spring[0]}: there is no 02:30, so the night begins at 01:30"
    ]


async def test_where_midnight_does_not_exist_the_night_is_told_to_begin_on_the_day_before() -> None:
    assert await odd_nights("0 0 * * *", "Africa/Cairo", datetime(2026, 1, 1, tzinfo=UTC)) == [
        "2026-04-24: there is no 00:00, so the night begins at 23:00 of the day before"
    ]


async def test_a_night_that_a_change_of_clocks_skips_is_told() -> None:
    odd = await odd_nights("0,30 2 29 3 *", BERLIN, datetime(2026, 1, 1, tzinfo=UTC))
    assert odd, "two nights at an hour that is not there cannot both be kept"
    assert all("there is no 02:" in line for line in odd)


async def test_the_last_night_that_was_due_is_found_however_often_they_come() -> None:
    now = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
    assert await last_due("0 3 * * *", BERLIN, now, timedelta(hours=12)) == datetime(2026, 11, 23, 2, tzinfo=UTC)
    assert await last_due("0 3 * * *", BERLIN, now, timedelta(hours=6)) is None
    assert await last_due("* * * * *", BERLIN, now, timedelta(hours=168)) == now.replace(second=0)


@pytest.fixture
async def late(
    database_url: str,
    engine: AsyncEngine,
    ranker: MisbehavingRanker,
    prefect_services: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[list[FlowRun]]:
    """At least three nights that were due while nobody served them, the oldest first; then the schedule was paused."""
    for name, value in {"DATABASE_URL": database_url, **ranker.settings}.items():
        monkeypatch.setenv(name, value)
    await add_article_shop(engine)
    async with get_client() as client:
        await deploy(deployments(schedule_of(EVERY_5_S, "UTC")))
        deployment = await client.read_deployment_by_name(NIGHTLY)
        (schedule,) = deployment.schedules
        if not schedule.active:  # what one test pauses, the next deployment leaves so
            await client.delete_deployment(deployment.id)
            await deploy(deployments(schedule_of(EVERY_5_S, "UTC")))
            deployment = await client.read_deployment_by_name(NIGHTLY)
            (schedule,) = deployment.schedules

        async def three_are_due() -> bool:
            return len(await due_runs(deployment.id)) >= 3

        await becomes(three_are_due)
        await client.update_deployment_schedule(deployment.id, schedule.id, active=False)
        yield await due_runs(deployment.id)
        for run in await runs_of(deployment.id):
            await client.delete_flow_run(run.id)


async def runs_of(deployment_id: UUID) -> list[FlowRun]:
    async with get_client() as client:
        return await client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])), limit=200
        )


async def due_runs(deployment_id: UUID) -> list[FlowRun]:
    now = datetime.now(UTC)
    due = [
        run
        for run in await runs_of(deployment_id)
        if run.state is not None and run.state.is_scheduled() and run.auto_scheduled
    ]
    return sorted((run for run in due if moment(run) <= now), key=moment)


def moment(run: FlowRun) -> datetime:
    assert run.expected_start_time is not None
    return run.expected_start_time


async def serve(run: FlowRun) -> State[Any]:
    """As a worker's process does."""
    flow: Flow[Any, Any] = nightly
    state = await run_flow_async(flow, flow_run=run, return_type="state")
    assert isinstance(state, State)
    return state


async def by_hand(parameters: NightlyParameters | None = None) -> State[Any]:
    """As `recstream run` does."""
    flow: Flow[Any, Any] = nightly
    state = await run_flow_async(flow, parameters={"parameters": parameters}, return_type="state")
    assert isinstance(state, State)
    return state


async def test_of_several_late_nights_the_newest_runs_and_the_older_ones_are_refused(
    late: list[FlowRun], engine: AsyncEngine
) -> None:
    for older in late[:2]:
        refused = await serve(older)
        assert refused.is_cancelled()
        newest = f"the night of {moment(late[-1]):%Y-%m-%d %H:%M} UTC is due as well"
        assert refused.message == f"due at {moment(older):%Y-%m-%d %H:%M} UTC: {newest}"
    assert await scalar(engine, "SELECT count(*) FROM runs") == 0

    assert (await serve(late[-1])).is_completed()
    assert await read(engine, "SELECT kind, state FROM runs") == [("nightly", "finished")]


async def test_a_night_that_comes_later_than_catch_up_hours_is_refused_with_its_hour(
    late: list[FlowRun], engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_CATCH_UP_HOURS", "0.00001")
    refused = await serve(late[-1])

    assert refused.is_cancelled()
    assert refused.message is not None
    assert refused.message.startswith(f"due at {moment(late[-1]):%Y-%m-%d %H:%M} UTC, 0.0 h ago, and catch_up_hours is")
    assert await scalar(engine, "SELECT count(*) FROM runs") == 0


async def test_a_late_night_is_refused_where_a_whole_one_was_made_since_unless_a_person_has_it_tried_again(
    late: list[FlowRun], engine: AsyncEngine
) -> None:
    assert (await by_hand()).is_completed()
    made = await scalar(engine, "SELECT run_id FROM runs")

    refused = await serve(late[-1])

    assert refused.is_cancelled()
    told = f"due at {moment(late[-1]):%Y-%m-%d %H:%M} UTC: run {made} has been made since for all customers"
    assert refused.message == told
    async with get_client() as client:
        await client.set_flow_run_state(late[-1].id, Scheduled(), force=True)
        again = await client.read_flow_run(late[-1].id)
    assert (await serve(again)).is_completed()
    assert await scalar(engine, "SELECT count(*) FROM runs") == 2


async def test_a_late_night_that_a_person_has_tried_again_is_not_too_late(
    late: list[FlowRun], engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_CATCH_UP_HOURS", "0.00001")
    assert (await serve(late[-1])).is_cancelled()
    async with get_client() as client:
        await client.set_flow_run_state(late[-1].id, Scheduled(), force=True)
        again = await client.read_flow_run(late[-1].id)
    assert (await serve(again)).is_completed()


async def test_a_trial_with_some_customers_is_not_the_night_that_was_due(
    late: list[FlowRun], engine: AsyncEngine
) -> None:
    assert (await by_hand(NightlyParameters(limit=1))).is_completed()
    assert await find_night_begun_since(engine, moment(late[-1])) is None
    assert (await serve(late[-1])).is_completed()
    assert await find_night_begun_since(engine, moment(late[-1]), finished=True) is not None


async def test_a_night_that_comes_while_another_goes_on_is_refused_with_its_run_and_machine(
    late: list[FlowRun], database_url: str, engine: AsyncEngine
) -> None:
    async with hold_the_night(database_url):
        refused = await serve(late[-1])

    assert refused.is_cancelled()
    assert refused.message is not None
    assert "another nightly run is going on (before its first customer on " in refused.message
    assert " since " in refused.message


async def test_a_night_of_which_no_server_knew_is_started_once_and_not_where_one_has_begun(
    late: list[FlowRun], database_url: str, admin: AsyncEngine
) -> None:
    settings = load_settings()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    async with get_client() as client:
        deployment = await client.read_deployment_by_name(NIGHTLY)
        for run in await runs_of(deployment.id):
            await client.delete_flow_run(run.id)
        assert await start_missed_night(settings, database_url, tomorrow) is None, "its schedule is paused"
        await client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=True)
        long_ago = datetime.now(UTC) - timedelta(days=700)
        assert await start_missed_night(settings, database_url, long_ago) is None, "nobody had a schedule then"

        told = [await start_missed_night(settings, database_url, tomorrow) for _ in range(2)]
        assert told[0] is not None
        assert "was missed: it is started now" in told[0]
        started = [run for run in await runs_of(deployment.id) if (run.idempotency_key or "").startswith("catch-up")]
        assert len(started) == 1
        assert (await serve(started[0])).is_completed()

    await change(admin, "UPDATE runs SET created_at = now() + interval '25 hours'")
    assert await start_missed_night(settings, database_url, tomorrow) is None


async def test_a_night_that_was_due_before_its_schedule_was_changed_or_activated_nobody_missed(
    database_url: str, engine: AsyncEngine, prefect_services: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    settings, hour = load_settings(), f"{(datetime.now(UTC) - timedelta(hours=1)).hour}"

    async def missed() -> str | None:
        return await start_missed_night(settings, database_url)

    async with get_client() as client:
        await afresh(client, "0 12 1 1 *")
        await deploy(deployments(schedule_of(f"0 {hour} * * *", "UTC")))
        assert await missed() is None, "the line was changed"
        deployment = await afresh(client, f"0 {hour} * * *")
        assert await missed() is None, "it was made"
        later = datetime.now(UTC) + timedelta(days=30)  # so far ahead no server schedules
        await deploy(deployments(schedule_of(f"0 {hour} * * *", "UTC")))
        (schedule,) = (await client.read_deployment_by_name(NIGHTLY)).schedules
        assert schedule.updated == deployment.schedules[0].updated, "what is as it was is not written"
        assert await start_missed_night(settings, database_url, later, deployment.updated) is not None

        await afresh(client, f"0 {hour} * * *", "Pacific/Apia")
        await deploy(deployments(schedule_of(f"0 {hour} * * *", "UTC")))
        assert await missed() is None, "the zone was changed"


@pytest.mark.parametrize("what", ["schedule", "deployment"])
async def test_a_night_that_was_due_while_all_was_paused_nobody_missed(
    what: str, database_url: str, engine: AsyncEngine, prefect_services: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RECSTREAM_CATCH_UP_HOURS", "0.1")
    settings = load_settings()
    async with get_client() as client:
        deployment = await afresh(client, "* * * * * *")
        schedule = deployment.schedules[0].id

        async def active(*, yes: bool) -> None:
            if what == "schedule":
                await client.update_deployment_schedule(deployment.id, schedule, active=yes)
            elif yes:
                await client.resume_deployment(deployment.id)
            else:
                await client.pause_deployment(deployment.id)

        await active(yes=False)
        paused = datetime.now(UTC)

        async def some_were_due() -> bool:
            return datetime.now(UTC) > paused + timedelta(seconds=2)

        await becomes(some_were_due)
        await active(yes=True)
        for run in await runs_of(deployment.id):
            await client.delete_flow_run(run.id)
        resumed = await client.read_deployment_by_name(NIGHTLY)
        stood = max(moment for moment in (resumed.updated, resumed.schedules[0].updated) if moment)
        assert stood > paused + timedelta(seconds=1)
        assert await start_missed_night(settings, database_url, stood) is None
        told = await start_missed_night(settings, database_url, stood + timedelta(hours=5))
        assert told is not None, "what is due from then on is waited for"
        await client.delete_deployment(deployment.id)


async def afresh(client: PrefectClient, cron: str, zone: str = "UTC") -> DeploymentResponse:
    """The deployment, made now, of which no server knows a night."""
    with suppress(ObjectNotFound):
        former = await client.read_deployment_by_name(NIGHTLY)
        await client.delete_deployment(former.id)
    await deploy(deployments(schedule_of(cron, zone)))
    made = await client.read_deployment_by_name(NIGHTLY)
    for run in await runs_of(made.id):
        await client.delete_flow_run(run.id)
    return made
