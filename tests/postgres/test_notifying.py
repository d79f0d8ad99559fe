"""Listeners hear of committed rows, and nothing that happens to the notifier is felt by the writer."""

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pytest
from psycopg import AsyncConnection, Notify
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import libpq_url, open_connection
from pipeline.domain import RunId
from pipeline.embedded_postgres import discard_embedded_postgres, embedded_postgres
from pipeline.group_commit import GroupCommit, open_group_commit
from pipeline.notifying import MOST_UNTOLD, Notifier, open_notifier
from pipeline.runs import Run
from pipeline.services import open_run_services
from pipeline.settings import Settings
from pipeline.streaming import Endpoint
from pipeline.terms import Terms
from tests.fixtures.shop import RANKER, add_run, change, read, row_of, scalar
from tests.fixtures.writers import KILL, PATIENCE_S, commit_together, ranks, until

NOTIFIERS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'recstream notifier'
"""


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    return await add_run(engine, "c")


@pytest.fixture
async def notifier(database_url: str, run: Run) -> AsyncIterator[Notifier]:
    async with open_notifier(database_url, run.run_id) as opened:
        yield opened


@pytest.fixture
async def writer(database_url: str, run: Run, notifier: Notifier) -> AsyncIterator[GroupCommit]:
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance, tell=notifier.tell) as opened:
        yield opened


class Listener:
    """Hears on its connection what is notified, and from which backends."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._heard: list[Notify] = []
        self.backends: set[int] = set()

    async def hear(self, number: int) -> list[dict[str, object]]:
        """The next so many payloads."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self._heard) < number:  # psycopg gives all that came together, though fewer were asked for
                self._heard += [notified async for notified in self._connection.notifies(stop_after=1)]
        heard, self._heard = self._heard[:number], self._heard[number:]
        self.backends |= {notified.pid for notified in heard}
        return [json.loads(notified.payload) for notified in heard]


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Listener]:
    async with await AsyncConnection.connect(libpq_url(url), autocommit=True) as connection:
        await connection.execute("LISTEN recommendation_committed")
        yield Listener(connection)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A backend that does nothing inside, and says nothing either."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def told(run: Run, ranks: Sequence[int]) -> list[dict[str, object]]:
    return [{"run_id": str(run.run_id), "customer_id": "c", "rank": rank} for rank in ranks]


async def test_a_listener_hears_of_every_row_once_it_is_there(
    engine: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with listening(database_url) as listener:
        await writer.commit(row_of("c", 1))
        assert await listener.hear(1) == told(run, [1])

        await commit_together(writer, *(row_of("c", rank) for rank in range(2, 31)))
        assert await listener.hear(29) == told(run, range(2, 31))
    assert await ranks(engine) == list(range(1, 31))


async def test_nobody_hears_of_a_row_that_is_refused(
    engine: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with listening(database_url) as listener:
        await commit_together(writer, row_of("c", 1, score=2.0), row_of("c", 2, lease=7), row_of("c", 3))

        assert await listener.hear(1) == told(run, [3])


async def test_rows_and_their_notifications_come_over_two_connections(
    admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with listening(database_url) as listener:
        await commit_together(writer, *(row_of("c", rank) for rank in range(1, 6)))
        await listener.hear(5)

    assert [(backend,) for backend in listener.backends] == await read(admin, NOTIFIERS)


@pytest.mark.parametrize("notify", [True, False])
async def test_the_settings_turn_notifications_off(database_url: str, run: Run, notify: bool) -> None:
    endpoint = Endpoint("http://127.0.0.1:9/v1", "key", "model", 0.1, 1, 1, 1, 1, Terms("http://127.0.0.1:9/v1"))
    async with listening(database_url) as listener:
        async with open_run_services(Settings(notify=notify), database_url, endpoint, run) as services:
            await services.slate.writer.commit(row_of("c", 1))
        async with await AsyncConnection.connect(libpq_url(database_url), autocommit=True) as other:
            await other.execute("""NOTIFY recommendation_committed, '{"from": "another"}'""")
        (heard,) = await listener.hear(1)

    assert heard == (told(run, [1])[0] if notify else {"from": "another"})


async def test_the_last_rows_of_a_run_are_told_before_it_ends(database_url: str, run: Run) -> None:
    async with listening(database_url) as listener:
        async with open_notifier(database_url, run.run_id) as notifier:
            notifier.tell([row_of("c", rank) for rank in range(1, 2_001)])
        assert await listener.hear(2_000) == told(run, range(1, 2_001))
    assert notifier.lost == 0


async def test_a_notifier_opens_no_connection_before_its_first_row(
    admin: AsyncEngine, run: Run, notifier: Notifier
) -> None:
    await asyncio.sleep(0)
    assert await read(admin, NOTIFIERS) == []


async def test_a_notifier_whose_connection_is_killed_tells_of_later_rows(
    admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit, notifier: Notifier
) -> None:
    async with listening(database_url) as listener:
        await writer.commit(row_of("c", 1))
        await listener.hear(1)
        await change(admin, KILL, name="recstream notifier")

        assert isinstance(await writer.commit(row_of("c", 2)), datetime)

        async def lost() -> bool:
            return notifier.lost == 1

        await until(lost)
        await writer.commit(row_of("c", 3))
        assert await listener.hear(1) == told(run, [3])


async def test_a_notifier_that_is_stuck_holds_up_nobody_and_forgets_the_oldest(
    admin: AsyncEngine,
    database_url: str,
    run: Run,
    writer: GroupCommit,
    notifier: Notifier,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening(database_url) as listener:
        await writer.commit(row_of("c", 1))
        await listener.hear(1)
        backend = await scalar(admin, NOTIFIERS)
        assert isinstance(backend, int)
        with stopped(backend):
            outcomes = await commit_together(writer, *(row_of("c", rank) for rank in range(2, 52)))
            assert all(isinstance(at, datetime) for at in outcomes)
            assert await ranks(admin) == list(range(1, 52))
            notifier.tell([row_of("c", rank) for rank in range(1_000, 1_005)])
            notifier.tell([row_of("c", rank) for rank in range(10_000, 10_000 + MOST_UNTOLD)])
            notifier.tell([row_of("c", 10_000 + MOST_UNTOLD)])
            assert notifier.lost == 6
        assert await listener.hear(50) == told(run, range(2, 52))
        assert await listener.hear(MOST_UNTOLD) == told(run, range(10_001, 10_001 + MOST_UNTOLD))

    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["pipeline.notifying"], "the loss is logged once"
    assert str(run.run_id) in warnings[0].getMessage()


async def test_a_run_ends_although_its_notifier_is_stuck(
    admin: AsyncEngine, database_url: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(database_url) as listener, asyncio.timeout(PATIENCE_S):
        async with open_notifier(database_url, run.run_id) as notifier:
            notifier.tell([row_of("c", 1)])
            await listener.hear(1)
            backend = await scalar(admin, NOTIFIERS)
            assert isinstance(backend, int)
            os.kill(backend, signal.SIGSTOP)
            notifier.tell([row_of("c", 2)])
        os.kill(backend, signal.SIGCONT)
    assert "cancellation" not in caplog.text, "psycopg waited in vain for the server to cancel"


async def test_a_customer_whose_id_is_too_long_for_a_notification_hides_no_other(
    database_url: str, run: Run, notifier: Notifier
) -> None:
    async with listening(database_url) as listener:
        notifier.tell([row_of("c", 1), row_of("ü" * 2_000, 1), row_of("c", 2)])

        assert await listener.hear(2) == told(run, [1, 2])
    assert notifier.lost == 1


async def test_a_server_whose_queue_of_notifications_is_full_loses_them_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "full"
    try:
        with embedded_postgres(folder) as server, open_connection(server.url(), autocommit=True, role=None) as setting:
            setting.execute("ALTER SYSTEM SET max_notify_queue_pages = 64")
            setting.execute("CREATE ROLE recstream_writer")
        with embedded_postgres(folder) as server:
            async with (
                await AsyncConnection.connect(libpq_url(server.url())) as sleeper,
                open_notifier(server.url(), RunId(uuid4())) as notifier,
            ):
                await sleeper.execute("LISTEN recommendation_committed")
                await sleeper.commit()
                await sleeper.execute("SELECT 1")  # a transaction goes on: what is notified waits for its end

                async def full() -> bool:
                    if not notifier.waiting:
                        notifier.tell([row_of("c" * 2_000, rank) for rank in range(100)])
                    return notifier.lost > 0

                await until(full)
                await sleeper.rollback()
        assert "too many notifications" in caplog.text
    finally:
        discard_embedded_postgres(folder)
