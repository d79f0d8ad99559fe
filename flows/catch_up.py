"""Nights after a downtime: one that comes too late is refused, of several the newest runs, a missed one is started."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from httpx import HTTPError
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import get_run_context
from prefect.exceptions import ObjectNotFound
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.schedules import last_due
from pipeline.database import open_engine
from pipeline.errors import ConfigurationError, NightPassedError, first_line
from pipeline.reading import find_night_begun_since
from pipeline.settings import Settings

NIGHTLY: Final = "nightly/nightly"
_A_MOMENT: Final = timedelta(seconds=1)


async def require_in_time(settings: Settings, now: datetime | None = None) -> None:
    """Refuse a night of the schedule that comes too late, or after which another is due already.

    A night that somebody has started, a person or an automation, is never late; nor is one that ran before, and that a
    person has had tried again.

    Raises:
        NightPassedError: with the moment at which it was due.
    """
    flow_run, due, now = _flow_run(), await _due(), now or datetime.now(UTC)
    if due is None:
        return
    late_h = (now - due).total_seconds() / 3600
    if late_h > settings.catch_up_hours:
        raise NightPassedError(
            f"due at {_shown(due, settings)}, {late_h:.1f} h ago, and catch_up_hours is {settings.catch_up_hours:g}: "
            "`recstream run` starts a night all the same"
        )
    async with get_client() as client:
        later = await _runs_due(client, flow_run.deployment_id, due + _A_MOMENT, now)
    standing = [run for run in later if run.auto_scheduled and not (run.state and run.state.is_cancelled())]
    if standing:
        newest = standing[0].expected_start_time or now
        raise NightPassedError(
            f"due at {_shown(due, settings)}: the night of {_shown(newest, settings)} is due as well"
        )


async def require_unmade(settings: Settings, engine: AsyncEngine) -> None:
    """Refuse a night of the schedule where a whole one was made since it was due, as by hand while it was late.

    Raises:
        NightPassedError: with the run that was made.
    """
    due = await _due()
    made = None if due is None else await find_night_begun_since(engine, due, finished=True)
    if due is not None and made is not None:
        raise NightPassedError(f"due at {_shown(due, settings)}: run {made} has been made since for all customers")


def _flow_run() -> FlowRun:
    return get_run_context().flow_run  # type: ignore[union-attr,return-value] # of a flow, not of a task


async def _due() -> datetime | None:
    """When this flow run was due, if it is the schedule's alone: nobody has started it, nor had it tried again."""
    flow_run = _flow_run()
    if flow_run.deployment_id is None or not flow_run.auto_scheduled:
        return None
    async with get_client() as client:
        runs = (await client.read_flow_run(flow_run.id)).run_count
    return flow_run.expected_start_time if runs <= 1 else None


async def stands_since() -> datetime | None:
    """When the night's deployment was registered, paused or resumed last; None where there is none."""
    async with get_client() as client:
        try:
            return (await client.read_deployment_by_name(NIGHTLY)).updated
        except ObjectNotFound:
            return None


async def start_missed_night(
    settings: Settings, url: str, now: datetime | None = None, stood_since: datetime | None = None
) -> str | None:
    """Start the night that was due and that nobody knows of, because no server was there to schedule it; says which.

    None where no night was missed within `catch_up_hours`, or its schedule is paused. A night that was due before its
    schedule was made, changed or activated, or its deployment was registered, paused or resumed, nobody missed.
    Who has just registered it says what `stands_since` was before.

    Raises:
        DatabaseUnavailableError: nobody answers at `url`.
    """
    now = now or datetime.now(UTC)
    async with get_client() as client:
        try:
            deployment = await client.read_deployment_by_name(NIGHTLY)
        except ObjectNotFound:
            return None
        due = await _last_due(deployment, settings, now, stood_since or deployment.updated)
        if due is None or await _runs_due(client, deployment.id, due, now) or await _has_begun(url, due):
            return None
        # Once, however many ask: the key is that of the missed night.
        await client.create_flow_run_from_deployment(deployment.id, idempotency_key=f"catch-up {due.isoformat()}")
    return f"the night of {_shown(due, settings)} was missed: it is started now"


async def catch_up(settings: Settings, url: str) -> str:
    """As `start_missed_night`, for who tells of it in any case.

    Raises:
        ConfigurationError: Prefect's server refuses, or does not answer.
    """
    try:
        return await start_missed_night(settings, url) or "none"
    except HTTPError as error:
        raise ConfigurationError(
            f"Prefect's server does not say whether a night was missed ({first_line(error)}): "
            "mend PREFECT_API_URL or its key; the next housekeeping asks again"
        ) from error


async def _last_due(
    deployment: DeploymentResponse, settings: Settings, now: datetime, stood_since: datetime | None
) -> datetime | None:
    """When a night was due last, of those that were waited for."""
    within = timedelta(hours=settings.catch_up_hours)
    found: list[datetime] = []
    for it in [] if deployment.paused else deployment.schedules:
        if it.active and isinstance(it.schedule, CronSchedule):
            due = await last_due(it.schedule.cron, it.schedule.timezone or "UTC", now, within)
            # Prefect moves neither moment where a worker asks for work, or its scheduler has looked.
            found += [due] if due and it.updated and stood_since and due >= max(it.updated, stood_since) else []
    return max(found, default=None)


async def _runs_due(client: PrefectClient, deployment_id: object, begin: datetime, end: datetime) -> Sequence[FlowRun]:
    """The runs of a deployment that were to begin in this time, the newest first."""
    return await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        flow_run_filter=FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_=begin, before_=end)),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
    )


async def _has_begun(url: str, since: datetime) -> bool:
    """Whether the ledger knows of a whole night since then, as of one that was started by hand."""
    async with open_engine(url, connections=1) as engine:
        return await find_night_begun_since(engine, since) is not None


def _shown(moment: datetime, settings: Settings) -> str:
    return f"{moment.astimezone(ZoneInfo(settings.time_zone)):%Y-%m-%d %H:%M} {settings.time_zone}"
