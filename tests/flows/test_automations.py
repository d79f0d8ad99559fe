"""Automations on a real server: dead flow runs are crashed, a crashed night comes again, an event serves somebody."""

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed

from flows.automations import automations, install
from flows.deploying import deploy
from flows.deployments import deployments
from flows.schedules import schedule_of
from tests.fixtures.command_line import ROOT
from tests.fixtures.prefect_runs import LEAVES_SOCKETS
from tests.fixtures.prefect_services import becomes

pytestmark = [pytest.mark.usefixtures("prefect_services"), LEAVES_SOCKETS]

SOON_S = 10.0  # the least that a server allows

# Says its id once it is known to the server, then waits for its death, or ends.
FLOW = """
import sys, time
from prefect import flow
from prefect.runtime import flow_run
from prefect import tags

@flow
def alive():
    print(flow_run.id, flush=True)
    if sys.argv[1] == "waits":
        time.sleep(600)

with tags("recstream"):
    alive()
"""


async def deployed() -> dict[str, UUID]:
    """All deployments and automations, by flow; a flow run without heartbeats is crashed soon."""
    await deploy(deployments(schedule_of("0 3 1 1 *", "UTC")))
    async with get_client() as client:
        found = {name: (await client.read_deployment_by_name(f"{name}/{name}")).id for name in ("nightly", "on-demand")}
        await install(client, automations(found["nightly"], found["on-demand"], missing_s=SOON_S))
    return found


async def runs_of(deployment: UUID) -> list[FlowRun]:
    async with get_client() as client:
        found = await client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])), limit=200
        )
    return [run for run in found if not run.auto_scheduled]


async def restarts_of(deployment: UUID) -> list[int]:
    return sorted((run.parameters.get("parameters") or {}).get("restarts", 0) for run in await runs_of(deployment))


async def crash(deployment: UUID, restarts: int, **told: object) -> UUID:
    """A night that was started so often, as it was told, and crashed."""
    async with get_client() as client:
        run = await client.create_flow_run_from_deployment(
            deployment, parameters={"parameters": {"restarts": restarts, **told}}
        )
        await client.set_flow_run_state(run.id, Crashed(message="by the test"), force=True)
    return run.id


def flow_process(url: str, home: Path, what: str) -> "subprocess.Popen[bytes]":
    environment = {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(home),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
    }
    return subprocess.Popen([sys.executable, "-c", FLOW, what], env=environment, stdout=subprocess.PIPE, cwd=home)


def said_id(process: "subprocess.Popen[bytes]") -> UUID:
    assert process.stdout is not None
    return UUID(process.stdout.readline().decode().strip())


async def state_of(flow_run_id: UUID) -> tuple[str | None, str]:
    async with get_client() as client:
        state = (await client.read_flow_run(flow_run_id)).state
    assert state is not None
    return state.name, state.message or ""


async def test_a_flow_run_whose_process_was_killed_is_crashed_and_one_that_ended_is_not(
    prefect_services: str, tmp_path: Path
) -> None:
    await deployed()
    with (
        flow_process(prefect_services, tmp_path, "ends") as ended,
        flow_process(prefect_services, tmp_path, "waits") as killed,
    ):
        ended_id, killed_id = said_id(ended), said_id(killed)
        assert ended.wait(60) == 0
        killed.send_signal(signal.SIGKILL)

    async def is_crashed() -> bool:
        return (await state_of(killed_id))[0] == "Crashed"

    await becomes(is_crashed)
    assert "no heartbeat for 10 s" in (await state_of(killed_id))[1]
    assert (await state_of(ended_id))[0] == "Completed"


async def test_a_crashed_night_is_started_again_and_counted_and_not_for_ever() -> None:
    nightly = (await deployed())["nightly"]
    await crash(nightly, restarts=5)
    crashed = await crash(nightly, restarts=0, limit=2, refresh=True)

    async def is_started_again() -> bool:
        return 1 in await restarts_of(nightly)

    await becomes(is_started_again)  # events are acted on in their order: that of the fifth time came before
    assert await restarts_of(nightly) == [0, 1, 5]
    again = {"limit": 2, "refresh": True, "restarts": 1, "crashed": str(crashed)}
    assert {"parameters": again} in [run.parameters for run in await runs_of(nightly)]


async def test_who_signs_in_gets_a_run_with_the_id_that_the_event_names() -> None:
    on_demand = (await deployed())["on-demand"]
    customer_id = 'O\'Neill "the 5th" {{ x }} \N{SNOWMAN}'
    event = {
        "occurred": "2026-11-23T22:00:00Z",
        "event": "customer.signed-in",
        "resource": {"prefect.resource.id": "shop.customer.5"},
        "payload": {"customer_id": customer_id},
        "id": "6f1a3b5e-0000-4000-8000-000000000001",
    }
    async with get_client() as client:
        answer = await client.request("POST", "/events", json=[event])
        answer.raise_for_status()

    async def is_asked_for() -> bool:
        wanted = {"parameters": {"customer_id": customer_id}}
        return wanted in [run.parameters for run in await runs_of(on_demand)]

    await becomes(is_asked_for)


async def test_a_storm_of_events_about_one_customer_is_one_run_and_others_are_served() -> None:
    on_demand = (await deployed())["on-demand"]
    names = [*["c-storm"] * 5, "c-calm"]
    events = [
        {
            "occurred": datetime.now(UTC).isoformat(),
            "event": "customer.signed-in",
            "resource": {"prefect.resource.id": f"shop.customer.{name}"},
            "payload": {"customer_id": name},
            "id": str(uuid4()),
        }
        for name in names
    ]
    async with get_client() as client:
        (await client.request("POST", "/events", json=events)).raise_for_status()

    async def asked_for() -> list[str]:
        asked = [(run.parameters.get("parameters") or {}).get("customer_id") for run in await runs_of(on_demand)]
        return sorted(name for name in asked if name in names)

    async def the_last_is_asked_for() -> bool:
        return "c-calm" in await asked_for()

    await becomes(the_last_is_asked_for)  # events are acted on in their order
    assert await asked_for() == ["c-calm", "c-storm"]


async def test_an_event_whose_payload_names_no_customer_starts_no_run_and_a_number_is_an_id() -> None:
    on_demand = (await deployed())["on-demand"]
    before = len(await runs_of(on_demand))
    payloads = [{"customer_id": told} for told in (None, ["c001"], {"a": 1}, True, 1.5, 90210)]
    events = [
        {
            "occurred": datetime.now(UTC).isoformat(),
            "event": "customer.signed-in",
            "resource": {"prefect.resource.id": f"shop.odd.{number}"},
            "payload": payload,
            "id": str(uuid4()),
        }
        for number, payload in enumerate([{}, *payloads])
    ]
    async with get_client() as client:
        (await client.request("POST", "/events", json=events)).raise_for_status()

    async def the_last_is_asked_for() -> bool:
        return {"parameters": {"customer_id": "90210"}} in [run.parameters for run in await runs_of(on_demand)]

    await becomes(the_last_is_asked_for)  # events are acted on in their order
    assert len(await runs_of(on_demand)) == before + 1
