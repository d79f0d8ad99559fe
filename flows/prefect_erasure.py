"""Removes a customer from a Prefect server: his flow runs, those that wait in the queue too, with their logs.

A flow run for many customers that names him in its messages or logs goes whole, once it has ended, and so does the
report of a night that has him among its slowest: the ledger of runs is the truth, Prefect's records are a view of it.
One that is going on is counted and told. Prefect has no way to delete an
event before its time (7 days, unless the server is set otherwise), so events are counted and told.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from flows.night_report import code
from flows.run_names import OUR_FLOWS, TAG
from pipeline.domain import CustomerId
from pipeline.errors import ConfigurationError, first_line
from pipeline.mentions import Mentions

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.filters import LogFilter
    from prefect.client.schemas.objects import Artifact, FlowRun, Log

_PAGE: Final = 200  # the most that a server hands out
_OUR_REPORT: Final = re.compile(r"night-[0-9a-f]{8}-report|recstream-nights")
_EVENTS_OF_MANY: Final = ("nightly*", "on-demand * customers")
_LOGS_GONE_WITHIN_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class PrefectErased:
    """What a server had of the customer: flow runs and reports (removed, or only counted), and events, which stay.

    `looked_at` is the number of flow runs of recstream's that were gone through, `going_on` that of those among them
    for many customers that name him and have not ended: they stay. `reports` are artifacts: pages on whole nights.
    """

    looked_at: int
    flow_runs: int
    events: int
    going_on: int = 0
    reports: int = 0


async def erase_from_prefect(customer_id: CustomerId, *, dry_run: bool = False) -> PrefectErased:
    """Remove the customer from the server that Prefect's client talks to now, and wait until his logs are gone.

    Raises:
        ConfigurationError: the server refuses, or does not delete the logs.
    """
    from httpx import HTTPError  # noqa: PLC0415 - Prefect's own client, which the command line can start without
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - imports Prefect, which takes seconds

    try:
        async with get_client() as client:
            search = _Search(client, Mentions(customer_id))
            runs = [run async for run in _pages(search.flow_runs) if search.is_ours(run)]
            his = [run for run in runs if search.is_his(run)]
            of_many = [run for run in runs if run not in his and _is_of_many(run)]
            named = await search.named_in_logs(of_many)
            named |= {run.id for run in of_many if search.is_listed_in(run)}
            his += [run for run in of_many if run.id in named and _has_ended(run)]
            going_on = sum(not _has_ended(run) for run in of_many if run.id in named or search.is_named_by(run))
            reports = [artifact.id async for artifact in _pages(search.reports) if search.is_in_report(artifact)]
            if not dry_run:
                await _delete(client, his)
                await _delete_artifacts(client, reports)
            return PrefectErased(len(runs), len(his), await search.count_events(), going_on, len(reports))
    except HTTPError as error:
        raise ConfigurationError(
            f"Prefect's server refuses to be searched for the customer ({first_line(error)}): "
            "what it has of him is still there; mend PREFECT_API_URL or its key, and erase again"
        ) from error


@dataclass(frozen=True, slots=True)
class _Search:
    """Where a server may have something of the customer."""

    client: "PrefectClient"
    mentions: Mentions

    def is_ours(self, run: "FlowRun") -> bool:
        """False of another project's flow run, whose flow is called as one of ours is.

        One for him by its parameters is ours without the tag too: those of earlier versions bear none.
        """
        is_for_him = _asked(run).get("customer_id") == self.mentions.customer_id or self.is_listed_in(run)
        return TAG in run.tags or is_for_him

    def is_his(self, run: "FlowRun") -> bool:
        """True of a flow run for him, and of an ended one for nobody whose name or message names him."""
        if _is_of_many(run):
            return _has_ended(run) and self.is_named_by(run)
        return bool(_asked(run)["customer_id"] == self.mentions.customer_id)

    def is_listed_in(self, run: "FlowRun") -> bool:
        """True of a flow run for a list of customers that he is in."""
        return self.mentions.customer_id in (_asked(run).get("customer_ids") or ())

    def is_in_report(self, report: "Artifact") -> bool:
        """True of a page of ours that names him, be it in a table or in somebody's words."""
        if _OUR_REPORT.fullmatch(report.key or "") is None:
            return False
        page = str(report.data)
        return f"| {code(self.mentions.customer_id)} |" in page or self.mentions.is_in(page.replace("\\", ""))

    async def reports(self, offset: int) -> "list[Artifact]":
        from prefect.client.schemas.filters import (  # noqa: PLC0415 - as above
            ArtifactFilter,
            ArtifactFilterKey,
            ArtifactFilterType,
        )

        wanted = ArtifactFilter(key=ArtifactFilterKey(like_="night"), type=ArtifactFilterType(any_=["markdown"]))
        return await self.client.read_artifacts(artifact_filter=wanted, limit=_PAGE, offset=offset)

    def is_named_by(self, run: "FlowRun") -> bool:
        """True if the name or the message of the flow run names him."""
        message = run.state.message if run.state is not None else None
        return self.mentions.is_in(f"{run.name}\n{message}")

    async def flow_runs(self, offset: int) -> "list[FlowRun]":
        from prefect.client.schemas.filters import FlowFilter, FlowFilterName  # noqa: PLC0415 - as above

        ours = FlowFilter(name=FlowFilterName(any_=list(OUR_FLOWS)))
        return await self.client.read_flow_runs(flow_filter=ours, limit=_PAGE, offset=offset)

    async def named_in_logs(self, runs: "Sequence[FlowRun]") -> set[UUID]:
        """Those of these flow runs whose logs name him."""
        named: set[UUID] = set()
        for start in range(0, len(runs), _PAGE):
            ids = [run.id for run in runs[start : start + _PAGE]]
            async for log in _pages(partial(self._logs, ids)):
                if self.mentions.is_in(log.message):
                    named.add(log.flow_run_id)
        return named

    async def _logs(self, run_ids: Sequence[UUID], offset: int) -> "list[Log]":
        return await self.client.read_logs(_logs_of(run_ids), limit=_PAGE, offset=offset)

    async def count_events(self) -> int:
        """How many events name him."""
        names = [f"on-demand {self.mentions.customer_id}", *_EVENTS_OF_MANY]
        wanted = {"resource": {"labels": {"prefect.resource.name": names}}}
        answer = await self.client.request("POST", "/events/filter", json={"filter": wanted, "limit": 50})
        page: dict[str, Any] = answer.json()
        events = self._naming(page)
        while page.get("next_page"):
            where = dict(parse_qsl(urlsplit(page["next_page"]).query))
            page = (await self.client.request("GET", "/events/filter/next", params=where)).json()
            events += self._naming(page)
        return events

    def _naming(self, page: dict[str, Any]) -> int:
        return sum(self.mentions.is_in(str(event)) for event in page["events"])


