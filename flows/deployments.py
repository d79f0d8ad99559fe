"""Both flows served together by one process, the nightly one on its schedule."""

from prefect import aserve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.schedules import Cron

from flows.nightly import nightly
from flows.on_demand import on_demand
from pipeline.errors import ConfigurationError

# `Flow.serve` takes no concurrency limit: `ato_deployment` does.
_ONE_NIGHT_AT_A_TIME = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


async def serve_flows(cron: str, time_zone: str) -> None:
    """Register both deployments with the server in reach and run what it schedules, until interrupted.

    Raises:
        ConfigurationError: `cron` is not a cron line.
    """
    try:
        schedule = Cron(cron, timezone=time_zone)
    except ValueError as error:
        raise ConfigurationError(f"{cron!r} is not a cron line like '0 3 * * *': {error}") from error
    await aserve(
        await nightly.ato_deployment("nightly", schedule=schedule, concurrency_limit=_ONE_NIGHT_AT_A_TIME),
        await on_demand.ato_deployment("on-demand"),
    )
