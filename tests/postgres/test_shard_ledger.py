"""Who serves which shard on a real server: an attempt that is not the newest does nothing. How shards are cut."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import libpq_url
from pipeline.domain import CustomerId, RunKind, RunState, ShardLease, ShardState
from pipeline.errors import EndpointFatalError, ShardTakenOverError, SlateTakenOverError
from pipeline.gates import Gates
from pipeline.group_commit import GroupCommit, open_group_commit
from pipeline.orders import open_hands
from pipeline.publishing import publish_by_hand
from pipeline.run_states import begin_run, end_run
from pipeline.runs import Run
from pipeline.shard_ledger import (
    Shard,
    _why_lost,
    lost,
    offer_shard,
    read_shards,
    serving,
    taking,
    withdraw_shard,
)
from pipeline.slates import SlateLedger
from pipeline.unchanged import Content, Kept, _note, _noted
from tests.fixtures.shop import RANKER, add_run, change, comes_to, end_slates, read, row_of, scalar, some_candidates

BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'recstream'
"""
WITHIN_S = 30.0


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    """A night of three customers in one shard."""
    return await add_run(engine, "a", "b", "c")


@pytest.fixture
async def writer(database_url: str, run: Run) -> AsyncIterator[GroupCommit]:
    async with open_group_commit(database_url, run.run_id, run.day, RANKER.provenance) as opened:
        yield opened


async def offered(engine: AsyncEngine, run: Run, shard: int = 0) -> ShardLease:
    return await offer_shard(engine, run.run_id, run.day, shard)


def ledger_of(engine: AsyncEngine, run: Run, lease: ShardLease) -> SlateLedger:
    return SlateLedger(engine, run.run_id, run.day, lease)


async def the_shard(engine: AsyncEngine, run: Run) -> Shard:
    (shard,) = await read_shards(engine, run.run_id)
    return shard


async def stands_as(engine: AsyncEngine, run: Run) -> tuple[ShardState, int, str | None, str | None]:
    shard = await the_shard(engine, run)
    return shard.state, shard.attempt, shard.reason, shard.error


async def test_an_earlier_attempt_opens_no_slate(engine: AsyncEngine, run: Run) -> None:
    earlier, newest = await offered(engine, run), await offered(engine, run)

    with pytest.raises(ShardTakenOverError, match="attempt 1 ends"):
        await ledger_of(engine, run, earlier).open(CustomerId("a"), some_candidates(3), 3)
    assert await scalar(engine, "SELECT state FROM slates WHERE customer_id = 'a'") == "pending"
    slate = await ledger_of(engine, run, newest).open(CustomerId("a"), some_candidates(3), 3)
    assert slate.missing == 3


async def test_an_earlier_attempt_writes_no_row_to_a_slate_that_it_had_open(
    engine: AsyncEngine, run: Run, writer: GroupCommit
) -> None:
    earlier = await offered(engine, run)
    slate = await ledger_of(engine, run, earlier).open(CustomerId("a"), some_candidates(3), 3)
    await writer.commit(row_of("a", 1, lease=slate.lease))
    await offered(engine, run)

    with pytest.raises(SlateTakenOverError):
        await writer.commit(row_of("a", 2, lease=slate.lease))
    with pytest.raises(SlateTakenOverError):
        await ledger_of(engine, run, earlier).begin_attempt(slate, "hash")
    assert await read(engine, "SELECT customer_id, rank FROM recommendations") == [("a", 1)]


async def test_an_earlier_attempt_marks_nobody_unchanged(engine: AsyncEngine, run: Run) -> None:
    earlier, newest = await offered(engine, run), await offered(engine, run)
    kept = {CustomerId("a"): Kept(run.run_id, 3)}
    noted = _noted(run, dict.fromkeys([CustomerId("a")], Content("hash", "test-model")), kept, [None])

    assert await _note(engine, noted | {"shard": 0, "shard_attempt": earlier.attempt}) == set()
    assert await scalar(engine, "SELECT count(*) FROM slates WHERE state <> 'pending' OR content_hash IS NOT NULL") == 0
    assert await _note(engine, noted | {"shard": 0, "shard_attempt": newest.attempt}) == {"a"}


