"""The caps on a run and a day: kept exactly over processes, deaths, restarts of Postgres and callers that leave."""

import asyncio
import multiprocessing
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.budgets import Budget, Caps, Spend, open_budget
from pipeline.database import open_connection, open_engine
from pipeline.domain import RunId
from pipeline.embedded_postgres import discard_embedded_postgres, embedded_postgres
from pipeline.errors import BudgetSpentError, DatabaseUnavailableError
from pipeline.schema import migrate
from pipeline.spending import Spender, Turn
from tests.fixtures.shop import add_run, change, read, scalar

BOUND_S = 60.0  # of every wait: what takes longer has failed
BOUND = Spend(Decimal("0.10"), 1_000)
ACTUAL = Spend(Decimal("0.03"), 300)
THAT_WAIT = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture
async def run_id(engine: AsyncEngine) -> RunId:
    """A planned run of one customer."""
    return (await add_run(engine, "c")).run_id


async def spent(engine: AsyncEngine, scope: str) -> tuple[object, ...]:
    (row,) = await read(engine, "SELECT cost, tokens FROM spending WHERE scope = :scope", scope=scope)
    return row


@asynccontextmanager
async def opened(url: str, run_id: RunId, caps: Caps, patience: int = 2) -> AsyncIterator[Budget]:
    async with asyncio.timeout(BOUND_S), open_budget(url, run_id, "UTC", caps, patience=patience) as budget:
        yield budget


async def until_it_is_spent(budget: Budget, *, settling: Spend | None = None) -> int:
    """How many requests are sent one after another before the budget refuses one."""
    sent = 0
    while True:
        try:
            await budget.reserve(BOUND)
        except BudgetSpentError:
            return sent
        sent += 1
        if settling is not None:
            budget.settle(BOUND, settling)


async def test_what_is_reserved_and_settled_stands_in_both_rows(
    engine: AsyncEngine, database_url: str, run_id: RunId
) -> None:
    async with opened(database_url, run_id, Caps(run_cost=Decimal(1))) as budget:
        await budget.reserve(BOUND)
        assert await spent(engine, "run") == await spent(engine, "day") == (BOUND.cost, BOUND.tokens)
        budget.settle(BOUND, ACTUAL)
    assert await spent(engine, "run") == await spent(engine, "day") == (ACTUAL.cost, ACTUAL.tokens)
    assert await scalar(engine, "SELECT count(*) FROM spenders") == 0


async def test_without_caps_nobody_is_asked(engine: AsyncEngine, run_id: RunId) -> None:
    async with opened("postgresql://127.0.0.1:1/nowhere", run_id, Caps()) as budget:
        await budget.reserve(BOUND)
        budget.settle(BOUND, ACTUAL)
    assert await scalar(engine, "SELECT count(*) FROM spending") == 0


@pytest.mark.parametrize(
    ("caps", "sent", "name"),
    [
        (Caps(run_cost=Decimal("0.35")), 3, "budget_per_run"),
        (Caps(day_cost=Decimal("0.35")), 3, "budget_per_day"),
        (Caps(run_tokens=4_999), 4, "token_budget_per_run"),
        (Caps(day_tokens=5_000), 5, "token_budget_per_day"),
        (Caps(run_cost=Decimal(9), day_cost=Decimal(9), run_tokens=2_000, day_tokens=9_000), 2, "token_budget_per_run"),
    ],
)
async def test_no_request_is_sent_that_could_pass_a_cap_and_the_refusal_names_it(
    engine: AsyncEngine, database_url: str, run_id: RunId, caps: Caps, sent: int, name: str
) -> None:
    async with opened(database_url, run_id, caps) as budget:
        assert await until_it_is_spent(budget, settling=BOUND) == sent
        with pytest.raises(BudgetSpentError, match=rf"^{name} is spent: .*, and the next request can come to .*resume"):
            await budget.reserve(BOUND)
    assert await spent(engine, "run") == (BOUND.cost * sent, BOUND.tokens * sent)


async def test_the_refusal_says_how_much_is_spent(database_url: str, run_id: RunId) -> None:
    async with opened(database_url, run_id, Caps(run_cost=Decimal("0.25"), currency="EUR")) as budget:
        await until_it_is_spent(budget, settling=ACTUAL)
        with pytest.raises(BudgetSpentError) as refused:
            await budget.reserve(BOUND)
    assert str(refused.value) == (
        "budget_per_run is spent: 0.18 of 0.25 EUR, and the next request can come to 0.1: raise it, then "
        "`recstream resume`, or `recstream recommend` anew for one customer"
    )


