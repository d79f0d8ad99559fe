"""Building candidates as a flow of its own: between two nights, or from what was known at another moment."""

import asyncio
from functools import partial
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.endings import Ending, ended_in_order
from flows.parameters import CandidatesParameters
from pipeline.candidates.building import build_candidates
from pipeline.candidates.recipe import load_recipe
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current
from pipeline.settings import load_settings


@flow(name="candidates", flow_run_name="candidates", persist_result=False)
async def candidates(parameters: CandidatesParameters | None = None) -> State[Any]:
    """Build candidates and put them into service; if it fails, those of before stay there."""
    return await ended_in_order(partial(_build, parameters or CandidatesParameters()))


async def _build(wanted: CandidatesParameters, _ending: Ending) -> State[Any]:
    settings = load_settings()
    with provided_database(settings) as url:
        require_current(url)
        build = partial(
            build_candidates,
            url,
            load_recipe(settings.candidate_recipe),
            as_of=wanted.as_of,
            method=wanted.method or settings.candidate_method,
            tell=get_run_logger().info,
        )
        built = await asyncio.to_thread(build)  # long statements: the heartbeat goes on meanwhile
    told = f"build {built.build_id} is in service: {built.customers:,} customers, {built.pairs:,} pairs"
    return Completed(message=told)
