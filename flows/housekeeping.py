"""What keeps the databases in order, every hour: recstream's own, and Prefect's records of recstream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.catch_up import catch_up
from flows.endings import Ending, ended_in_order
from flows.prefect_retention import drop_old_flow_runs
from pipeline.errors import RecstreamError, first_line
from pipeline.housekeeping import StepReport, done, keep_house
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current
from pipeline.settings import Settings, load_settings


@flow(name="housekeeping", flow_run_name="housekeeping", persist_result=False)
async def housekeeping() -> State[Any]:
    """Do every step, whatever becomes of the others; failed if one of them is."""
    return await ended_in_order(_keep_house)


async def _keep_house(_ending: Ending) -> State[Any]:
    settings, logger = load_settings(), get_run_logger()
    reports: list[StepReport] = []
    async with aclosing(_steps(settings)) as steps:
        async for report in steps:
            reports.append(report)
            (logger.error if report.failed else logger.info)("%s: %s", report.step, report.told)
    return verdict(reports)


async def _steps(settings: Settings) -> AsyncGenerator[StepReport]:
    try:
        with provided_database(settings) as url:
            await asyncio.to_thread(require_current, url)
            async with aclosing(keep_house(url, keep_days=settings.keep_days)) as steps:
                async for report in steps:
                    yield report
            yield await done("missed nights", partial(catch_up, settings, url))
    except RecstreamError as error:
        yield StepReport("the shop's database", first_line(error), failed=True)
    yield await done("Prefect's records", partial(drop_old_flow_runs, settings.prefect_keep_days))


def verdict(reports: list[StepReport]) -> State[Any]:
    """Prefect's state for what was done: failed with what failed."""
    failed = [f"{report.step}: {report.told}" for report in reports if report.failed]
    if failed:
        return Failed(message=f"{len(failed)} of {len(reports)} steps failed: {'; '.join(failed)}")
    return Completed(message="; ".join(f"{report.step}: {report.told}" for report in reports))
