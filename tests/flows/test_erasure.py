"""Erasing a customer from a real Prefect server, and from the files that Prefect leaves."""

import asyncio
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from flows import prefect_server
from flows.cli.erasure import erase_everywhere, verify_everywhere
from flows.prefect_erasure import erase_from_prefect
from flows.prefect_files import erase_from_prefect_files
from pipeline.domain import CustomerId
from pipeline.errors import ConfigurationError, UnknownCustomerError
from pipeline.mentions import Mentions
from pipeline.settings import load_settings
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, run_on_demand
from tests.fixtures.shop import add_article_shop, add_customer

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

pytestmark = [pytest.mark.usefixtures("_settings_of_the_flows"), LEAVES_SOCKETS]
HIM = CustomerId("c-erased-1729")
BOB = CustomerId("c-other-1730")
NOBODY = CustomerId("c-nobody-1731")


@pytest.fixture
async def shop(engine: AsyncEngine) -> None:
    await add_article_shop(engine)
    for customer_id in (HIM, BOB):
        await add_customer(engine, customer_id)


async def flow_runs_of(customer_id: str) -> "list[FlowRun]":
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    wanted = FlowRunFilter(name=FlowRunFilterName(like_=customer_id))
    async with get_client() as client:
        return await client.read_flow_runs(flow_run_filter=wanted)


async def number_of_logs() -> int:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return len(await client.read_logs(limit=200))


@pytest.mark.usefixtures("shop")
async def test_his_flow_runs_and_their_logs_are_deleted_and_those_of_others_stay() -> None:
    from prefect.logging.handlers import APILogWorker

    await run_on_demand(BOB)
    await asyncio.to_thread(APILogWorker.drain_all, timeout=30)
    others_logs = await number_of_logs()
    await run_on_demand(HIM)
    await asyncio.to_thread(APILogWorker.drain_all, timeout=30)
    assert await number_of_logs() > others_logs > 0

    foreseen = await erase_from_prefect(HIM, dry_run=True)
    assert len(await flow_runs_of(HIM)) == 1
    erased = await erase_from_prefect(HIM)

    assert foreseen.flow_runs == erased.flow_runs == 1
    assert erased.looked_at >= 2
    assert await flow_runs_of(HIM) == []
    assert await flow_runs_of(BOB)
    assert await number_of_logs() == others_logs
    assert (await erase_from_prefect(HIM)).flow_runs == 0


@pytest.mark.usefixtures("shop")
async def test_a_flow_run_that_waits_in_the_queue_is_deleted_whatever_it_is_called() -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Scheduled

    from flows.on_demand import on_demand

    async with get_client() as client:
        await client.create_flow_run(
            on_demand, name="waits", parameters={"parameters": {"customer_id": HIM}}, state=Scheduled()
        )
    assert len(await flow_runs_of("waits")) == 1
    assert (await erase_from_prefect(HIM)).flow_runs == 1
    assert await flow_runs_of("waits") == []


@pytest.mark.usefixtures("shop")
async def test_events_outlive_their_flow_run_and_are_counted() -> None:
    await run_on_demand(HIM)
    found = 0
    for _ in range(200):  # the server writes them down by and by
        found = (await erase_from_prefect(HIM)).events
        if found:
            break
    assert found