async def test_a_request_that_does_not_fit_waits_for_those_in_flight(database_url: str, run_id: RunId) -> None:
    async with opened(database_url, run_id, Caps(run_cost=Decimal("0.20"))) as budget:
        await budget.reserve(BOUND)
        await budget.reserve(BOUND)
        third = asyncio.create_task(budget.reserve(BOUND))
        await asyncio.wait({third}, timeout=0.1)
        assert not third.done()
        budget.settle(BOUND, ACTUAL)
        await asyncio.wait({third}, timeout=0.1)
        budget.settle(BOUND, ACTUAL)
        await third
        budget.settle(BOUND, ACTUAL)


async def test_what_one_process_gives_back_lets_another_go_on(database_url: str, run_id: RunId) -> None:
    caps = Caps(run_cost=Decimal("0.10"))
    async with opened(database_url, run_id, caps) as one, opened(database_url, run_id, caps, patience=1_000) as other:
        await one.reserve(BOUND)
        waiting = asyncio.create_task(other.reserve(BOUND))
        await asyncio.wait({waiting}, timeout=0.1)
        assert not waiting.done()
        one.settle(BOUND, Spend())
        await waiting
        other.settle(BOUND, Spend())


async def test_requests_are_admitted_in_the_order_in_which_they_came(database_url: str, run_id: RunId) -> None:
    order: list[int] = []

    async def ask(budget: Budget, number: int) -> None:
        await budget.reserve(BOUND)
        order.append(number)
        await asyncio.sleep(0)
        budget.settle(BOUND, ACTUAL)

    async with opened(database_url, run_id, Caps(run_cost=Decimal(100))) as budget, asyncio.TaskGroup() as asking:
        for number in range(300):
            asking.create_task(ask(budget, number))
    assert order == list(range(300))


async def test_many_that_wait_are_admitted_in_few_statements(database_url: str, run_id: RunId) -> None:
    turns: list[int] = []

    class Counted(Spender):
        async def take(self, turn: Turn) -> object:  # type: ignore[override]  # what it returns is passed on
            turns.append(len(turn.bounds))
            return await super().take(turn)

    budget = Budget(Caps(run_cost=Decimal(1000)))
    spender = Counted(database_url, run_id, "UTC", Caps(run_cost=Decimal(1000)))
    running = asyncio.create_task(budget.run(spender))
    async with asyncio.timeout(BOUND_S):
        await asyncio.gather(*(budget.reserve(BOUND) for _ in range(500)))
        budget.leave()
        await running
        await spender.close()
    assert sum(turns) == 500
    assert len(turns) <= 3


async def test_a_request_that_comes_during_a_turn_is_not_asked_for_without_a_pause(
    database_url: str, run_id: RunId
) -> None:
    caps = Caps(run_cost=Decimal("0.10"))
    turns: list[Turn] = []
    late: list[asyncio.Task[None]] = []
    came = asyncio.Event()

    class Interrupted(Spender):
        async def take(self, turn: Turn) -> object:  # type: ignore[override]  # what it returns is passed on
            turns.append(turn)
            if not turn.bounds:  # it only gives back
                late.append(asyncio.create_task(budget.reserve(BOUND)))
                came.set()
                await asyncio.sleep(0)
            return await super().take(turn)

    budget = Budget(caps)
    spender = Interrupted(database_url, run_id, "UTC", caps)
    async with asyncio.timeout(BOUND_S):
        running = asyncio.create_task(budget.run(spender))
        await budget.reserve(BOUND)
        budget.settle(BOUND, ACTUAL)
        await came.wait()
        with pytest.raises(BudgetSpentError):
            await late[0]
        budget.leave()
        await running
        await spender.close()
    assert len(turns) <= 6


async def test_a_caller_that_leaves_keeps_nothing_reserved(
    engine: AsyncEngine, database_url: str, run_id: RunId
) -> None:
    async with opened(database_url, run_id, Caps(run_cost=Decimal(50))) as budget:
        asking = [asyncio.create_task(budget.reserve(BOUND)) for _ in range(200)]
        stays = asyncio.create_task(budget.reserve(BOUND))
        await asyncio.sleep(0)
        for number, task in enumerate(asking):
            if number % 3 == 0:
                await asyncio.sleep(0)
            task.cancel()
        ended = await asyncio.gather(*asking, return_exceptions=True)
        for end in ended:
            if end is None:
                budget.settle(BOUND, Spend())
        await stays
        budget.settle(BOUND, ACTUAL)
    assert await spent(engine, "run") == (ACTUAL.cost, ACTUAL.tokens)


