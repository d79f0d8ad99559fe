"""The writer against a real server: durable before it answers, many rows a transaction, one bad row refused alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import libpq_url, open_engine
from pipeline.domain import RunId
from pipeline.embedded_postgres import discard_embedded_postgres, embedded_postgres
from pipeline.errors import DatabaseError, DatabaseUnavailableError, RowRefusedError
from pipeline.group_commit import GroupCommit, Row, open_group_commit
from pipeline.runs import Run
from pipeline.schema import migrate
from tests.fixtures.shop import add_run, change, read, row_of, scalar

PATIENCE_S = 30
BLOCKED_WRITERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'recstream writer' AND wait_event_type = 'Lock'
"""
READ_ONLY = """
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
    END $$
"""
KILL_WRITERS = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'recstream writer'
"""


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    return await add_run(engine, "c")


@pytest.fixture
async def writer(database_url: str) -> AsyncIterator[GroupCommit]:
    async with open_group_commit(database_url) as opened:
        yield opened


@asynccontextmanager
async def writers_blocked(url: str) -> AsyncIterator[None]:
    """Nothing can be written to the table inside; the writer waits in the middle of its statement."""
    async with await AsyncConnection.connect(libpq_url(url)) as connection:
        await connection.execute("LOCK TABLE recommendations IN EXCLUSIVE MODE")
        yield


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again until the condition holds, with a bound."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - Postgres tells nobody when a connection begins to wait
            await asyncio.sleep(0.01)


async def until_a_writer_is_blocked(engine: AsyncEngine) -> None:
    async def blocked() -> bool:
        return await scalar(engine, BLOCKED_WRITERS) != 0

    await until(blocked)


async def settled(tasks: list[asyncio.Task[datetime]]) -> list[datetime | BaseException]:
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def commit_together(writer: GroupCommit, *rows: Row) -> list[datetime | BaseException]:
    return await settled([asyncio.create_task(writer.commit(row)) for row in rows])


async def ranks(engine: AsyncEngine) -> list[object]:
    return [rank for (rank,) in await read(engine, "SELECT rank FROM recommendations ORDER BY rank")]


async def test_a_row_is_visible_to_others_when_commit_returns(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    committed_at = await writer.commit(row_of(run.run_id, "c", 1, name="Trail Shoe", score=0.25))

    assert await read(
        engine,
        "SELECT run_id, customer_id, rank, product_id, product_name, relevance_score, provenance, attempt, committed_at"
        " FROM recommendations",
    ) == [(run.run_id, "c", 1, "p1", "Trail Shoe", 0.25, "language_model", 1, committed_at)]


async def test_two_hundred_callers_at_a_time_are_served_in_few_transactions(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    times = await commit_together(writer, *(row_of(run.run_id, "c", rank) for rank in range(1, 201)))

    assert all(isinstance(at, datetime) for at in times)
    assert await ranks(engine) == list(range(1, 201))
    transactions = await scalar(engine, "SELECT count(DISTINCT xmin::text) FROM recommendations")
    assert isinstance(transactions, int)
    assert transactions <= 20


async def test_what_arrives_during_a_commit_goes_together_into_the_next(
    engine: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with writers_blocked(database_url):
        first = asyncio.create_task(writer.commit(row_of(run.run_id, "c", 1)))
        await until_a_writer_is_blocked(engine)
        others = [asyncio.create_task(writer.commit(row_of(run.run_id, "c", rank))) for rank in range(2, 51)]
        assert not first.done()
    await settled([first, *others])

    assert await scalar(engine, "SELECT count(DISTINCT xmin::text) FROM recommendations") == 2


at_rank_99 = partial(row_of, customer_id="c", rank=99)


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (partial(at_rank_99, name="Nul \x00 byte"), "NUL"),
        (partial(at_rank_99, name="Half a character \ud800"), "surrogates"),
        (partial(at_rank_99, score=2.0), "relevance_score"),
        (partial(at_rank_99, score=float("nan")), "relevance_score"),
        (partial(at_rank_99, name="too late"), "only at the commit"),
        (partial(at_rank_99, product_id="".join(map(str, range(5_000)))), "index"),
        (partial(row_of, customer_id="c", rank=2**40), "integer"),
        (partial(row_of, customer_id="c", rank=0), "rank"),
        (partial(row_of, customer_id="without a slate", rank=1), "foreign key"),
    ],
    ids=["nul", "surrogate", "score", "nan", "at the commit", "too long", "huge rank", "rank zero", "no slate"],
)
async def test_a_poison_row_is_refused_alone(
    engine: AsyncEngine, run: Run, writer: GroupCommit, poison: Callable[[RunId], Row], reason: str
) -> None:
    await change(
        engine,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE integrity_constraint_violation USING MESSAGE = 'only at the commit'; END $$",
    )
    await change(
        engine,
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON recommendations DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW WHEN (NEW.product_name = 'too late') EXECUTE FUNCTION refuse()",
    )
    rows = [row_of(run.run_id, "c", rank) for rank in range(1, 41)]

    *before, refusal = await commit_together(writer, *rows[:20], poison(run.run_id))
    after = await commit_together(writer, *rows[20:])

    assert isinstance(refusal, RowRefusedError)
    assert reason in str(refusal)
    assert "\n" not in str(refusal)
    assert all(isinstance(at, datetime) for at in [*before, *after])
    assert await ranks(engine) == list(range(1, 41))


async def test_several_poison_rows_hurt_nobody_but_themselves(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    rows = [row_of(run.run_id, "c", rank, score=2.0 if rank % 7 == 0 else 0.5) for rank in range(1, 101)]

    outcomes = await commit_together(writer, *rows)

    refused = [rank for rank, outcome in enumerate(outcomes, start=1) if isinstance(outcome, RowRefusedError)]
    assert refused == list(range(7, 101, 7))
    assert await ranks(engine) == [rank for rank in range(1, 101) if rank % 7]


async def test_a_row_handed_over_again_is_acknowledged_with_its_first_time(
    engine: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    row = row_of(run.run_id, "c", 1)
    first = await writer.commit(row)

    assert await writer.commit(row) == first
    assert await commit_together(writer, row, row_of(run.run_id, "c", 2), row) == [
        first,
        await scalar(engine, "SELECT committed_at FROM recommendations WHERE rank = 2"),
        first,
    ]
    async with open_group_commit(database_url) as another:
        assert await another.commit(row) == first
    assert await ranks(engine) == [1, 2]


async def test_a_row_handed_over_twice_in_one_group_stands_once(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    row = row_of(run.run_id, "c", 1)

    first, second = await commit_together(writer, row, row)

    assert first == second == await scalar(engine, "SELECT committed_at FROM recommendations")


async def test_another_product_at_a_taken_rank_is_refused(engine: AsyncEngine, run: Run, writer: GroupCommit) -> None:
    await writer.commit(row_of(run.run_id, "c", 1, product_id="here"))

    with pytest.raises(RowRefusedError, match="rank 1 or product 'other' is taken"):
        await writer.commit(row_of(run.run_id, "c", 1, product_id="other"))
    with pytest.raises(RowRefusedError, match="rank 2 or product 'here' is taken"):
        await writer.commit(row_of(run.run_id, "c", 2, product_id="here"))
    assert await read(engine, "SELECT rank, product_id FROM recommendations") == [(1, "here")]


@pytest.mark.parametrize(
    ("one", "other"), [((1, "p"), (1, "q")), ((1, "p"), (2, "p"))], ids=["one rank", "one product"]
)
async def test_of_two_rows_of_one_group_that_exclude_each_other_one_is_refused(
    engine: AsyncEngine, run: Run, writer: GroupCommit, one: tuple[int, str], other: tuple[int, str]
) -> None:
    rows = [row_of(run.run_id, "c", rank, product_id=product_id) for rank, product_id in (one, other)]

    outcomes = await commit_together(writer, *rows)

    stands = await read(engine, "SELECT rank, product_id FROM recommendations")
    assert stands == [one]
    assert isinstance(outcomes[0], datetime)
    assert isinstance(outcomes[1], RowRefusedError), "nobody is told that a row stands which does not"


async def test_callers_outlive_the_death_of_the_writers_connection(
    engine: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    await writer.commit(row_of(run.run_id, "c", 1))
    async with writers_blocked(database_url):
        callers = [asyncio.create_task(writer.commit(row_of(run.run_id, "c", rank))) for rank in range(2, 30)]
        await until_a_writer_is_blocked(engine)
        await change(engine, KILL_WRITERS)
        assert not any(caller.done() for caller in callers)
    times = await settled(callers)

    assert all(isinstance(at, datetime) for at in times)
    assert await ranks(engine) == list(range(1, 30))


async def test_an_idle_connection_that_died_is_replaced(engine: AsyncEngine, run: Run, writer: GroupCommit) -> None:
    await writer.commit(row_of(run.run_id, "c", 1))
    await change(engine, KILL_WRITERS)

    await writer.commit(row_of(run.run_id, "c", 2))

    assert await ranks(engine) == [1, 2]


@pytest.mark.parametrize(
    "trouble", ["ALTER TABLE recommendations RENAME TO elsewhere", READ_ONLY], ids=["no table", "read only"]
)
async def test_a_database_that_takes_no_row_at_all_is_not_taken_for_a_poison_row(
    engine: AsyncEngine, database_url: str, run: Run, trouble: str
) -> None:
    await change(engine, trouble)
    async with open_group_commit(database_url) as writer:
        outcomes = await commit_together(writer, *(row_of(run.run_id, "c", rank) for rank in range(1, 9)))

    assert [type(outcome) for outcome in outcomes] == [DatabaseError] * 8


async def test_a_server_that_is_gone_for_good_ends_in_a_typed_error(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        stack.callback(discard_embedded_postgres, tmp_path / "gone")
        with embedded_postgres(tmp_path / "gone") as server:
            url = server.url()
            await asyncio.to_thread(migrate, url)
            async with open_engine(url, connections=2) as engine:
                run = await add_run(engine, "c")
            writer = await stack.enter_async_context(open_group_commit(url))
            await writer.commit(row_of(run.run_id, "c", 1))

        outcomes = await commit_together(writer, *(row_of(run.run_id, "c", rank) for rank in range(2, 5)))

    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailableError] * 3
    assert "set DATABASE_URL" in str(outcomes[0])


async def test_a_cancelled_caller_does_not_hurt_the_others(
    engine: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with writers_blocked(database_url):
        callers = [asyncio.create_task(writer.commit(row_of(run.run_id, "c", rank))) for rank in range(1, 6)]
        await until_a_writer_is_blocked(engine)
        late = [asyncio.create_task(writer.commit(row_of(run.run_id, "c", rank))) for rank in range(6, 11)]
        await asyncio.sleep(0)  # lets each hand over its row
        callers[0].cancel()
        late[0].cancel()
        cancelled = await settled([callers[0], late[0]])
    others = await settled([*callers[1:], *late[1:]])

    assert [type(outcome) for outcome in cancelled] == [asyncio.CancelledError] * 2
    assert all(isinstance(at, datetime) for at in others)
    assert await ranks(engine) == [1, 2, 3, 4, 5, 7, 8, 9, 10], "a row on its way stands, one not yet sent does not"


async def test_a_writer_that_ends_leaves_no_caller_waiting(engine: AsyncEngine, database_url: str, run: Run) -> None:
    rows = [row_of(run.run_id, "c", rank) for rank in range(1, 9)]
    rows.append(row_of(run.run_id, "c", 9, name="\x00"))  # the group is cut in halves, and the first one is blocked
    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(open_group_commit(database_url))
        async with writers_blocked(database_url):
            callers = [asyncio.create_task(writer.commit(row)) for row in rows]
            await until_a_writer_is_blocked(engine)
            late = asyncio.create_task(writer.commit(row_of(run.run_id, "c", 10)))
            await asyncio.sleep(0)  # lets it hand over its row
            await stack.aclose()
            outcomes = await settled([*callers, late])

    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailableError] * 10
    with pytest.raises(DatabaseUnavailableError, match="the writer has ended"):
        await writer.commit(rows[0])
    assert await ranks(engine) == []


async def test_a_writer_opens_no_connection_before_its_first_row(engine: AsyncEngine, database_url: str) -> None:
    async with open_group_commit(database_url):
        assert (
            await scalar(
                engine,
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'recstream writer'"
                " AND datname = current_database()",
            )
            == 0
        )