async def _delete(client: "PrefectClient", runs: "Sequence[FlowRun]") -> None:
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415 - as above

    for run in runs:
        try:
            await client.delete_flow_run(run.id)
        except ObjectNotFound:
            continue  # somebody else has deleted it meanwhile
    await _wait_for_logs_to_go(client, [run.id for run in runs])


async def _wait_for_logs_to_go(client: "PrefectClient", run_ids: Sequence[UUID]) -> None:
    """The server deletes the logs of a flow run by and by; a temporary one must not be ended before."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _LOGS_GONE_WITHIN_S
    for start in range(0, len(run_ids), _PAGE):
        while await client.read_logs(_logs_of(run_ids[start : start + _PAGE]), limit=1):
            if loop.time() > until:
                raise ConfigurationError(
                    f"Prefect's server still has logs of the customer's flow runs after {_LOGS_GONE_WITHIN_S:.0f} s: "
                    "see its own log, and erase again"
                )
            await asyncio.sleep(_LOOK_AGAIN_S)


def _logs_of(run_ids: Sequence[UUID]) -> "LogFilter":
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId  # noqa: PLC0415 - as above

    return LogFilter(flow_run_id=LogFilterFlowRunId(any_=list(run_ids)))


async def _pages(read: Callable[[int], Awaitable[list[Any]]]) -> AsyncIterator[Any]:
    offset = 0
    while page := await read(offset):
        for found in page:
            yield found
        offset += len(page)


def _asked(run: "FlowRun") -> dict[str, Any]:
    asked = run.parameters.get("parameters", run.parameters)
    return asked if isinstance(asked, dict) else {}


def _is_of_many(run: "FlowRun") -> bool:
    """True of all but those for one customer."""
    return _asked(run).get("customer_id") is None


async def _delete_artifacts(client: "PrefectClient", artifact_ids: Sequence[UUID]) -> None:
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415 - as above

    for artifact_id in artifact_ids:
        try:
            await client.delete_artifact(artifact_id)
        except ObjectNotFound:
            continue  # somebody else has deleted it meanwhile


def _has_ended(run: "FlowRun") -> bool:
    return run.state is not None and run.state.is_final()
