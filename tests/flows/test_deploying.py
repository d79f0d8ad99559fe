"""`recstream deploy` on a real server: one command, as often as one likes, and prefect.yaml says the same."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron

from flows.catch_up import NIGHTLY
from flows.deploying import Registered, deploy, missing
from flows.deployments import Deployed, deployments, deployments_as_asked
from flows.nightly import nightly
from flows.prefect_server import talking_to
from flows.schedules import schedule_of
from flows.serving import serve_flows
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from tests.fixtures.command_line import ROOT, CommandLine
from tests.fixtures.prefect_runs import LEAVES_SOCKETS

pytestmark = [pytest.mark.usefixtures("prefect_services"), LEAVES_SOCKETS]

PATIENCE_S = 90


def wanted(cron: str = "0 3 * * *", time_zone: str = "UTC") -> tuple[Deployed, ...]:
    return deployments(schedule_of(cron, time_zone))


async def registered(pool: str) -> Mapping[str, Any]:
    """What the server has, without what it adds itself."""
    added = {"id", "created", "updated", "last_polled", "status", "version", "version_id", "version_info", "schedules"}
    added |= {"flow_id", "work_queue_id", "created_by", "updated_by", "path", "pull_steps", "labels"}
    found: dict[str, Any] = {}
    async with get_client() as client:
        for it in wanted():
            deployment = await client.read_deployment_by_name(it.full_name)
            kept = {"schedule", "active", "slug", "parameters"}
            schedules = [schedule.model_dump(mode="json", include=kept) for schedule in deployment.schedules]
            found[it.full_name] = deployment.model_dump(mode="json", exclude=added) | {"schedules": schedules}
            assert deployment.work_pool_name == pool
    return found


def done(told: list[Registered]) -> set[str]:
    return {it.done for it in told}


async def test_the_first_time_all_is_made_and_the_second_time_found_as_it_is() -> None:
    assert done(await missing(wanted(), "first")) >= {"made"}
    first = await deploy(wanted(), "first")
    assert first[0] == Registered("made", "work pool", "first", "process")
    before = await registered("first")

    again = await deploy(wanted(), "first")
    assert done(again) == {"found"}
    assert [it.name for it in again] == [it.name for it in first]
    assert await registered("first") == before
    assert done(await missing(wanted(), "first")) == {"found"}


async def test_what_has_changed_is_set_and_nothing_is_made_twice() -> None:
    await deploy(wanted(), "first")
    shown = await missing(wanted("30 4 * * *", "Europe/Berlin"), "first")
    told = await deploy(wanted("30 4 * * *", "Europe/Berlin"), "first")

    assert shown == told, "shown is what is done"
    assert [it.name for it in told if it.done == "changed"] == [NIGHTLY]
    async with get_client() as client:
        (schedule,) = (await client.read_deployment_by_name(NIGHTLY)).schedules
        assert schedule.schedule.model_dump(include={"cron", "timezone"}) == {
            "cron": "30 4 * * *",
            "timezone": "Europe/Berlin",
        }
        for automation in [it.name for it in told if it.kind == "automation"]:
            assert len(await client.read_automations_by_name(automation)) == 1


async def test_a_schedule_that_a_person_has_paused_stays_paused_and_the_limit_of_before_is_gone() -> None:
    former = await nightly.ato_deployment("nightly", paused=True, concurrency_limit=ConcurrencyLimitConfig(limit=1))
    await former.aapply()
    async with get_client() as client:
        assert (await client.read_deployment_by_name(NIGHTLY)).global_concurrency_limit is not None
    await deploy(wanted(), "first")
    async with get_client() as client:
        deployment = await client.read_deployment_by_name(NIGHTLY)
        assert deployment.global_concurrency_limit is None
        assert not deployment.paused
        await client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=False)
    told = await deploy(wanted(), "first")
    assert "0 3 * * *, UTC, paused on the server" in [it.remark for it in told]
    async with get_client() as client:
        assert [it.active for it in (await client.read_deployment_by_name(NIGHTLY)).schedules] == [False]


async def test_a_deployment_that_a_person_has_paused_stays_paused_and_a_schedule_of_a_person_stays() -> None:
    theirs = CronSchedule(cron="0 15 * * *", timezone="Europe/Berlin")
    async with get_client() as client:
        deployment = await afresh(client)
        await client.create_deployment_schedules(deployment.id, [DeploymentScheduleCreate(schedule=theirs)])
        await client.pause_deployment(deployment.id)

        told = await deploy(wanted("30 4 * * *"), "first")

        assert "30 4 * * *, UTC, paused on the server" in [it.remark for it in told]
        deployment = await client.read_deployment_by_name(NIGHTLY)
        assert deployment.paused
        lines = {it.slug: (it.active, it.schedule) for it in deployment.schedules}
        assert lines == {"night": (True, CronSchedule(cron="30 4 * * *", timezone="UTC")), None: (True, theirs)}
        await client.delete_deployment(deployment.id)


async def test_without_flags_a_schedule_that_is_there_stays_and_it_is_told_that_it_is_not_as_set() -> None:
    async with get_client() as client:
        await afresh(client, deployments_as_asked(Settings(), "30 1 * * *", "Europe/Berlin"))
        set_otherwise = Settings(night_cron="15 5 * * *")
        for show in (True, False):
            again = deployments_as_asked(set_otherwise, None, None)
            told = await (missing(again, "first") if show else deploy(again, "first"))
            (remark,) = [it.remark for it in told if it.name == NIGHTLY]
            left = "left as it was, not 15 5 * * *, UTC: --cron and --time-zone move it"
            assert remark == f"30 1 * * *, Europe/Berlin, {left}"
        assert await night(client) == ("30 1 * * *", "Europe/Berlin")

        await deploy(deployments_as_asked(set_otherwise, "45 2 * * *", None), "first")
        assert await night(client) == ("45 2 * * *", "Europe/Berlin")

        deployment = await client.read_deployment_by_name(NIGHTLY)
        by_hand = IntervalSchedule(interval=timedelta(hours=20))
        await client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, schedule=by_hand)
        await deploy(deployments_as_asked(set_otherwise, None, None), "first")
        (schedule,) = (await client.read_deployment_by_name(NIGHTLY)).schedules
        assert isinstance(schedule.schedule, IntervalSchedule)

        await afresh(client, deployments_as_asked(set_otherwise, None, None))
        assert await night(client) == ("15 5 * * *", "UTC"), "the first time the setting says it"


async def test_the_schedule_of_a_version_before_is_taken_over_with_its_hour() -> None:
    async with get_client() as client:
        await client.delete_deployment((await afresh(client)).id)
        limit = ConcurrencyLimitConfig(limit=1)
        line = Cron("30 1 * * *", timezone="Europe/Berlin")
        await (await nightly.ato_deployment("nightly", schedule=line, paused=True, concurrency_limit=limit)).aapply()

        await deploy(deployments_as_asked(Settings(), None, None), "first")

        assert await night(client) == ("30 1 * * *", "Europe/Berlin")
        deployment = await client.read_deployment_by_name(NIGHTLY)
        assert [it.slug for it in deployment.schedules] == ["night"]
        assert not deployment.paused, "the one that served it paused it in the end"


async def afresh(client: PrefectClient, all_: tuple[Deployed, ...] | None = None) -> DeploymentResponse:
    """The night's deployment, made now."""
    with suppress(ObjectNotFound):
        await client.delete_deployment((await client.read_deployment_by_name(NIGHTLY)).id)
    await deploy(all_ or wanted(), "first")
    return await client.read_deployment_by_name(NIGHTLY)