async def test_a_caller_that_leaves_while_it_is_admitted_gives_its_bound_back(
    engine: AsyncEngine, database_url: str, run_id: RunId
) -> None:
    budget = Budget(Caps(run_cost=Decimal(1)))
    leaving: list[asyncio.Task[None]] = []

    class Late(Spender):
        async def take(self, turn: Turn) -> object:  # type: ignore[override]  # what it returns is passed on
            standing = await super().take(turn)
            for task in leaving:
                task.cancel()
            return standing

    spender = Late(database_url, run_id, "UTC", Caps(run_cost=Decimal(1)))
    running = asyncio.create_task(budget.run(spender))
    leaving.append(asyncio.create_task(budget.reserve(BOUND)))
    async with asyncio.timeout(BOUND_S):
        await asyncio.wait(leaving)
        budget.leave()
        await running
        await spender.close()
    assert leaving[0].cancelled()
    assert await spent(engine, "run") == (0, 0)


async def test_a_request_that_came_to_more_than_its_bound_is_counted_in_full(
    engine: AsyncEngine, database_url: str, run_id: RunId
) -> None:
    async with opened(database_url, run_id, Caps(run_cost=Decimal(1))) as budget:
        await budget.reserve(ACTUAL)
        budget.settle(ACTUAL, BOUND)
    assert await spent(engine, "run") == (BOUND.cost, BOUND.tokens)


async def test_parts_of_the_smallest_amount_are_never_lost_to_the_spender(
    engine: AsyncEngine, database_url: str, run_id: RunId
) -> None:
    tiny = Spend(Decimal("0.0000000001"), 1)
    async with opened(database_url, run_id, Caps(run_cost=Decimal(1))) as budget:
        for _ in range(10):
            await budget.reserve(BOUND)
            budget.settle(BOUND, tiny)
    assert await spent(engine, "run") == (Decimal("0.00000010"), 10)


async def test_a_cap_that_is_raised_later_lets_the_run_go_on(database_url: str, run_id: RunId) -> None:
    async with opened(database_url, run_id, Caps(run_cost=Decimal("0.20"))) as budget:
        assert await until_it_is_spent(budget, settling=BOUND) == 2
    async with opened(database_url, run_id, Caps(run_cost=Decimal("0.50"))) as budget:
        assert await until_it_is_spent(budget, settling=BOUND) == 3


async def test_a_cap_that_is_set_midway_counts_what_the_ledger_says_was_spent(
    engine: AsyncEngine, database_url: str
) -> None:
    run = await add_run(engine, "c")
    for attempt, moment in ((1, "now()"), (2, "now() - interval '2 days'")):
        await change(
            engine,
            "INSERT INTO llm_calls (run_id, day, customer_id, attempt, lease, ending, tokens_in, tokens_out, cost,"
            f" started_at) VALUES (:run_id, :day, 'c', :attempt, 1, 'complete', 900, 100, 0.25, {moment})",
            run_id=run.run_id,
            day=run.day,
            attempt=attempt,
        )
    async with opened(database_url, run.run_id, Caps(run_cost=Decimal(9))) as budget:
        await budget.reserve(BOUND)
        budget.settle(BOUND, Spend())
    assert await spent(engine, "run") == (Decimal("0.5"), 2_000)
    assert await spent(engine, "day") == (Decimal("0.25"), 1_000)


async def test_what_was_spent_while_there_were_no_caps_counts_when_they_are_back(
    engine: AsyncEngine, database_url: str
) -> None:
    run = await add_run(engine, "c")
    caps = Caps(run_tokens=2_500)
    async with opened(database_url, run.run_id, caps) as budget:
        await budget.reserve(BOUND)
        budget.settle(BOUND, BOUND)
    await change(
        engine,
        "INSERT INTO llm_calls (run_id, day, customer_id, attempt, lease, ending, tokens_in, tokens_out, started_at)"
        " VALUES (:run_id, :day, 'c', 1, 1, 'complete', 1900, 100, now())",
        run_id=run.run_id,
        day=run.day,
    )
    async with opened(database_url, run.run_id, caps) as budget:
        assert await until_it_is_spent(budget, settling=BOUND) == 0
    assert await spent(engine, "run") == await spent(engine, "day") == (BOUND.cost, 2_000)