async def test_an_earlier_attempt_ends_nothing(engine: AsyncEngine, run: Run) -> None:
    earlier = await offered(engine, run)
    async with serving(engine, earlier, uuid4()):
        newest = await offered(engine, run)
    assert await stands_as(engine, run) == (ShardState.OFFERED, newest.attempt, None, None)

    with pytest.raises(ValueError, match="too late"):
        async with taking(engine, earlier):
            raise ValueError("too late")
    assert await stands_as(engine, run) == (ShardState.OFFERED, newest.attempt, None, None)


async def test_an_attempt_that_is_not_the_newest_is_not_taken(engine: AsyncEngine, run: Run) -> None:
    earlier = await offered(engine, run)
    await offered(engine, run)
    with pytest.raises(ShardTakenOverError):
        async with serving(engine, earlier, uuid4()):
            pytest.fail("two attempts at a time")


async def test_two_processes_do_not_take_one_attempt_nor_end_each_others(engine: AsyncEngine, run: Run) -> None:
    lease = await offered(engine, run)
    async with serving(engine, lease, uuid4()):
        with pytest.raises(ShardTakenOverError):
            async with taking(engine, lease), serving(engine, lease, uuid4()):
                pytest.fail("two processes serve one shard")
        assert (await stands_as(engine, run))[0] is ShardState.SERVING
    assert (await stands_as(engine, run))[0] is ShardState.SERVED


async def test_what_breaks_an_attempt_off_stands_with_its_reason(engine: AsyncEngine, run: Run) -> None:
    lease = await offered(engine, run)
    with pytest.raises(EndpointFatalError):
        async with taking(engine, lease), serving(engine, lease, uuid4()):
            raise EndpointFatalError("no quota\nand more")
    assert await stands_as(engine, run) == (ShardState.BROKEN_OFF, 1, "no quota", "EndpointFatalError")
    assert (await the_shard(engine, run)).taken_s is not None


async def test_what_keeps_a_process_from_taking_its_shard_stands_there_too(engine: AsyncEngine, run: Run) -> None:
    lease = await offered(engine, run)
    with pytest.raises(EndpointFatalError):
        async with taking(engine, lease):
            raise EndpointFatalError("a wrong key")
    assert await stands_as(engine, run) == (ShardState.BROKEN_OFF, 1, "a wrong key", "EndpointFatalError")
    assert (await the_shard(engine, run)).taken_s is None


async def test_a_shard_that_is_offered_anew_forgets_how_it_ended(engine: AsyncEngine, run: Run) -> None:
    with pytest.raises(EndpointFatalError):
        async with serving(engine, await offered(engine, run), uuid4()):
            raise EndpointFatalError("no quota")
    await offered(engine, run)
    shard = await the_shard(engine, run)
    assert (shard.state, shard.attempt, shard.reason, shard.error) == (ShardState.OFFERED, 2, None, None)
    assert (shard.machine, shard.taken_s) == (None, None)


async def test_an_offer_that_is_made_twice_is_the_second(engine: AsyncEngine, run: Run) -> None:
    first, second = await offered(engine, run), await offered(engine, run)
    assert (first.attempt, second.attempt) == (1, 2)
    async with serving(engine, second, uuid4()):
        assert (await stands_as(engine, run))[:2] == (ShardState.SERVING, 2)


async def test_an_offer_waits_for_the_slate_that_is_being_opened_and_takes_its_lease(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str, run: Run, writer: GroupCommit
) -> None:
    await offered(engine, run)
    async with await AsyncConnection.connect(libpq_url(database_url)) as opener:
        await opener.execute("SELECT FROM run_shards WHERE run_id = %s FOR SHARE", (run.run_id,))
        await opener.execute("UPDATE slates SET state = 'streaming', lease = lease + 1 WHERE customer_id = 'a'")
        anew = asyncio.create_task(offered(engine, run))
        await comes_to(admin, BLOCKED, 1)
        await opener.commit()
        await asyncio.wait_for(anew, WITHIN_S)

    with pytest.raises(SlateTakenOverError):
        await writer.commit(row_of("a", 1, lease=1))