@pytest.mark.parametrize(("going_on", "expected"), [(True, (0, 1)), (False, (1, 0))])
async def test_a_night_that_names_him_is_deleted_when_it_has_ended_and_counted_before(
    going_on: bool, expected: tuple[int, int]
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import LogCreate
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.states import Completed, Running

    from flows.nightly import nightly

    async with get_client() as client:
        state: State[None] = Running() if going_on else Completed()
        night: FlowRun = await client.create_flow_run(nightly, name="nightly", state=state, tags=["recstream"])
        message = "the slate of customer 'c-live-99' was opened by another"
        await client.create_logs(
            [LogCreate(name="n", level=20, message=message, timestamp=datetime.now(UTC), flow_run_id=night.id)]
        )
        try:
            found = await erase_from_prefect(CustomerId("c-live-99"))
            assert (found.flow_runs, found.going_on) == expected
            itself = FlowRunFilter(id=FlowRunFilterId(any_=[night.id]))
            assert bool(await client.read_flow_runs(flow_run_filter=itself)) is going_on
        finally:
            if going_on:
                await client.delete_flow_run(night.id)


async def test_a_report_that_has_him_among_the_slowest_is_deleted_and_one_that_has_another_stays() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    async def keys() -> set[str | None]:
        async with get_client() as client:
            wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["night-7a7a7a7a-report", "night-7b7b7b7b-report"]))
            return {artifact.key for artifact in await client.read_artifacts(artifact_filter=wanted)}

    async with get_client() as client:
        for key, customer_id in (("night-7a7a7a7a-report", "17"), ("night-7b7b7b7b-report", "171")):
            page = f"| Customer | Whole slate |\n| --- | --- |\n| `{customer_id}` | 17 s |\n"
            await client.create_artifact(ArtifactCreate(key=key, type="markdown", data=page))
    assert (await erase_from_prefect(CustomerId("17"), dry_run=True)).reports == 1
    assert await keys() == {"night-7a7a7a7a-report", "night-7b7b7b7b-report"}
    assert (await erase_from_prefect(CustomerId("17"))).reports == 1
    assert await keys() == {"night-7b7b7b7b-report"}
    assert (await erase_from_prefect(CustomerId("171"))).reports == 1


async def test_what_another_project_has_stays_though_it_is_called_as_ours_and_names_him() -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.states import Completed

    @flow(name="nightly")
    def theirs() -> None: ...

    async with get_client() as client:
        run = await client.create_flow_run(theirs, name="nightly of c-two-5", state=Completed())
        made = ArtifactCreate(key="night-of-sales", type="markdown", data="| `c-two-5` |")
        artifact = await client.create_artifact(made)
        erased = await erase_from_prefect(CustomerId("c-two-5"))
        assert (erased.flow_runs, erased.reports) == (0, 0)
        await client.delete_flow_run(run.id)
        await client.delete_artifact(artifact.id)


@pytest.mark.parametrize(("going_on", "expected"), [(True, (0, 1)), (False, (1, 0))])
async def test_a_flow_run_for_a_list_that_he_is_in_is_deleted_when_it_has_ended_and_counted_before(
    going_on: bool, expected: tuple[int, int]
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Running

    from flows.on_demand import on_demand

    async with get_client() as client:
        state: State[None] = Running() if going_on else Completed()
        asked = {"parameters": {"customer_id": None, "customer_ids": ["c-list-7", "c-list-77"]}}
        run: FlowRun = await client.create_flow_run(
            on_demand, name="on-demand 2 customers", parameters=asked, state=state
        )
        found = await erase_from_prefect(CustomerId("c-list-7"))
        assert (found.flow_runs, found.going_on) == expected
        assert (await erase_from_prefect(CustomerId("c-list-8"))).flow_runs == 0
        if going_on:
            await client.delete_flow_run(run.id)


@pytest.mark.parametrize(
    ("customer_id", "other"),
    [("ann@example.org", "mary.ann@example.org"), ("ann@example.org", "ann@example.org.uk"), ("12", "12:3")],
)
async def test_a_flow_run_for_somebody_whose_id_has_his_in_it_stays(customer_id: str, other: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Failed

    from flows.on_demand import on_demand

    async with get_client() as client:
        run: FlowRun = await client.create_flow_run(
            on_demand,
            name=f"on-demand {other}",
            parameters={"parameters": {"customer_id": other}},
            state=Failed(message=f"customer {other!r} is not customer {customer_id!r}"),
        )
        try:
            assert (await erase_from_prefect(CustomerId(customer_id))).flow_runs == 0
            assert await flow_runs_of(other)
        finally:
            await client.delete_flow_run(run.id)


def test_a_server_that_nobody_has_named_is_searched_and_left_as_it_is(
    database_url: str, prefect_api_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(prefect_server, "LOCAL_SERVER", prefect_api_url)
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{tmp_path}/prefect.db")
    settings = load_settings(home=tmp_path)
    queued = CustomerId("c-queued-1733")
    asyncio.run(queue_for(queued))
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        erase_everywhere(settings, database_url, queued, dry_run=False, tell=lambda _: None)
        left = verify_everywhere(settings, database_url, queued, tell=lambda _: None)
    assert len(asyncio.run(flow_runs_of(queued))) == 1
    assert [number for place, number in left.places.items() if place.startswith("records of the Prefect server")]
    assert any("nothing says that it is this shop's" in remark for remark in left.remarks)

    named = erase_everywhere(settings, database_url, queued, dry_run=False, tell=lambda _: None)

    assert named.places["flow runs of Prefect's server"] == 1
    assert asyncio.run(flow_runs_of(queued)) == []


async def queue_for(customer_id: CustomerId) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Scheduled

    from flows.on_demand import on_demand

    async with get_client() as client:
        await client.create_flow_run(
            on_demand,
            name=f"on-demand {customer_id}",
            parameters={"parameters": {"customer_id": customer_id}},
            state=Scheduled(),
        )


async def test_a_server_that_cannot_be_searched_is_an_error() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: f"{PREFECT_API_URL.value()}/nothing"}),
        pytest.raises(ConfigurationError, match="Prefect's server refuses to be searched"),
    ):
        await erase_from_prefect(HIM)


