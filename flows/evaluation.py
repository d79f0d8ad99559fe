"""The evaluation as a flow: measured as of a moment in the past, its figures in the message and in the log."""

import asyncio
from functools import partial
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.endings import Ending, ended_in_order
from flows.evaluating import evaluated
from flows.parameters import EvaluationParameters
from pipeline.evaluating.findings import findings
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current
from pipeline.settings import load_settings


@flow(name="evaluation", flow_run_name="evaluation", persist_result=False)
async def evaluation(parameters: EvaluationParameters | None = None) -> State[Any]:
    """Measure the shop's candidates, or runs, and say what came out."""
    return await ended_in_order(partial(_evaluate, parameters or EvaluationParameters()))


async def _evaluate(wanted: EvaluationParameters, _ending: Ending) -> State[Any]:
    settings, logger = load_settings(), get_run_logger()
    with provided_database(settings) as url:
        require_current(url)
        # It builds, which is a long statement of Postgres: not in the loop that Prefect's heartbeat lives in.
        done = await asyncio.to_thread(evaluated, settings, url, wanted, logger.info)
    told = findings(done)
    for line in told:
        logger.info(line)
    return Completed(message="; ".join(told), data=done)