async def test_who_opens_a_slate_while_its_shard_is_offered_anew_waits_and_gets_nothing(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str, run: Run
) -> None:
    earlier = await offered(engine, run)
    async with await AsyncConnection.connect(libpq_url(database_url)) as parent:
        await parent.execute("UPDATE run_shards SET attempt = 2, state = 'offered' WHERE run_id = %s", (run.run_id,))
        opening = asyncio.create_task(ledger_of(engine, run, earlier).open(CustomerId("a"), some_candidates(3), 3))
        await comes_to(admin, BLOCKED, 1)
        await parent.commit()
        with pytest.raises(ShardTakenOverError):
            await asyncio.wait_for(opening, WITHIN_S)
    assert await scalar(engine, "SELECT state FROM slates WHERE customer_id = 'a'") == "pending"


async def test_a_shard_is_alive_as_long_as_its_process_is_seen(engine: AsyncEngine, run: Run) -> None:
    lease = await offered(engine, run)
    async with open_hands(engine, run.run_id) as hands, serving(engine, lease, hands.process):
        assert (await the_shard(engine, run)).alive
        await change(engine, "UPDATE run_processes SET seen_at = seen_at - interval '11 seconds'")
        assert not (await the_shard(engine, run)).alive
        assert (await stands_as(engine, run))[0] is ShardState.SERVING


async def test_who_serves_a_shard_hears_that_it_was_offered_anew(engine: AsyncEngine, run: Run) -> None:
    lease = await offered(engine, run)
    hearing = asyncio.create_task(lost(engine, lease))
    await offered(engine, run)
    with pytest.raises(ShardTakenOverError, match="offered anew"):
        await asyncio.wait_for(hearing, WITHIN_S)


async def test_shards_of_a_dead_run_go_on_until_another_night_is_planned(engine: AsyncEngine, run: Run) -> None:
    lease = await offered(engine, run)
    await begin_run(engine, run.run_id)
    await end_run(engine, run.run_id, RunState.FAILED, "its process died", interrupted=True)
    assert await _why_lost(engine, lease) is None
    await add_run(engine, "a", kind=RunKind.ON_DEMAND)
    assert await _why_lost(engine, lease) is None

    await add_run(engine, "a")
    assert await _why_lost(engine, lease) == "over"


async def test_shards_of_a_run_that_nobody_takes_up_end_after_a_while(engine: AsyncEngine, run: Run) -> None:
    lease = await offered(engine, run)
    await begin_run(engine, run.run_id)
    await end_run(engine, run.run_id, RunState.FAILED, "its process died", interrupted=True)
    await change(engine, "UPDATE runs SET ended_at = ended_at - interval '61 seconds'")
    with pytest.raises(ShardTakenOverError, match="is over, and nobody answers for it"):
        await asyncio.wait_for(lost(engine, lease), WITHIN_S)


async def test_a_shard_that_is_withdrawn_is_nobodys(engine: AsyncEngine, run: Run, writer: GroupCommit) -> None:
    lease = await offered(engine, run)
    async with serving(engine, lease, uuid4()):
        slate = await ledger_of(engine, run, lease).open(CustomerId("a"), some_candidates(3), 3)
        await withdraw_shard(engine, run.day, lease)
        await withdraw_shard(engine, run.day, lease)
        with pytest.raises(SlateTakenOverError):
            await writer.commit(row_of("a", 1, lease=slate.lease))
        with pytest.raises(ShardTakenOverError):
            await ledger_of(engine, run, lease).open(CustomerId("b"), some_candidates(3), 3)
    assert await stands_as(engine, run) == (ShardState.WAITING, 2, None, None)


