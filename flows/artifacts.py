"""What Prefect's page shows of a night and of its shards: how far they are, and at the end what they have come to.

The ledger is looked at and Prefect's server is told, every two seconds at most. Nothing of it ever disturbs the night:
while the server or the database is away nothing is shown, and it goes on when they are back.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.utilities.context import get_task_and_flow_run_ids
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.night_report import night_report
from flows.run_logs import run_logs
from flows.run_names import day_of, night_run_name, run_tags
from pipeline.errors import first_line
from pipeline.log_context import about_shard
from pipeline.night import Night
from pipeline.reading import read_progress
from pipeline.run_details import read_details, read_shard_progress
from pipeline.runs import Run, summarise
from pipeline.shard_ledger import read_shards

NIGHTS: Final = "recstream-nights"
"""The key under which the reports of all nights stand, the newest first: Prefect's page leafs through them."""

_EVERY_S: Final = 2.0
_LOOK_SHARE: Final = 50
_CALL_WITHIN_S: Final = 10.0
_LAST_WITHIN_S: Final = 2.0  # a night that is cancelled has to be gone within seconds
_REPORT_WITHIN_S: Final = 20.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """So many of all customers are done; `told` is for the line beside the bar."""

    done: int
    customers: int
    told: str

    @property
    def percent(self) -> float:
        """From 0 to 100: what Prefect draws."""
        return round(100 * self.done / self.customers, 1) if self.customers else 0.0


Look = Callable[[], Awaitable[Progress]]


@asynccontextmanager
async def night_shown(night: Night, run: Run) -> AsyncIterator[None]:
    """The night's flow run tells whose each line is and how far it is, and gets its report.

    Entering waits for nothing.
    """
    zone, within_s = night.settings.time_zone, _REPORT_WITHIN_S
    try:
        with run_logs(run.run_id):
            async with _progress_shown(night_key(run), lambda: _look_at_night(night.engine, run)):
                yield
    except asyncio.CancelledError:
        within_s = _LAST_WITHIN_S
        raise
    finally:
        await _quietly("the report of the night", _report(night.engine, run, zone), within_s)


async def label_night(night: Night, run: Run) -> None:
    """The night's flow run bears the night's name and tags."""
    telling = _label(run, night.settings.time_zone)
    await _quietly("the name and the tags of the night", telling, _CALL_WITHIN_S)


@asynccontextmanager
async def shard_shown(engine: AsyncEngine, run: Run, shard: int) -> AsyncIterator[None]:
    """The flow run or task run of a shard shows how far it is."""
    with about_shard(run.run_id, shard):
        async with _progress_shown(f"{night_key(run)}-shard-{shard + 1}", lambda: _look_at_shard(engine, run, shard)):
            yield


def night_key(run: Run) -> str:
    """The key of what is shown of this run alone: short, for the timeline has it beside each bar."""
    return f"night-{str(run.run_id)[:8]}"


async def _look_at_night(engine: AsyncEngine, run: Run) -> Progress:
    seen = await read_progress(engine, run.run_id)
    done = seen.complete + seen.not_complete + seen.unchanged
    told = f"{done:,} of {seen.customers:,} customers, {seen.rows:,} rows"
    return Progress(done, seen.customers, told + _besides(seen.not_complete, seen.unchanged))


async def _look_at_shard(engine: AsyncEngine, run: Run, shard: int) -> Progress:
    seen = await read_shard_progress(engine, run.run_id, run.day, shard)
    done = seen.complete + seen.not_complete + seen.unchanged
    told = f"shard {shard + 1}: {done:,} of {seen.customers:,} customers"
    return Progress(done, seen.customers, told + _besides(seen.not_complete, seen.unchanged))


def _besides(not_complete: int, unchanged: int) -> str:
    told = f", {not_complete:,} without a complete slate" if not_complete else ""
    return told + (f", {unchanged:,} skipped (unchanged)" if unchanged else "")


@asynccontextmanager
async def _progress_shown(key: str, look: Look) -> AsyncIterator[None]:
    showing = _Showing(key, look)
    going_on = asyncio.create_task(showing.go_on(), name=f"what is shown as {key}")
    try:
        yield
    finally:
        going_on.cancel()
        await asyncio.wait({going_on})
        await showing.show(_LAST_WITHIN_S)


class _Showing:
    """One progress artifact, made at the first look that comes through."""

    def __init__(self, key: str, look: Look) -> None:
        self._key, self._look = key, look
        self._artifact: UUID | None = None
        self._shown: Progress | None = None
        self._failing = False

    async def go_on(self) -> None:
        """Look and show, until cancelled."""
        while True:
            looked_s = await self.show(_CALL_WITHIN_S)
            # In a large run the counts take long: looking must stay a small part of what the database does.
            await asyncio.sleep(max(_EVERY_S, _LOOK_SHARE * looked_s))

    async def show(self, within_s: float) -> float:
        """Look once and show what is new; returns the seconds that the look took."""
        begin, looked = time.monotonic(), None
        try:
            async with asyncio.timeout(within_s):
                seen = await self._look()
                looked = time.monotonic()
                await self._tell(seen)
        except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises: what is shown disturbs no night
            if not self._failing:
                _log.warning("%s is not shown in Prefect for now: %s", self._key, first_line(error))
            self._failing = True
        else:
            if self._failing:
                _log.info("%s is shown in Prefect again", self._key)
            self._failing = False
        return (looked or time.monotonic()) - begin

    async def _tell(self, seen: Progress) -> None:
        if seen == self._shown:
            return
        async with get_client() as client:
            if self._artifact is None:
                made = _artifact(self._key, "progress", seen.told, seen.percent)
                self._artifact = (await client.create_artifact(made)).id
            else:
                change = ArtifactUpdate(description=seen.told, data=seen.percent)
                await client.update_artifact(self._artifact, change)
        self._shown = seen


async def _label(run: Run, zone: str) -> None:
    """A run that is taken up again is called by its own day."""
    _, flow_run_id = get_task_and_flow_run_ids()
    if flow_run_id is None:
        return
    async with get_client() as client:
        flow_run = await client.read_flow_run(flow_run_id)
        tags = [*flow_run.tags, *(tag for tag in run_tags(run, zone) if tag not in flow_run.tags)]
        await client.update_flow_run(flow_run_id, name=night_run_name(run, zone), tags=tags)


async def _report(engine: AsyncEngine, run: Run, zone: str) -> None:
    """Twice: by the run, and by the key under which the reports of all nights stand."""
    summary, details = await summarise(engine, run.run_id), await read_details(engine, run.run_id, run.day)
    page = night_report(summary, details, await read_shards(engine, run.run_id), day_of(run, zone))
    async with get_client() as client:
        for key in (f"{night_key(run)}-report", NIGHTS):
            await client.create_artifact(
                _artifact(key, "markdown", f"{night_run_name(run, zone)}: {summary.state}", page)
            )


def _artifact(key: str, type_: str, description: str, data: str | float) -> ArtifactCreate:
    """One of the flow run or task run that goes on here."""
    task_run_id, flow_run_id = get_task_and_flow_run_ids()
    return ArtifactCreate(
        key=key, type=type_, description=description, data=data, task_run_id=task_run_id, flow_run_id=flow_run_id
    )


async def _quietly(what: str, telling: Awaitable[None], within_s: float) -> None:
    """Tell it, if that can be done in time; else a line in the log says that it is not seen."""
    try:
        async with asyncio.timeout(within_s):
            await telling
    except Exception as error:  # noqa: BLE001 - as above
        _log.warning("Prefect does not show %s: %s", what, first_line(error))
