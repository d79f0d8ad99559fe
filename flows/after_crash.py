"""Whose work a night does that is started again: the run of the flow run that crashed, for a crash begins no second."""

from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from flows.parameters import MOST_RESTARTS
from pipeline.domain import RunId, RunState
from pipeline.errors import CalledOffError, RunConflictError
from pipeline.night import Night
from pipeline.runs import Run, RunSummary, find_run, summarise

_ENDED = {RunState.CANCELLED: "was cancelled", RunState.FAILED: "has failed"}


@dataclass(frozen=True, slots=True)
class Crashed:
    """What Prefect knows of a night that crashed, perhaps again and again: its first beginning, and its run if named.

    `run_id` is what its tags say, or what it was to resume; None where it died before it had a run.
    """

    began: datetime | None = None
    run_id: RunId | None = None


async def run_of_crashed(night: Night, flow_run_id: UUID) -> tuple[Run, str | None] | None:
    """The run that the flow run worked on which crashed, whatever its age, and a remark; None where it had none.

    A night that somebody has begun since stands for it. One that has finished is returned as well: nothing is left.

    Raises:
        CalledOffError: that run was cancelled since.
        RunConflictError: it failed since for a reason of its own, or it cannot be gone on with.
    """
    crashed = await what_crashed(flow_run_id)
    run_id = await _run_id_of(night, crashed)
    run = await find_run(night.engine, run_id) if run_id is not None else None
    if run is None:
        return None
    if run.state is RunState.FINISHED:
        return run, "it had finished before it was started again"
    if run.interrupted:
        told = f"gone on with since its flow run crashed, planned at {run.created_at:%Y-%m-%d %H:%M} UTC"
        return await night.take_up(run.run_id), told
    summary = await summarise(night.engine, run.run_id)
    if _ended_since(summary, crashed.began):
        _tell_its_end(summary)
    return await night.take_up(run.run_id), None


async def what_crashed(flow_run_id: UUID) -> Crashed:
    """Follow the flow runs back to the first that crashed: each names the one before it."""
    known, before = Crashed(), flow_run_id
    async with get_client() as client:
        for _ in range(MOST_RESTARTS):
            try:
                flow_run = await client.read_flow_run(before)
            except ObjectNotFound:
                return known  # its records were deleted
            asked = flow_run.parameters.get("parameters") or {}
            named = known.run_id or _tagged(flow_run) or _uuid(asked.get("resume"))
            known = Crashed(flow_run.start_time or known.began, named)
            earlier = _uuid(asked.get("crashed"))
            if earlier is None:
                return known
            before = earlier
    return known


async def _run_id_of(night: Night, crashed: Crashed) -> RunId | None:
    newest = await find_run(night.engine, None)
    if newest is None or newest.created_at is None or crashed.began is None or newest.created_at < crashed.began:
        return crashed.run_id
    if crashed.run_id is not None and not newest.everybody:
        return crashed.run_id  # the newest is somebody's trial
    return newest.run_id


def _tagged(flow_run: FlowRun) -> RunId | None:
    return next((run_id for tag in flow_run.tags if (run_id := _uuid(tag)) is not None), None)


def _uuid(text: object) -> RunId | None:
    try:
        return RunId(UUID(str(text)))
    except ValueError:
        return None


def _ended_since(summary: RunSummary, moment: datetime | None) -> bool:
    """Whether it came to its end after the crashed flow run had begun: one that failed before was to be resumed."""
    return summary.ended_at is not None and (moment is None or summary.ended_at >= moment)


def _tell_its_end(summary: RunSummary) -> NoReturn:
    told = f"run {summary.run_id} of the night that crashed {_ENDED[summary.state]} since: {summary.reason}"
    if summary.state is RunState.CANCELLED:
        raise CalledOffError(told)
    raise RunConflictError(told)
