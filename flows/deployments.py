"""All flows served together by one process, the nightly one on its schedule."""

from prefect import aserve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.schedules import Cron, Schedule

from flows.candidates import candidates
from flows.evaluation import evaluation
from flows.nightly import nightly
from flows.on_demand import on_demand
from pipeline.errors import ConfigurationError

# `Flow.serve` takes no concurrency limit: `ato_deployment` does.
_ONE_NIGHT_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


def schedule_of(cron: str, time_zone: str) -> Schedule:
    """When the night begins.

    Raises:
        ConfigurationError: `cron` is not a cron line.
    """
    try:
        return Cron(cron, timezone=time_zone)
    except ValueError as error:
        raise ConfigurationError(f"{cron!r} is not a cron line like '0 3 * * *': {error}") from error


async def serve_flows(schedule: Schedule) -> None:
    """Register the deployments with the server in reach and run what it schedules, until cancelled."""
    await aserve(
        await nightly.ato_deployment("nightly", schedule=schedule, concurrency_limit=_ONE_NIGHT_AT_A_TIME),
        await on_demand.ato_deployment("on-demand"),
        await candidates.ato_deployment("candidates"),
        await evaluation.ato_deployment("evaluation"),
    )
