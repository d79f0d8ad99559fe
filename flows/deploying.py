"""Registers the work pool, the deployments and the automations with the server in reach; again changes nothing."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from httpx import HTTPError, HTTPStatusError
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import DeploymentApplyError
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.workers.process import ProcessWorker

from flows.automations import Done, automations, install, would_do
from flows.catch_up import NIGHTLY
from flows.deployments import ENVIRONMENT, Deployed
from flows.schedules import odd_nights
from pipeline.errors import ConfigurationError, first_line

POOL: Final = "recstream"
_PROCESS: Final = "process"
_COMPARED: Final = {
    *("description", "entrypoint", "tags", "paused", "work_pool_name", "job_variables"),
    *("parameter_openapi_schema", "enforce_parameter_schema", "global_concurrency_limit"),
}
_SAID: Final = {"description", "entrypoint", "tags", "paused", "work_pool_name", "job_variables"}
_SCHEDULED: Final = {"schedule", "active", "parameters", "slug"}
_NOT_IN_NAMES: Final = set("/%&<>")
_WANTS_KEY: Final = {401, 403}
_NOBODY: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Registered:
    """One thing that the server has now, and what was done for it. `kind` is what Prefect calls such a thing."""

    done: Done
    kind: str
    name: str
    remark: str = ""


async def deploy(wanted: Iterable[Deployed], pool: str = POOL) -> list[Registered]:
    """Register all with the server in reach, for the workers of this pool.

    Raises:
        ConfigurationError: the server refuses something.
    """
    _require_name(pool)
    with refusals_told():
        async with get_client() as client:
            told = [await _make_pool(client, pool)]
            variables = await job_variables(client, pool)
            told += [await _register(client, it, pool, variables) for it in wanted]
            return told + await register_automations(client)


@contextmanager
def refusals_told() -> Iterator[None]:
    """What the server refuses inside is told in our words.

    Raises:
        ConfigurationError: it refuses something, or is gone.
    """
    try:
        yield
    except (PrefectHTTPStatusError, HTTPError, DeploymentApplyError) as error:
        raise _refusal(error) from error


def _require_name(pool: str) -> None:
    if not pool.strip() or set(pool) & _NOT_IN_NAMES:
        raise ConfigurationError(f"{pool!r} cannot be a work pool's name: it is empty, or has one of / % & < > in it")


def _refusal(error: Exception) -> ConfigurationError:
    """What the server has answered, in our words."""
    if isinstance(error, HTTPStatusError) and error.response.status_code in _WANTS_KEY:
        return ConfigurationError(
            "Prefect's server wants another key than it was given: set PREFECT_API_AUTH_STRING (or PREFECT_API_KEY)"
        )
    return ConfigurationError(f"Prefect's server refuses a deployment: {first_line(error)}")


async def register_automations(client: PrefectClient) -> list[Registered]:
    """Register the automations for the deployments that are there."""
    nightly = await client.read_deployment_by_name(NIGHTLY)
    on_demand = await client.read_deployment_by_name("on-demand/on-demand")
    done = await install(client, automations(nightly.id, on_demand.id))
    return [Registered(what, "automation", name) for what, name in done]


async def missing(wanted: Iterable[Deployed], pool: str = POOL) -> list[Registered]:
    """What `deploy` would make, or finds and would set again; nothing is written.

    Raises:
        ConfigurationError: the server refuses something.
    """
    _require_name(pool)
    with refusals_told():
        return await _missing(wanted, pool)


async def _missing(wanted: Iterable[Deployed], pool: str) -> list[Registered]:
    async with get_client() as client:
        found = await _pool_type(client, pool)
        told = [Registered("made" if found is None else "found", "work pool", pool, found or _PROCESS)]
        variables = _job_variables(found or _PROCESS)
        told += [await _would_register(client, it, pool, variables) for it in wanted]
        nightly, on_demand = await _id_of(client, NIGHTLY), await _id_of(client, "on-demand/on-demand")
        done = await would_do(client, automations(nightly, on_demand))
        return told + [Registered(what, "automation", name) for what, name in done]


async def _id_of(client: PrefectClient, name: str) -> UUID:
    try:
        return (await client.read_deployment_by_name(name)).id
    except ObjectNotFound:
        return _NOBODY


async def _would_register(client: PrefectClient, it: Deployed, pool: str, variables: Mapping[str, Any]) -> Registered:
    there = await standing(client, it)
    kept = it.as_it_stands(there)
    done: Done = "made"
    if there is not None:
        wanted = (await kept.of_pool(pool, variables)).model_dump(mode="json", include=_SAID)
        same = wanted == there.model_dump(mode="json", include=_SAID) and _has_schedule_of(there, kept)
        done = "found" if same else "changed"
    return Registered(done, "deployment", it.full_name, when(kept, it))


def _has_schedule_of(there: DeploymentResponse, it: Deployed) -> bool:
    if it.schedule is None:
        return True
    schedule = it.schedule_on(there)
    return schedule is not None and _is_as_wanted(schedule, it)


async def job_variables(client: PrefectClient, pool: str) -> Mapping[str, Any]:
    """What a worker is told of each flow run. A process begins where its worker was started: there the settings lie."""
    return _job_variables(await _pool_type(client, pool))


def _job_variables(pool_type: str | None) -> Mapping[str, Any]:
    variables: dict[str, Any] = {"env": dict(ENVIRONMENT)}
    if pool_type == _PROCESS:
        variables["working_dir"] = "."
    return variables


async def _make_pool(client: PrefectClient, pool: str) -> Registered:
    found = await _pool_type(client, pool)
    if found is not None:
        return Registered("found", "work pool", pool, found)
    template = ProcessWorker.get_default_base_job_template()
    await client.create_work_pool(WorkPoolCreate(name=pool, type=_PROCESS, base_job_template=template))
    return Registered("made", "work pool", pool, _PROCESS)


async def _pool_type(client: PrefectClient, pool: str) -> str | None:
    try:
        return (await client.read_work_pool(pool)).type
    except ObjectNotFound:
        return None


async def _register(client: PrefectClient, it: Deployed, pool: str, variables: Mapping[str, Any]) -> Registered:
    before = await standing(client, it)
    kept = it.as_it_stands(before)
    await (await kept.of_pool(pool, variables)).aapply()
    await set_schedule(client, kept, before)
    after = await standing(client, it)
    done: Done = "made" if before is None else "found" if _compared(before) == _compared(after) else "changed"
    return Registered(done, "deployment", it.full_name, when(kept, it))


async def set_schedule(client: PrefectClient, it: Deployed, before: DeploymentResponse | None) -> None:
    """Give our schedule to a deployment that was there before; those of a person stay.

    One that is as wanted is not written: since when it is so tells which nights were missed.
    """
    if before is None or it.schedule is None:
        return
    line = CronSchedule(cron=it.schedule.cron or "", timezone=it.schedule.timezone) if it.schedule.cron else None
    there = it.schedule_on(before)
    if there is None and line is not None:
        made = DeploymentScheduleCreate(schedule=line, active=it.schedule.active, slug=it.schedule.slug)
        await client.create_deployment_schedules(before.id, [made])
    elif there is not None and not _is_as_wanted(there, it):
        await client.update_deployment_schedule(before.id, there.id, schedule=line, slug=it.schedule.slug)


def _is_as_wanted(there: DeploymentSchedule, it: Deployed) -> bool:
    wanted = it.schedule
    if wanted is None or there.slug != wanted.slug:
        return False
    if wanted.cron is None:
        return True
    now = there.schedule
    return isinstance(now, CronSchedule) and (now.cron, now.timezone) == (wanted.cron, wanted.timezone)


async def standing(client: PrefectClient, it: Deployed) -> DeploymentResponse | None:
    """The deployment as the server has it; None where it has none."""
    try:
        return await client.read_deployment_by_name(it.full_name)
    except ObjectNotFound:
        return None


def _compared(deployment: DeploymentResponse | None) -> dict[str, Any] | None:
    if deployment is None:
        return None
    schedules = [
        schedule.model_dump(mode="json", include=_SCHEDULED)
        for schedule in sorted(deployment.schedules, key=lambda it: it.id)
    ]
    return deployment.model_dump(mode="json", include=_COMPARED) | {"schedules": schedules}


def when(it: Deployed, wanted: Deployed) -> str:
    """When it begins by itself, in words, and how that is not as `wanted`; nothing where it does not."""
    if it.schedule is None or wanted.schedule is None:
        return "paused on the server" if it.paused else ""
    told = [f"{it.schedule.cron or 'by a rule of the server'}, {it.schedule.timezone}"]
    if it.paused or not it.schedule.active:
        told.append("paused on the server")
    asked = wanted.schedule
    if (it.schedule.cron, it.schedule.timezone) != (asked.cron, asked.timezone):
        told.append(f"left as it was, not {asked.cron}, {asked.timezone}: --cron and --time-zone move it")
    return ", ".join(told)


async def odd_nights_to_come(wanted: Iterable[Deployed], begin: datetime) -> list[str]:
    """What is odd about the coming nights at changes of the clocks; with what stays as the server in reach has it.

    Raises:
        ConfigurationError: the server refuses to tell.
    """
    with refusals_told():
        return await _odd_nights_to_come(wanted, begin)


async def _odd_nights_to_come(wanted: Iterable[Deployed], begin: datetime) -> list[str]:
    async with get_client() as client:
        kept = [it.as_it_stands(await standing(client, it)) for it in wanted if it.schedule is not None]
    return [
        f"{it.timezone} change on {line}"
        for it in (deployed.schedule for deployed in kept)
        if it is not None and it.cron is not None and it.timezone is not None
        for line in await odd_nights(it.cron, it.timezone, begin)
    ]