async def night(client: PrefectClient) -> tuple[str, str | None]:
    """When it begins, by the server; it has one schedule."""
    (schedule,) = (await client.read_deployment_by_name(NIGHTLY)).schedules
    assert isinstance(schedule.schedule, CronSchedule)
    return schedule.schedule.cron, schedule.schedule.timezone


async def test_prefect_yaml_registers_the_same(prefect_services: str, tmp_path: Path) -> None:
    await deploy(wanted(), "recstream")
    ours = await registered("recstream")
    environment = os.environ | {
        "PREFECT_API_URL": prefect_services,
        "PREFECT_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    told = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert await registered("recstream") == ours


def test_the_command_says_what_it_made_and_with_show_what_it_would(prefect_services: str, tmp_path: Path) -> None:
    recstream = CommandLine(tmp_path, {"PREFECT_API_URL": prefect_services, "RECSTREAM_TIME_ZONE": "Europe/Berlin"})
    hour = ("--cron", "30 2 * * *", "--time-zone", "Europe/Berlin")
    shown = recstream("deploy", "--pool", "another", *hour, "--show")
    assert shown.status == 0
    assert shown.stdout.splitlines()[0] == "work pool another: would be made (process)"
    assert "there is no 02:30, so the night begins at 01:30" in shown.stderr

    made = recstream("deploy", "--pool", "another", *hour)
    assert made.status == 0
    assert made.stdout.splitlines()[0] == "work pool another: made (process)"
    assert any(line.endswith("(30 2 * * *, Europe/Berlin)") for line in made.stdout.splitlines())


@pytest.mark.parametrize("pool", ["a/b", "", " "])
@pytest.mark.parametrize("show", [["--show"], []])
def test_a_name_that_no_pool_can_have_is_refused(
    pool: str, show: list[str], prefect_services: str, tmp_path: Path
) -> None:
    told = CommandLine(tmp_path, {"PREFECT_API_URL": prefect_services})("deploy", "--pool", pool, *show)
    assert told.status == 2
    assert told.stderr.splitlines()[-1].startswith(f"recstream: {pool!r} cannot be a work pool's name")


@pytest.mark.parametrize("command", [["deploy"], ["deploy", "--show"]])
def test_a_server_that_wants_another_key_is_told_so(command: list[str], tmp_path: Path) -> None:
    with server_that_wants_a_key() as api_url:
        told = CommandLine(tmp_path, {"PREFECT_API_URL": api_url})(*command)
    assert told.status == 2
    assert told.stderr.splitlines()[-1].startswith("recstream: Prefect's server wants another key")


async def test_who_serves_is_told_so_too() -> None:
    with server_that_wants_a_key() as api_url, talking_to(api_url), pytest.raises(ConfigurationError, match="key"):
        await serve_flows(wanted(), Settings(), "", print)


@contextmanager
def server_that_wants_a_key() -> Iterator[str]:
    """It answers 401 to everything."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Unauthorized)
    serving = Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


class _Unauthorized(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(401)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET  # noqa: N815 - as above

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_without_a_server_that_stays_there_is_nothing_to_deploy_to(tmp_path: Path) -> None:
    told = CommandLine(tmp_path)("deploy", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert told.status == 2
    assert told.complaint.startswith("recstream: no Prefect server answers at PREFECT_API_URL")
