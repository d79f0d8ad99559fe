"""Removes what a Prefect server keeps of recstream's runs for longer than wanted: flow runs, their logs and artifacts.

By its API, page by page, and no more at a time than an hour bears; what other projects have on the server stays.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from flows.run_names import TAG
from pipeline.errors import ConfigurationError, first_line

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_PAGE: Final = 100
_MOST: Final = 1_000  # flow runs at a time: the next hour comes
_ARTIFACTS_OF_PAGE: Final = 200


async def drop_old_flow_runs(keep_days: int, *, as_of: datetime | None = None) -> str:
    """Delete recstream's flow runs that ended more than `keep_days` days before `as_of`, which is now by default.

    Returns how many they were, in words.

    Raises:
        ConfigurationError: the server refuses, or does not answer.
    """
    from httpx import HTTPError  # noqa: PLC0415 - Prefect's own client, which the command line can start without
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - imports Prefect, which takes seconds

    before = (as_of or datetime.now(UTC)) - timedelta(days=keep_days)
    runs = artifacts = 0
    try:
        async with get_client() as client:
            while runs < _MOST and (page := await _ended_before(client, before)):
                artifacts += await _delete_artifacts(client, page)
                await _delete_flow_runs(client, page)
                runs += len(page)
    except HTTPError as error:
        raise ConfigurationError(
            f"Prefect's server does not let its old flow runs be deleted ({first_line(error)}): "
            "mend PREFECT_API_URL or its key; the next housekeeping goes on"
        ) from error
    return f"{runs:,} flow runs and {artifacts:,} artifacts dropped that were older than {keep_days} days"


async def _ended_before(client: "PrefectClient", moment: datetime) -> list[UUID]:
    """A page of flow runs; what was deleted leaves its place to the next."""
    from prefect.client.schemas.filters import (  # noqa: PLC0415 - as above
        FlowRunFilter,
        FlowRunFilterEndTime,
        FlowRunFilterTags,
    )

    # By the tag, which is recstream's alone: another project may have a flow that is called `nightly` as well.
    ended = FlowRunFilter(
        end_time=FlowRunFilterEndTime.model_validate({"before_": moment}), tags=FlowRunFilterTags(all_=[TAG])
    )
    return [run.id for run in await client.read_flow_runs(flow_run_filter=ended, limit=_PAGE)]


async def _delete_artifacts(client: "PrefectClient", flow_run_ids: list[UUID]) -> int:
    """The server deletes a flow run's logs with it, and leaves its artifacts."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId  # noqa: PLC0415 - as above
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415 - as above

    theirs = FlowRunFilter(id=FlowRunFilterId(any_=flow_run_ids))
    deleted = 0
    while page := await client.read_artifacts(flow_run_filter=theirs, limit=_ARTIFACTS_OF_PAGE):
        for artifact in page:
            try:
                await client.delete_artifact(artifact.id)
            except ObjectNotFound:
                continue  # somebody else has deleted it meanwhile
        deleted += len(page)
    return deleted


async def _delete_flow_runs(client: "PrefectClient", flow_run_ids: list[UUID]) -> None:
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415 - as above

    for flow_run_id in flow_run_ids:
        try:
            await client.delete_flow_run(flow_run_id)
        except ObjectNotFound:
            continue  # somebody else has deleted it meanwhile
