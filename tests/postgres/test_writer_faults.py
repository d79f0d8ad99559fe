"""The writer while its connection dies and the server goes away: callers wait, nothing is lost, nothing is twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline import persistence
from pipeline.database import open_engine
from pipeline.embedded_postgres import EmbeddedPostgres, discard_embedded_postgres, embedded_postgres
from pipeline.errors import DatabaseError, DatabaseUnavailableError
from pipeline.group_commit import GroupCommit, open_group_commit
from pipeline.runs import Run
from pipeline.schema import migrate
from tests.fixtures.relay import relay_to
from tests.fixtures.shop import RANKER, add_run, change, read, row_of
from tests.fixtures.writers import (
    KILL,
    commit_together,
    hand_over,
    ranks,
    settled,
    until,
    until_blocked,
    writers_blocked,
)

WRITERS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'recstream writer'
"""
READ_ONLY = """
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
    END $$
"""


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    return await add_run(engine, "c")


@pytest.fixture
async def writer(database_url: str, run: Run) -> AsyncIterator[GroupCommit]:
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance) as opened:
        yield opened


@pytest.fixture
def own_folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "own"
    discard_embedded_postgres(tmp_path / "own")


async def planned(server: EmbeddedPostgres) -> Run:
    """A run in a new server's database."""
    await asyncio.to_thread(migrate, server.url())
    async with open_engine(server.url(), connections=2) as engine:
        return await add_run(engine, "c")


async def kill_writers(admin: AsyncEngine) -> None:
    await change(admin, KILL, name="recstream writer")


async def test_callers_outlive_the_death_of_the_writers_connection(
    admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    await writer.commit(row_of("c", 1))
    async with writers_blocked(database_url):
        callers = hand_over(writer, *(row_of("c", rank) for rank in range(2, 30)))
        await until_blocked(admin)
        await kill_writers(admin)
        assert not any(caller.done() for caller in callers)
    times = await settled(callers)

    assert all(isinstance(at, datetime) for at in times)
    assert await ranks(admin) == list(range(1, 30))


async def test_a_statement_that_is_cancelled_is_sent_again(
    admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with writers_blocked(database_url):
        callers = hand_over(writer, *(row_of("c", rank) for rank in range(1, 4)))
        await until_blocked(admin)
        before = await read(admin, WRITERS)
        await change(admin, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = :pid", pid=before[0][0])

        async def another() -> bool:
            return await read(admin, WRITERS) not in ([], before)

        await until(another)
        assert not any(caller.done() for caller in callers)
    times = await settled(callers)

    assert all(isinstance(at, datetime) for at in times)
    assert await ranks(admin) == [1, 2, 3]


async def test_an_idle_connection_that_died_is_replaced(admin: AsyncEngine, run: Run, writer: GroupCommit) -> None:
    await writer.commit(row_of("c", 1))
    await kill_writers(admin)

    await writer.commit(row_of("c", 2))

    assert await ranks(admin) == [1, 2]


@pytest.mark.parametrize(
    "trouble", ["ALTER TABLE recommendations RENAME TO elsewhere", READ_ONLY], ids=["no table", "read only"]
)
async def test_a_database_that_takes_no_row_at_all_is_not_taken_for_a_poison_row(
    admin: AsyncEngine, database_url: str, run: Run, trouble: str
) -> None:
    await change(admin, trouble)
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance) as writer:
        outcomes = await commit_together(writer, *(row_of("c", rank) for rank in range(1, 9)))

    assert [type(outcome) for outcome in outcomes] == [DatabaseError] * 8


async def test_a_database_that_takes_no_row_fails_all_that_are_left_of_a_group_at_once(
    admin: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    await change(admin, "ALTER TABLE recommendations RENAME TO elsewhere")
    rows = [row_of("c", rank) for rank in range(1, 9)]

    # psycopg refuses the last one before the server is asked: the group is cut in halves, and the first is tried
    outcomes = await commit_together(writer, *rows, row_of("c", 9, name="Half a character \ud800"))

    assert [type(outcome) for outcome in outcomes] == [DatabaseError] * 9


async def test_callers_wait_for_a_server_that_is_restarted(own_folder: Path) -> None:
    with embedded_postgres(own_folder) as server:
        run, url = await planned(server), server.url()
    async with open_group_commit(url, run.run_id, run.day, RANKER.provenance) as writer:
        with embedded_postgres(own_folder):
            await writer.commit(row_of("c", 1))
        callers = hand_over(writer, *(row_of("c", rank) for rank in range(2, 100)))
        with ExitStack() as stack:
            # in a thread: the writer tries in vain meanwhile
            await asyncio.to_thread(stack.enter_context, embedded_postgres(own_folder))
            outcomes = await settled(callers)
            async with open_engine(url, connections=1) as engine:
                assert await ranks(engine) == list(range(1, 100))

    assert all(isinstance(outcome, datetime) for outcome in outcomes)


async def test_a_server_that_is_gone_for_good_ends_in_a_typed_error(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "PATIENCE_S", 0.5)
    async with AsyncExitStack() as stack:
        with embedded_postgres(own_folder) as server:
            run, url = await planned(server), server.url()
            writer = await stack.enter_async_context(open_group_commit(url, run.run_id, run.day, RANKER.provenance))
            await writer.commit(row_of("c", 1))

        outcomes = await commit_together(writer, *(row_of("c", rank) for rank in range(2, 5)))

    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailableError] * 3
    assert "set DATABASE_URL" in str(outcomes[0])


async def test_a_login_that_the_server_refuses_is_not_tried_again(
    database_url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "PATIENCE_S", 3_600)
    for wrong in (database_url.replace("recstream@", "nobody-known@"), database_url.replace("/test_", "/no_test_")):
        async with open_group_commit(wrong, run.run_id, run.day, RANKER.provenance) as writer:
            (outcome,) = await commit_together(writer, row_of("c", 1))

        assert isinstance(outcome, DatabaseUnavailableError)
        assert "does not exist" in str(outcome)


async def test_a_server_with_too_many_clients_is_waited_for(admin: AsyncEngine, database_url: str, run: Run) -> None:
    name = f"writer_of_{run.run_id}"
    await change(admin, f'CREATE ROLE "{name}" LOGIN CONNECTION LIMIT 0 IN ROLE recstream_writer')
    try:
        async with (
            relay_to(database_url.replace("recstream@", f"{name}@")) as (relay, url),
            open_group_commit(url, run.run_id, run.day, RANKER.provenance) as writer,
        ):
            (caller,) = hand_over(writer, row_of("c", 1))
            await relay.until_connections(3)
            assert not caller.done()
            await change(admin, f'ALTER ROLE "{name}" CONNECTION LIMIT 1')
            (outcome,) = await settled([caller])
    finally:
        await change(admin, f'DROP ROLE "{name}"')

    assert isinstance(outcome, datetime)