async def test_a_process_that_was_forgotten_introduces_itself_again_and_its_turn_is_counted_once(
    engine: AsyncEngine, database_url: str, run_id: RunId
) -> None:
    spender = Spender(database_url, run_id, "UTC", Caps(run_cost=Decimal(9)))
    await spender.take(Turn(1, Spend(), 0, [BOUND]))
    await change(engine, "DELETE FROM spenders")

    standing = await spender.take(Turn(2, BOUND, 0, [BOUND, BOUND]))

    await spender.close()
    assert standing.admitted == 2
    assert await spent(engine, "run") == await spent(engine, "day") == (BOUND.cost * 2, BOUND.tokens * 2)
    assert await scalar(engine, "SELECT in_flight FROM spenders") == 2


async def test_the_day_is_the_shops_own(engine: AsyncEngine, database_url: str, run_id: RunId) -> None:
    zones = ("Pacific/Kiritimati", "Pacific/Niue")  # 25 hours apart: never the same day
    for zone in zones:
        async with asyncio.timeout(BOUND_S), open_budget(database_url, run_id, zone, Caps(day_tokens=1_000)) as budget:
            await budget.reserve(BOUND)
            budget.settle(BOUND, BOUND)
    days = await read(engine, "SELECT key, tokens FROM spending WHERE scope = 'day' ORDER BY key")
    assert [tokens for _, tokens in days] == [1_000, 1_000]
    assert len({key for key, _ in days}) == 2


async def test_a_turn_that_was_committed_unseen_is_counted_once(
    engine: AsyncEngine, database_url: str, run_id: RunId
) -> None:
    caps = Caps(run_cost=Decimal("0.25"))
    spender = Spender(database_url, run_id, "UTC", caps)
    turn = Turn(1, Spend(), 0, [BOUND, BOUND, BOUND])
    first = await spender.take(turn)
    await spender.close()
    again = await spender.take(turn)
    assert first.admitted == again.admitted == 2
    assert await spent(engine, "run") == (BOUND.cost * 2, BOUND.tokens * 2)
    back = Turn(2, BOUND, 1, [])
    for _ in range(3):
        await spender.take(back)
    await spender.close()
    assert await spent(engine, "run") == (BOUND.cost, BOUND.tokens)
    assert await scalar(engine, "SELECT in_flight FROM spenders") == 1


async def test_a_turn_that_overtakes_itself_is_counted_once(
    admin: AsyncEngine, database_url: str, run_id: RunId
) -> None:
    caps = Caps(run_cost=Decimal(9))
    one, other = (Spender(database_url, run_id, "UTC", caps) for _ in range(2))
    other.__dict__.update({name: getattr(one, name) for name in ("_run", "_caps", "_spender")})
    await one.take(Turn(1, Spend(), 0, []))
    async with admin.begin() as connection:  # what holds them both up until they are both there
        await connection.execute(text("SELECT FROM spending FOR UPDATE"))
        turns = [asyncio.create_task(each.take(Turn(2, Spend(), 0, [BOUND]))) for each in (one, other)]
        async with asyncio.timeout(BOUND_S):
            while await scalar(admin, THAT_WAIT) != 2:  # noqa: ASYNC110 - only the server knows
                await asyncio.sleep(0.01)
    standings = await asyncio.gather(*turns)
    await asyncio.gather(one.close(), other.close())
    assert [standing.admitted for standing in standings] == [1, 1]
    assert await spent(admin, "run") == (BOUND.cost, BOUND.tokens)


async def test_a_dead_process_keeps_what_it_had_reserved_and_is_not_waited_for_for_ever(
    engine: AsyncEngine, database_url: str, run_id: RunId
) -> None:
    caps = Caps(run_cost=Decimal("0.15"))
    dead = Spender(database_url, run_id, "UTC", caps)
    await dead.take(Turn(1, Spend(), 0, [BOUND]))
    await dead.close()
    async with opened(database_url, run_id, caps, patience=2) as budget:
        assert await until_it_is_spent(budget) == 0
    assert await spent(engine, "run") == (BOUND.cost, BOUND.tokens)


