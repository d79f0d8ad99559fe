"""The automations, as code: a dead flow run is crashed, a crashed night comes again, an event serves a customer."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture

from flows.run_names import TAG

Done = Literal["made", "changed", "found"]
MISSING_S: Final = 120
"""So long without a heartbeat, of which there is one every 30 s, and the process is dead."""
START_AGAIN_S: Final = 30
SIGNED_IN: Final = "customer.signed-in"
PAUSE_S: Final = 60
"""So long after an event about a resource, which is the customer, no further one about it is acted on."""
_HEARTBEAT: Final = "prefect.flow-run.heartbeat"
_ENDS: Final = frozenset({"Completed", "Failed", "Cancelled", "Crashed"})
# What it was told, it is told again, and which flow run it stands for. A night that dies at once would else be started
# for ever: the schema of `restarts` refuses the sixth time.
_TOLD_AGAIN: Final = (
    "{% set told = flow_run.parameters.get('parameters') or {} %}"
    "{{ dict(told, restarts=(told.get('restarts') or 0) + 1, crashed=flow_run.id | string) | tojson }}"
)
# An id is text, or a number; anything else is given as a list, which the schema of the parameter refuses.
_CUSTOMER: Final = (
    "{% set it = event.payload.customer_id %}"
    "{{ (it | string if it is integer else it if it is string else [it]) | tojson }}"
)


def automations(nightly: UUID, on_demand: UUID, missing_s: float = MISSING_S) -> tuple[AutomationCore, ...]:
    """All of them, for the deployments with these ids."""
    return (_dead(missing_s), _again(nightly), _signed_in(on_demand))


def _dead(missing_s: float) -> AutomationCore:
    ends = {f"prefect.flow-run.{state}" for state in _ENDS}
    return AutomationCore(
        name="recstream: crash flow runs without heartbeats",
        description="A flow run whose process, machine or network is gone says nothing more: it is set to Crashed.",
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *ends},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=missing_s),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no heartbeat for {missing_s:g} s: its process, its machine or the way to it is gone",
            )
        ],
    )


def _again(nightly: UUID) -> AutomationCore:
    told = {"__prefect_kind": "json", "value": {"__prefect_kind": "jinja", "template": _TOLD_AGAIN}}
    return AutomationCore(
        name="recstream: start a crashed night again",
        description="The next one goes on with the run of the dead one. It is started again five times at most.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.id": f"prefect.deployment.{nightly}",
                "prefect.resource.role": "deployment",
            },
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=nightly,
                parameters={"parameters": told},
                schedule_after=timedelta(seconds=START_AGAIN_S),
            )
        ],
    )


def _signed_in(on_demand: UUID) -> AutomationCore:
    customer = {"__prefect_kind": "json", "value": {"__prefect_kind": "jinja", "template": _CUSTOMER}}
    return AutomationCore(
        name="recstream: serve a customer who signed in",
        description=f"An event {SIGNED_IN} with customer_id in its payload has a slate made for that customer.",
        trigger=EventTrigger(
            expect={SIGNED_IN},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(seconds=PAUSE_S),
        ),
        actions=[
            RunDeployment(
                source="selected", deployment_id=on_demand, parameters={"parameters": {"customer_id": customer}}
            )
        ],
    )


async def install(client: PrefectClient, wanted: Sequence[AutomationCore]) -> list[tuple[Done, str]]:
    """Make those that are not there, and mend those that are not as wanted; returns what was done, and its name.

    Whether one is enabled is a person's to say: one that was disabled stays so.
    """
    return [(await _install(client, it), it.name) for it in wanted]


async def would_do(client: PrefectClient, wanted: Sequence[AutomationCore]) -> list[tuple[Done, str]]:
    """What `install` would do now, and to which; nothing is written."""
    return [(_done(await client.read_automations_by_name(it.name), it), it.name) for it in wanted]


def _done(found: Sequence[Automation], wanted: AutomationCore) -> Done:
    if not found:
        return "made"
    return "found" if len(found) == 1 and _is(found[0], wanted) else "changed"


async def _install(client: PrefectClient, wanted: AutomationCore) -> Done:
    found = await client.read_automations_by_name(wanted.name)
    done = _done(found, wanted)
    if done == "made":
        await client.create_automation(wanted)
    if done == "changed":
        first, *doubles = found
        for double in doubles:
            await client.delete_automation(double.id)
        await client.update_automation(first.id, wanted.model_copy(update={"enabled": first.enabled}))
    return done


def _is(found: Automation, wanted: AutomationCore) -> bool:
    compared = {"description": True, "trigger": True, "actions": True}
    standing, ours = (it.model_dump(mode="json", include=compared) for it in (found, wanted))
    for told in (standing, ours):
        told["trigger"].pop("id", None)
        for name in ("expect", "after", "for_each"):
            told["trigger"][name] = sorted(told["trigger"][name])
    return bool(standing == ours)
