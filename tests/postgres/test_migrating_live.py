"""A migration of a database that is in use: it waits for few, keeps nobody waiting, and outlives its own death."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import LiteralString

import psycopg
import pytest

from pipeline.database import libpq_url
from pipeline.errors import DatabaseError, DatabaseUnavailableError, RunConflictError
from pipeline.night_lock import hold_the_night
from pipeline.schema import migrate
from tests.fixtures.releases import Rows, administer, as_superuser, leave_as, rows_of, shape_of

HEAD = "0018"
Move = tuple[str | None, str | None]

# Ends its own connection in the middle of a migration: before the n-th change of the schema.
DEATH_AT: LiteralString = """
    CREATE SEQUENCE public.steps;
    CREATE FUNCTION public.die() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('public.steps') = current_setting('steps.last')::integer THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
        END IF;
    END $$;
    CREATE EVENT TRIGGER death ON ddl_command_start EXECUTE FUNCTION public.die();
"""
TRANSACTIONS_OF_THEIR_OWN = 25
"""The steps of 0003 before its swap; after them a migration is one transaction."""

BUILDING: LiteralString = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'CREATE UNIQUE INDEX%' AND wait_event_type = 'Lock'
"""
ROW_OF_BEFORE: LiteralString = """
    INSERT INTO recommendations (run_id, customer_id, rank, product_id, product_name, relevance_score, provenance,
                                 attempt)
    VALUES ('00000000-0000-0000-0000-000000000005', 'c4', %s, %s, 'Name', 0.5, 'language_model', 1)
"""


@pytest.fixture
def released(empty_database_url: str) -> Rows:
    """What is in `empty_database_url`, as the last release left it."""
    return leave_as("0002", empty_database_url)


@contextmanager
def dying_at(url: str, step: int) -> Iterator[None]:
    """Every migration that begins inside dies before its `step`-th change."""
    with as_superuser(url) as connection:
        name = connection.info.dbname
        connection.execute("SELECT setval('public.steps', 1, false)")
        connection.execute(f"ALTER DATABASE {name} SET steps.last = {step}")
        yield


def test_a_migration_that_dies_at_any_step_can_be_started_again(empty_database_url: str, released: Rows) -> None:
    administer(empty_database_url, DEATH_AT)
    step = deaths = 0
    while True:
        step += 1 if step < TRANSACTIONS_OF_THEIR_OWN else 7
        with dying_at(empty_database_url, step):
            try:
                migrate(empty_database_url)
            except DatabaseUnavailableError:
                deaths += 1
            else:
                break
    administer(empty_database_url, "DROP EVENT TRIGGER death; DROP FUNCTION die; DROP SEQUENCE steps")

    assert deaths > TRANSACTIONS_OF_THEIR_OWN, "the way up has far more steps"
    assert rows_of(empty_database_url) == released
    died = shape_of(empty_database_url)
    migrate(empty_database_url, "base")
    migrate(empty_database_url)
    assert died == shape_of(empty_database_url), "the same as in one go"


@contextmanager
def held_up(url: str) -> Iterator[tuple[psycopg.Connection, Future[Move]]]:
    """A migration that waits in the middle, for a transaction that is older than the index it builds."""
    with ThreadPoolExecutor(1) as thread, psycopg.connect(libpq_url(url)) as elder:
        elder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        elder.execute("SELECT count(*) FROM pg_class")
        migration = thread.submit(migrate, url)
        try:
            with as_superuser(url) as watcher:
                while not watcher.execute(BUILDING).fetchall():
                    assert not migration.done(), migration.result()
            yield elder, migration
        finally:
            elder.rollback()


def test_readers_and_writers_go_on_while_an_index_is_built(empty_database_url: str, released: Rows) -> None:
    with held_up(empty_database_url) as (elder, migration):
        with as_superuser(empty_database_url) as another:
            another.execute("SET lock_timeout = '5s'")
            another.execute(ROW_OF_BEFORE, (1, "p"))
            assert another.execute("SELECT count(*) FROM current_recommendations").fetchone() == (3,)
        assert not migration.done()
        elder.rollback()
        assert migration.result(60) == ("0002", HEAD)

    after = rows_of(empty_database_url)
    assert len(after["recommendations"]) == len(released["recommendations"]) + 1
    assert after["current_recommendations"] == released["current_recommendations"]


def test_an_index_that_was_left_half_built_is_built_anew(empty_database_url: str, released: Rows) -> None:
    with held_up(empty_database_url) as (_, migration):
        administer(empty_database_url, f"SELECT pg_terminate_backend(pid, 10000) FROM ({BUILDING}) AS building")
        with pytest.raises(DatabaseUnavailableError):
            migration.result(60)
    with as_superuser(empty_database_url) as connection:
        half = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        assert connection.execute(half).fetchone() == (1,)
        assert migrate(empty_database_url) == ("0002", HEAD)
        assert connection.execute(half).fetchone() == (0,)
    assert rows_of(empty_database_url) == released


def test_readers_see_their_slates_and_no_error_all_the_way(empty_database_url: str, released: Rows) -> None:
    done = Event()

    def read_on() -> int:
        times = 0
        with as_superuser(empty_database_url) as connection:
            while not done.is_set():
                seen = connection.execute("SELECT customer_id, rank FROM current_recommendations ORDER BY 1, 2")
                assert seen.fetchall() == [row[:2] for row in released["current_recommendations"]]
                times += 1
        return times

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read_on) for _ in range(2)]
        try:
            assert migrate(empty_database_url) == ("0002", HEAD)
        finally:
            done.set()
        assert all(reader.result(60) > 0 for reader in readers)


def test_what_a_writer_of_before_was_told_is_durable_is_there(empty_database_url: str, released: Rows) -> None:
    acknowledged: list[int] = []
    writing = Event()

    def write_on() -> None:
        with as_superuser(empty_database_url) as connection:
            for number in range(1, 1_000_000):
                connection.execute(ROW_OF_BEFORE, (number, f"p{number}"))
                acknowledged.append(number)
                writing.set()

    with ThreadPoolExecutor(1) as thread:
        writer = thread.submit(write_on)
        assert writing.wait(60)
        assert migrate(empty_database_url) == ("0002", HEAD)
        with pytest.raises(psycopg.IntegrityError, match="day"):
            writer.result(60)
    written = [row for row in rows_of(empty_database_url)["recommendations"] if row not in released["recommendations"]]
    assert [row[2] for row in written] == acknowledged


def test_a_lock_that_is_not_to_be_had_keeps_nobody_waiting(empty_database_url: str, released: Rows) -> None:
    with psycopg.connect(libpq_url(empty_database_url)) as night:
        night.execute("LOCK TABLE llm_calls IN ROW EXCLUSIVE MODE")
        with pytest.raises(DatabaseError, match="lock timeout") as refused:
            migrate(empty_database_url)
    assert "\n" not in str(refused.value)
    assert rows_of(empty_database_url) == released
    assert migrate(empty_database_url) == ("0002", HEAD)


async def test_the_tables_of_a_night_that_goes_on_stay_as_they_are(database_url: str) -> None:
    await asyncio.to_thread(migrate, database_url, "0005")
    async with hold_the_night(database_url):
        with pytest.raises(RunConflictError, match="a nightly run is going on") as refused:
            await asyncio.to_thread(migrate, database_url)
    assert "\n" not in str(refused.value)
    assert await asyncio.to_thread(migrate, database_url) == ("0005", HEAD)
    async with hold_the_night(database_url):
        assert await asyncio.to_thread(migrate, database_url) == (HEAD, HEAD)