async def test_nobody_reserves_once_the_budget_is_closed(database_url: str, run_id: RunId) -> None:
    async with opened(database_url, run_id, Caps(run_cost=Decimal("0.10"))) as budget:
        await budget.reserve(BOUND)
        waiting = asyncio.create_task(budget.reserve(BOUND))
        await asyncio.wait({waiting}, timeout=0.1)
    for asking in (waiting, budget.reserve(BOUND)):
        with pytest.raises(DatabaseUnavailableError, match="closed"):
            await asking


def spend_in_a_process(
    url: str, run_id: RunId, cap: Decimal, seed: int, told: "multiprocessing.Queue[Decimal]"
) -> None:
    """A process with 16 in flight that spends until it is refused, and tells what its requests truly came to."""
    asyncio.run(_spend(url, run_id, cap, seed, told))


async def _spend(url: str, run_id: RunId, cap: Decimal, seed: int, told: "multiprocessing.Queue[Decimal]") -> None:
    chance = random.Random(seed)
    truly = Decimal(0)

    async def ask(budget: Budget) -> None:
        nonlocal truly
        while True:
            bound = Decimal(chance.randint(1_000, 2_000)) / 1_000_000
            await budget.reserve(Spend(bound, 10))
            truly += (actual := bound * chance.randint(20, 100) / 100)
            await asyncio.sleep(chance.random() / 500)
            budget.settle(Spend(bound, 10), Spend(actual, 5))

    async with open_budget(url, run_id, "UTC", Caps(run_cost=cap)) as budget:
        ended = await asyncio.gather(*(ask(budget) for _ in range(16)), return_exceptions=True)
    assert all(isinstance(end, BudgetSpentError) for end in ended), ended
    told.put(truly)


async def test_processes_together_come_close_to_the_cap_and_never_pass_it(
    engine: AsyncEngine, database_url: str, run_id: RunId
) -> None:
    cap = Decimal("1.5")
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[Decimal] = context.Queue()
    processes = [
        context.Process(target=spend_in_a_process, args=(database_url, run_id, cap, seed, told)) for seed in range(4)
    ]
    for process in processes:
        process.start()
    try:
        truly = [await asyncio.to_thread(told.get, timeout=BOUND_S) for _ in processes]
    finally:
        for process in processes:
            process.kill()
            process.join()
    assert sum(truly) <= cap
    assert sum(truly) > cap * Decimal("0.99")
    (cost, _) = await spent(engine, "run")
    assert isinstance(cost, Decimal)
    assert 0 <= cost - sum(truly) < Decimal("0.0001")  # rounded up to what the table holds, for each request


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a server that a test may stop and start."""
    folder = tmp_path_factory.mktemp("restarted")
    yield folder
    discard_embedded_postgres(folder)


class Watched(Spender):
    """Says when its connection was lost."""

    lost: asyncio.Event

    async def close(self) -> None:
        self.lost.set()
        await super().close()


async def test_a_restart_of_postgres_loses_no_reservation_and_gives_nothing_back_twice(folder: Path) -> None:
    with ExitStack() as running:
        url = running.enter_context(embedded_postgres(folder)).url()
        migrate(url)
        async with open_engine(url, connections=2) as engine:
            run = await add_run(engine, "c")
        caps = Caps(run_cost=Decimal(100))
        large = Spend(Decimal(6), 60_000)  # more than is held for requests that will come
        budget, spender = Budget(caps), Watched(url, run.run_id, "UTC", caps)
        spender.lost = asyncio.Event()
        taking_turns = asyncio.create_task(budget.run(spender))
        async with asyncio.timeout(BOUND_S):
            await asyncio.gather(*(budget.reserve(BOUND) for _ in range(20)))
            running.close()
            for _ in range(10):
                budget.settle(BOUND, ACTUAL)
            more = [asyncio.create_task(budget.reserve(large)) for _ in range(5)]
            await spender.lost.wait()
            assert not [task for task in more if task.done()]
            running.enter_context(embedded_postgres(folder))
            await asyncio.gather(*more)
            for bound in [BOUND] * 10 + [large] * 5:
                budget.settle(bound, ACTUAL)
            budget.leave()
            await taking_turns
            await spender.leave()
        with open_connection(url) as connection:
            rows = connection.execute("SELECT cost, tokens FROM spending").fetchall()
    assert rows == [(ACTUAL.cost * 25, ACTUAL.tokens * 25)] * 2