async def test_who_comes_for_a_shard_that_was_withdrawn_or_has_it_hears_that_it_was_given_to_nobody(
    engine: AsyncEngine, run: Run
) -> None:
    lease = await offered(engine, run)
    await withdraw_shard(engine, run.day, lease)
    with pytest.raises(ShardTakenOverError, match="was taken back, and nobody has it"):
        async with serving(engine, lease, uuid4()):
            pass
    with pytest.raises(ShardTakenOverError, match="was taken back, and nobody has it"):
        await asyncio.wait_for(lost(engine, lease), WITHIN_S)


async def test_a_shard_that_has_been_served_is_not_withdrawn(engine: AsyncEngine, run: Run) -> None:
    lease = await offered(engine, run)
    async with serving(engine, lease, uuid4()):
        pass
    await withdraw_shard(engine, run.day, lease)
    assert (await stands_as(engine, run))[:2] == (ShardState.SERVED, 1)


async def test_a_shard_of_a_run_from_before_shards_were_written_down_is_offered_too(
    engine: AsyncEngine, admin: AsyncEngine, run: Run
) -> None:
    await change(admin, "DELETE FROM run_shards")
    assert (await offered(engine, run)).attempt == 1
    shard = await the_shard(engine, run)
    assert (shard.customers, shard.state) == (3, ShardState.OFFERED)


async def test_customers_of_equal_work_make_equal_shards(engine: AsyncEngine) -> None:
    run = await add_run(engine, *(f"c{number:02}" for number in range(10)), shard_size=4)
    assert await cut(engine, run) == [(0, 4, 0, None), (1, 4, 4, None), (2, 2, 8, None)]


async def test_a_heavy_customer_has_fewer_beside_him(engine: AsyncEngine) -> None:
    customers = [f"c{number:02}" for number in range(10)]
    await a_night_before(engine, {customer: 5500 if customer == "c00" else 500 for customer in customers})
    run = await add_run(engine, *customers, shard_size=5)

    # On average 1,000 tokens: he counts as 5.5 customers, each of the others as half a one.
    assert await cut(engine, run) == [(0, 1, 0, 5500), (1, 9, 1, 4500)]


async def test_light_customers_make_no_shard_of_more_than_four_times_as_many(engine: AsyncEngine) -> None:
    customers = [f"c{number:02}" for number in range(40)]
    await a_night_before(engine, {customer: 1_000_000 if customer == "c39" else 1 for customer in customers})
    run = await add_run(engine, *customers, shard_size=2)

    shards = await cut(engine, run)
    assert [customers for _, customers, _, _ in shards[:4]] == [8, 8, 8, 8]
    assert [number for number, *_ in shards] == list(range(len(shards)))


async def test_who_is_new_counts_as_the_average(engine: AsyncEngine) -> None:
    await a_night_before(engine, {"a": 300, "b": 100})
    run = await add_run(engine, "a", "b", "new", shard_size=1000)
    assert await cut(engine, run) == [(0, 3, 0, 600)]


async def cut(engine: AsyncEngine, run: Run) -> list[tuple[int, int, int, int | None]]:
    """The shards as they are written down, which is as the slates are cut."""
    shards = await read_shards(engine, run.run_id)
    counted = await read(
        engine, "SELECT shard, count(*) FROM slates WHERE run_id = :run_id GROUP BY 1 ORDER BY 1", run_id=run.run_id
    )
    assert [(it.shard, it.customers) for it in shards] == counted
    assert {it.state for it in shards} == {ShardState.WAITING}
    return [(it.shard, it.customers, it.customers_before, it.tokens) for it in shards]


async def a_night_before(engine: AsyncEngine, tokens: dict[str, int]) -> None:
    """A published night in which each of these customers took so many tokens."""
    run = await add_run(engine, *tokens)
    await end_slates(engine, run, dict.fromkeys(tokens, "complete"))
    for customer, number in tokens.items():
        await change(
            engine,
            "UPDATE slates SET tokens_in = :number WHERE customer_id = :customer",
            number=number,
            customer=customer,
        )
    await begin_run(engine, run.run_id)
    await end_run(engine, run.run_id, RunState.FINISHED)
    await publish_by_hand(engine, run.run_id, Gates(), force=True)