def copy_of_the_records(folder: Path) -> Path:
    """The session server's records as they are now."""
    path = os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"].removeprefix("sqlite+aiosqlite:///")
    with closing(sqlite3.connect(path)) as records, closing(sqlite3.connect(folder / "prefect.db")) as copy:
        records.backup(copy)
    return folder / "prefect.db"


def flow_runs_in(records: Path, name: str) -> int:
    with closing(sqlite3.connect(records)) as connection:
        (number,) = connection.execute("SELECT count(*) FROM flow_run WHERE name LIKE ?", [f"%{name}%"]).fetchone()
        return int(number)


@pytest.mark.usefixtures("shop")
async def test_he_leaves_the_records_of_the_temporary_server_to_the_last_byte(tmp_path: Path) -> None:
    await run_on_demand(HIM)
    await run_on_demand(BOB)
    records = copy_of_the_records(tmp_path)
    assert HIM.encode() in records.read_bytes()

    foreseen = erase_from_prefect_files(records, tmp_path / "none", Mentions(HIM), dry_run=True)
    others = flow_runs_in(records, BOB)
    assert flow_runs_in(records, HIM)
    erased = erase_from_prefect_files(records, tmp_path / "none", Mentions(HIM))

    assert erased == foreseen
    assert erased.rows > 1
    assert HIM.encode() not in records.read_bytes()
    assert flow_runs_in(records, HIM) == 0
    assert flow_runs_in(records, BOB) == others > 0
    assert erase_from_prefect_files(records, tmp_path / "none", Mentions(HIM)).rows == 0


async def test_the_kept_error_of_a_flow_that_failed_for_him_is_deleted(tmp_path: Path) -> None:
    from prefect import flow
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    @flow(name="on-demand", persist_result=False)  # as of an earlier version, whose flows raised their errors
    async def failing(customer_id: str) -> None:
        raise UnknownCustomerError(f"customer {customer_id!r} is not in the customers table")

    storage = tmp_path / "storage"
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: storage}):
        await failing(NOBODY, return_state=True)
        await failing("c-unknown-1732", return_state=True)
    before = sorted(storage.iterdir())
    assert len(before) == 2
    (storage / "somebody's own.json").write_text('{"customer": "c-nobody-1731"}')

    foreseen = erase_from_prefect_files(tmp_path / "none", storage, Mentions(NOBODY), dry_run=True)
    assert sorted(storage.iterdir()) == sorted([*before, storage / "somebody's own.json"])
    assert erase_from_prefect_files(tmp_path / "none", storage, Mentions(NOBODY)) == foreseen

    assert len(foreseen.files) == 1
    assert set(before) - set(storage.iterdir()) == set(foreseen.files)
