"""The writer against a real server: durable before it answers, many rows a transaction, one bad row refused alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.errors import DatabaseUnavailableError, RowRefusedError
from pipeline.group_commit import MAX_WAITING, WORTH_SHARING, GroupCommit, Row, open_group_commit
from pipeline.runs import Run
from tests.fixtures.shop import RANKER, add_run, change, read, row_of, scalar
from tests.fixtures.writers import (
    commit_together,
    hand_over,
    ranks,
    settled,
    transactions,
    until_blocked,
    writers_blocked,
)


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    return await add_run(engine, "c")


@pytest.fixture
async def writer(database_url: str, run: Run) -> AsyncIterator[GroupCommit]:
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance) as opened:
        yield opened


async def test_a_row_is_visible_to_others_when_commit_returns(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    committed_at = await writer.commit(row_of("c", 1, name="Trail Shoe", score=0.25))

    assert await read(
        engine,
        "SELECT run_id, customer_id, rank, product_id, product_name, relevance_score, provenance, attempt, committed_at"
        " FROM recommendations",
    ) == [(run.run_id, "c", 1, "p1", "Trail Shoe", 0.25, "language_model", 1, committed_at)]


async def test_a_row_is_flushed_before_it_is_acknowledged_whatever_the_databases_default_is(
    admin: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    await change(
        admin,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    )
    await change(
        admin,
        "CREATE FUNCTION require_flush() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "ASSERT current_setting('synchronous_commit') = 'on'; RETURN new; END $$",
    )
    await change(
        admin,
        "CREATE TRIGGER flushed BEFORE INSERT ON recommendations FOR EACH ROW EXECUTE FUNCTION require_flush()",
    )

    await writer.commit(row_of("c", 1))


async def test_two_hundred_callers_at_a_time_are_served_in_few_transactions(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    times = await commit_together(writer, *(row_of("c", rank) for rank in range(1, 201)))

    assert all(isinstance(at, datetime) for at in times)
    assert await ranks(engine) == list(range(1, 201))
    assert len(await transactions(engine)) <= 20


async def test_what_arrives_during_a_commit_goes_together_into_the_next(
    admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with writers_blocked(database_url):
        first = hand_over(writer, row_of("c", 1))
        await until_blocked(admin)
        others = hand_over(writer, *(row_of("c", rank) for rank in range(2, 51)))
        assert not first[0].done()
    await settled([*first, *others])

    assert await transactions(admin) == [1, 49]


async def test_many_that_arrive_during_a_commit_go_into_a_second_one_at_once(
    admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with writers_blocked(database_url):
        callers = await both_committers_busy(admin, writer)
    await settled(callers)

    assert sorted(str(number) for number in await transactions(admin)) == ["1", str(WORTH_SHARING)]


async def test_many_that_arrive_at_once_are_shared_by_two_transactions(
    admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with writers_blocked(database_url):
        callers = hand_over(writer, *(row_of("c", rank) for rank in range(1, 2 * WORTH_SHARING + 1)))
        await until_blocked(admin, 2)
    await settled(callers)

    assert await transactions(admin) == [WORTH_SHARING, WORTH_SHARING]


async def test_no_more_rows_wait_in_the_writer_than_one_transaction_takes(
    admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with writers_blocked(database_url):
        callers = await both_committers_busy(admin, writer)
        callers += hand_over(writer, *(row_of("c", rank) for rank in range(101, MAX_WAITING + 112)))
        await asyncio.sleep(0)  # lets each hand over its row, or wait until there is room for it
        assert len(writer._waiting) == MAX_WAITING
    times = await settled(callers)

    assert all(isinstance(at, datetime) for at in times)


async def test_a_caller_that_is_cancelled_gives_its_place_to_the_next(
    admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with writers_blocked(database_url):
        busy = await both_committers_busy(admin, writer)
        inside = hand_over(writer, *(row_of("c", rank) for rank in range(101, MAX_WAITING + 101)))
        outside = hand_over(writer, *(row_of("c", rank) for rank in range(MAX_WAITING + 101, MAX_WAITING + 105)))
        await asyncio.sleep(0)  # lets each hand over its row, or wait until there is room for it
        for caller in (inside[0], inside[1], outside[0]):
            caller.cancel()
        await settled([inside[0], inside[1], outside[0]])
        await asyncio.sleep(0)  # lets those come in who were outside
        assert len(writer._waiting) == MAX_WAITING, "two of the three outside have taken the places"
    await settled([*busy, *inside[2:], *outside[1:]])

    committed = [
        *range(1, WORTH_SHARING + 2),
        *range(103, MAX_WAITING + 101),
        *range(MAX_WAITING + 102, MAX_WAITING + 105),
    ]
    assert await ranks(admin) == committed


async def both_committers_busy(admin: AsyncEngine, writer: GroupCommit) -> list[asyncio.Task[datetime]]:
    """Callers of the first rows while nothing can be written: each committer waits in the middle of a statement."""
    first = hand_over(writer, row_of("c", 1))
    await until_blocked(admin)
    others = hand_over(writer, *(row_of("c", rank) for rank in range(2, WORTH_SHARING + 2)))
    await until_blocked(admin, 2)
    return first + others


at_rank_99 = partial(row_of, "c", 99)


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (at_rank_99(name="Nul \x00 byte"), "0x00"),
        (at_rank_99(name="Half a character \ud800"), "surrogates"),
        (at_rank_99(score=2.0), "relevance_score"),
        (at_rank_99(score=float("nan")), "relevance_score"),
        (at_rank_99(name="too late"), "only at the commit"),
        (at_rank_99(product_id="".join(map(str, range(5_000)))), "index"),
        (row_of("c", 2**40), "integer"),
        (row_of("c", 2**80), "integer"),
        (row_of("c", 0), "rank"),
    ],
    ids=["nul", "surrogate", "score", "nan", "at the commit", "too long", "huge rank", "immense rank", "rank zero"],
)
async def test_a_poison_row_is_refused_alone(
    admin: AsyncEngine, engine: AsyncEngine, run: Run, writer: GroupCommit, poison: Row, reason: str
) -> None:
    await change(
        admin,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE integrity_constraint_violation USING MESSAGE = 'only at the commit'; END $$",
    )
    await change(
        admin,
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON recommendations DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW WHEN (NEW.product_name = 'too late') EXECUTE FUNCTION refuse()",
    )
    rows = [row_of("c", rank) for rank in range(1, 41)]

    *before, refusal = await commit_together(writer, *rows[:20], poison)
    after = await commit_together(writer, *rows[20:])

    assert isinstance(refusal, RowRefusedError)
    assert reason in str(refusal)
    assert "\n" not in str(refusal)
    assert all(isinstance(at, datetime) for at in [*before, *after])
    assert await ranks(engine) == list(range(1, 41))


async def test_several_poison_rows_hurt_nobody_but_themselves(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    rows = [row_of("c", rank, score=2.0 if rank % 7 == 0 else 0.5) for rank in range(1, 101)]

    outcomes = await commit_together(writer, *rows)

    refused = [rank for rank, outcome in enumerate(outcomes, start=1) if isinstance(outcome, RowRefusedError)]
    assert refused == list(range(7, 101, 7))
    assert await ranks(engine) == [rank for rank in range(1, 101) if rank % 7]


async def test_a_row_handed_over_again_is_acknowledged_with_its_first_time(
    engine: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    row = row_of("c", 1)
    first = await writer.commit(row)

    assert await writer.commit(row) == first
    assert await commit_together(writer, row, row_of("c", 2), row) == [
        first,
        await scalar(engine, "SELECT committed_at FROM recommendations WHERE rank = 2"),
        first,
    ]
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance) as another:
        assert await another.commit(row) == first
    assert await ranks(engine) == [1, 2]


async def test_a_row_handed_over_twice_in_one_group_stands_once(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    row = row_of("c", 1)

    first, second = await commit_together(writer, row, row)

    assert first == second == await scalar(engine, "SELECT committed_at FROM recommendations")


async def test_another_product_at_a_taken_rank_is_refused(engine: AsyncEngine, run: Run, writer: GroupCommit) -> None:
    await writer.commit(row_of("c", 1, product_id="here"))

    with pytest.raises(RowRefusedError, match="rank 1 or product 'other' is taken"):
        await writer.commit(row_of("c", 1, product_id="other"))
    with pytest.raises(RowRefusedError, match="rank 2 or product 'here' is taken"):
        await writer.commit(row_of("c", 2, product_id="here"))
    assert await read(engine, "SELECT rank, product_id FROM recommendations") == [(1, "here")]


@pytest.mark.parametrize(
    ("one", "other"), [((1, "p"), (1, "q")), ((1, "p"), (2, "p"))], ids=["one rank", "one product"]
)
async def test_of_two_rows_of_one_group_that_exclude_each_other_one_is_refused(
    engine: AsyncEngine, run: Run, writer: GroupCommit, one: tuple[int, str], other: tuple[int, str]
) -> None:
    rows = [row_of("c", rank, product_id=product_id) for rank, product_id in (one, other)]

    outcomes = await commit_together(writer, *rows)

    stands = await read(engine, "SELECT rank, product_id FROM recommendations")
    assert stands == [one]
    assert isinstance(outcomes[0], datetime)
    assert isinstance(outcomes[1], RowRefusedError), "nobody is told that a row stands which does not"


async def test_a_cancelled_caller_does_not_hurt_the_others(
    admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    async with writers_blocked(database_url):
        callers = hand_over(writer, *(row_of("c", rank) for rank in range(1, 6)))
        await until_blocked(admin)
        late = hand_over(writer, *(row_of("c", rank) for rank in range(6, 11)))
        await asyncio.sleep(0)  # lets each hand over its row
        callers[0].cancel()
        late[0].cancel()
        cancelled = await settled([callers[0], late[0]])
    others = await settled([*callers[1:], *late[1:]])

    assert [type(outcome) for outcome in cancelled] == [asyncio.CancelledError] * 2
    assert all(isinstance(at, datetime) for at in others)
    assert await ranks(admin) == [1, 2, 3, 4, 5, 7, 8, 9, 10], "a row on its way stands, one not yet sent does not"


async def test_a_writer_that_ends_leaves_no_caller_waiting(admin: AsyncEngine, database_url: str, run: Run) -> None:
    rows = [row_of("c", rank) for rank in range(1, 9)]
    rows.append(row_of("c", 9, name="\x00"))  # the group is cut in halves, and the first one is blocked
    async with AsyncExitStack() as stack:
        writer = await stack.enter_async_context(
            open_group_commit(database_url, run.run_id, run.day, RANKER.provenance)
        )
        async with writers_blocked(database_url):
            callers = hand_over(writer, *rows)
            await until_blocked(admin)
            late = hand_over(writer, *(row_of("c", rank) for rank in range(10, MAX_WAITING + 20)))
            await asyncio.sleep(0)  # lets each hand over its row, or wait until there is room for it
            await stack.aclose()
            outcomes = await settled([*callers, *late])

    assert {type(outcome) for outcome in outcomes} == {DatabaseUnavailableError}
    with pytest.raises(DatabaseUnavailableError, match="the writer has ended"):
        await writer.commit(rows[0])
    assert await ranks(admin) == []


async def test_a_writer_opens_no_connection_before_its_first_row(
    admin: AsyncEngine, database_url: str, run: Run
) -> None:
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance):
        assert (
            await scalar(
                admin,
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'recstream writer'"
                " AND datname = current_database()",
            )
            == 0
        )
