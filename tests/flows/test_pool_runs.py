"""What the parent asks of a real Prefect server about its shards: each is sent once, however often it is said."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.placement import shard_runs
from flows.placement.dispatching import ShardRun, Stage
from flows.placement.shard_runs import open_shard_runs
from pipeline.domain import RunId, ShardLease
from pipeline.errors import ConfigurationError
from pipeline.runs import LEFT
from tests.fixtures.prefect_pool import POOL, deploy_nights, deploy_shards
from tests.fixtures.prefect_runs import LEAVES_SOCKETS

pytestmark = [pytest.mark.usefixtures("prefect_in_reach", "_at_once"), LEAVES_SOCKETS]
LOG = logging.getLogger("tests.pool")


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was away is asked again without a pause."""
    monkeypatch.setattr(shard_runs, "_PAUSE_S", 0.0)


@pytest.fixture
def lease() -> ShardLease:
    return ShardLease(RunId(uuid4()), 0, 1)


async def test_an_attempt_that_is_sent_twice_is_one_run_and_can_be_called_off(lease: ShardLease) -> None:
    await deploy_shards({})
    async with open_shard_runs("shard/shard", LOG) as runs:
        first = await runs.send(lease, LEFT, "a shard", ["a tag"])
        second = await runs.send(lease, LEFT, "a shard", ["a tag"])
        later = await runs.send(ShardLease(lease.run_id, 0, 2), LEFT, "a shard", [])
        assert first is not None
        assert second is not None
        assert later is not None
        assert first.flow_run_id == second.flow_run_id != later.flow_run_id
        waiting = await runs.look(first)
        assert waiting is not None
        assert (waiting.stage, waiting.since) == (Stage.QUEUED, first.since)

        await runs.call_off([lease, ShardLease(lease.run_id, 0, 2), ShardLease(lease.run_id, 0, 3)], "the run is over")
        gone = await runs.look(first)
    assert gone is not None
    assert (gone.stage, gone.told) == (Stage.CALLED_OFF, "Cancelled, the run is over")


async def test_a_server_that_is_away_is_asked_later_and_told_of_once(
    lease: ShardLease, prefect_api_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await deploy_shards({})
    caplog.set_level(logging.INFO, "tests.pool")
    async with way_to(prefect_api_url) as way:
        with temporary_settings({PREFECT_API_URL: way.api_url}):
            async with open_shard_runs("shard/shard", LOG) as runs:
                sent = await runs.send(lease, LEFT, "a shard", [])
                assert sent is not None
                await way.close()
                assert await runs.look(sent) is None
                assert await runs.send(ShardLease(lease.run_id, 0, 2), LEFT, "a shard", []) is None
                assert await runs.count() is None
                await way.open()
                assert await runs.look(sent) is not None
                again = await runs.send(lease, LEFT, "a shard", [])
    assert again is not None
    assert again.flow_run_id == sent.flow_run_id
    assert [record.levelname for record in caplog.records if record.name == "tests.pool"] == ["WARNING", "INFO"]


async def test_a_run_that_prefect_knows_nothing_of_is_gone(prefect_api_url: str) -> None:
    async with open_shard_runs("shard/shard", LOG) as runs:
        looked = await runs.look(ShardRun(uuid4(), Stage.QUEUED, 0.0))
    assert looked is not None
    assert looked.stage is Stage.GONE


async def test_a_deployment_that_is_not_there_is_said_with_what_to_do(lease: ShardLease) -> None:
    async with open_shard_runs("shard/none", LOG) as runs:
        with pytest.raises(ConfigurationError, match=r"no deployment shard/none at http.*`recstream deploy`"):
            await runs.send(lease, LEFT, "a shard", [])


async def test_what_prefect_refuses_is_no_server_that_is_away(lease: ShardLease) -> None:
    await deploy_nights({})
    async with open_shard_runs("nightly/nightly", LOG) as runs:
        with pytest.raises(ConfigurationError, match=r"refuses .* nightly/nightly \(.*409.*`shard_deployment`"):
            await runs.send(lease, LEFT, "a shard", [])


@pytest.mark.parametrize(("paused", "does"), [(True, "prefect work-pool resume"), (False, "prefect worker start")])
async def test_where_no_worker_comes_it_is_said_what_to_do(
    paused: bool, does: str, caplog: pytest.LogCaptureFixture
) -> None:
    await deploy_shards({})
    async with get_client() as client:
        await client.update_work_pool(POOL, WorkPoolUpdate(is_paused=paused))
        try:
            async with open_shard_runs("shard/shard", LOG) as runs:
                await runs.count()
                await runs.tell_of_waiting(ShardRun(uuid4(), Stage.QUEUED, 0.0), 0)
        finally:
            await client.update_work_pool(POOL, WorkPoolUpdate(is_paused=False))
    (told,) = [record.getMessage() for record in caplog.records if record.name == "tests.pool"]
    assert does in told
    assert told.endswith(POOL + "`")


@dataclass(slots=True)
class Way:
    """An address that leads to the server while it is open."""

    host: str
    port: int
    api_url: str = ""
    own_port: int = 0
    server: asyncio.Server | None = None
    under_way: tuple[asyncio.StreamWriter, ...] = ()

    async def open(self) -> None:
        self.server = await asyncio.start_server(self._lead, "127.0.0.1", self.own_port)
        self.own_port = self.server.sockets[0].getsockname()[1]
        self.api_url = f"http://127.0.0.1:{self.own_port}/api"

    async def close(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.under_way:
            writer.close()
        await self.server.wait_closed()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(self.host, self.port)
        self.under_way += (writer, ours)
        await asyncio.gather(_copy(reader, ours), _copy(theirs, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def way_to(api_url: str) -> AsyncIterator[Way]:
    parts = urlsplit(api_url)
    assert parts.hostname is not None
    assert parts.port is not None
    way = Way(parts.hostname, parts.port)
    await way.open()
    try:
        yield way
    finally:
        await way.close()
