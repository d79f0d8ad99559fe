"""The deployments, as code: what `recstream deploy` gives to a work pool, and `recstream serve` runs itself."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from prefect import Flow
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule
from prefect.deployments.runner import (  # type: ignore[attr-defined] # the home of two of them is private
    EntrypointType,
    RunnerDeployment,
    VersionType,
)
from prefect.schedules import Schedule

from flows.candidates import candidates
from flows.evaluation import evaluation
from flows.housekeeping import housekeeping
from flows.nightly import nightly
from flows.on_demand import on_demand
from flows.run_names import TAG
from flows.schedules import schedule_of
from flows.shard import shard
from pipeline.settings import Settings
from pipeline.version import code_version

HOUSEKEEPING_CRON: Final = "17 * * * *"
HEARTBEAT_S: Final = 30
ENVIRONMENT: Final[Mapping[str, str]] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
}
"""What every flow's process has in its environment, whatever its worker has."""

Part = Literal["cron", "timezone"]
"""Of when a night begins."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """One flow, and when it begins by itself, if it does. A deployment is called as its flow is."""

    flow: Flow[..., Any]
    description: str
    schedule: Schedule | None = None
    in_pool_alone: bool = False
    paused: bool = False
    is_there: bool = False
    unsaid: Collection[Part] = ()
    """Of the schedule, what nobody has asked for now: where the server has one already, it stays."""

    @property
    def full_name(self) -> str:
        """What Prefect calls it: `flow/deployment`."""
        return f"{self.flow.name}/{self.flow.name}"

    def as_it_stands(self, standing: DeploymentResponse | None) -> "Deployed":
        """The same, but what a person has paused on the server stays so, and so does what is `unsaid`."""
        if standing is None:
            return self
        kept = replace(self, is_there=True, paused=standing.paused and not _is_of_before(standing))
        there = self.schedule_on(standing)
        if self.schedule is None or there is None:
            return kept
        return replace(kept, schedule=self._left(replace(self.schedule, active=there.active), there.schedule))

    def schedule_on(self, standing: DeploymentResponse) -> DeploymentSchedule | None:
        """Our schedule as the server has it: the one with our slug. Versions before had one without."""
        ours = self.schedule.slug if self.schedule is not None else None
        found = [it for it in standing.schedules if ours is not None and it.slug == ours]
        if not found and ours is not None and _is_of_before(standing):
            found = [it for it in standing.schedules if it.slug is None]
        return found[0] if found else None

    def _left(self, wanted: Schedule, there: SCHEDULE_TYPES) -> Schedule:
        if "cron" in self.unsaid:  # None for a rule that is no cron line: a person's
            wanted = replace(wanted, cron=there.cron if isinstance(there, CronSchedule) else None)
        if "timezone" in self.unsaid and isinstance(there, CronSchedule):
            wanted = replace(wanted, timezone=there.timezone or "UTC")
        return wanted

    async def of_pool(self, pool: str, variables: Mapping[str, Any]) -> RunnerDeployment:
        """For the workers of a pool, who have recstream installed."""
        return await self._made(work_pool_name=pool, job_variables=dict(variables))

    async def of_runner(self) -> RunnerDeployment:
        """For a runner, which has no pool."""
        return await self._made()

    async def _made(self, **where: Any) -> RunnerDeployment:
        made = await self.flow.ato_deployment(
            self.flow.name,
            schedule=None if self.is_there else self.schedule,
            description=self.description,
            tags=[TAG],
            paused=self.paused,
            concurrency_limit=None,  # the ledger's lock refuses a second night: docs/decisions/0034
            entrypoint_type=EntrypointType.MODULE_PATH,
            version=code_version(),
            version_type=VersionType.SIMPLE,  # else git is asked, wherever one happens to stand
            **where,
        )
        if self.is_there:  # `flows.deploying.set_schedule` has it: an update that names schedules may drop a person's
            made.model_fields_set.discard("schedules")
        return made


def deployments_as_asked(settings: Settings, cron: str | None, time_zone: str | None) -> tuple[Deployed, ...]:
    """All of them; of both flags, what is not given is the settings' for a first schedule, and stays as it is later.

    Raises:
        ConfigurationError: the cron line is none.
    """
    given: dict[Part, str | None] = {"cron": cron, "timezone": time_zone}
    night = schedule_of(settings.night_cron if cron is None else cron, time_zone or settings.time_zone)
    return deployments(night, [part for part, flag in given.items() if flag is None])


def _is_of_before(standing: DeploymentResponse) -> bool:
    """Whether a version before this one has made it: that limited it to one run, and paused it in the end."""
    return standing.global_concurrency_limit is not None


def deployments(night: Schedule, unsaid: Collection[Part] = ()) -> tuple[Deployed, ...]:
    """All of them; `night` is when the nights begin, but for what is `unsaid` of it where the server has a schedule."""
    hourly = schedule_of(HOUSEKEEPING_CRON, "UTC", slug="hourly")
    return (
        Deployed(
            nightly,
            "Every active customer gets a ranked slate, and the complete ones are published.",
            night,
            unsaid=unsaid,
        ),
        Deployed(shard, "A part of a night's customers: started by its parent alone.", in_pool_alone=True),
        Deployed(on_demand, "One customer, or a list of them, gets a ranked slate now, before the night's."),
        Deployed(candidates, "What candidates are looked up in is built anew, as every night does first."),
        Deployed(evaluation, "Candidates, or slates, are measured as of a moment in the past."),
        Deployed(housekeeping, "What is old is pruned, partitions are made ahead, a missed night is started.", hourly),
    )
