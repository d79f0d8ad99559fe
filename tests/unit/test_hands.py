"""What one process obeys: a pause, a drain, a cancelled run and a limit, each with its waiters."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from pipeline.domain import RunId
from pipeline.errors import RunHaltedError
from pipeline.orders import Hands, Order, StandingOrders
from pipeline.orders.places import Places

GIVEN = Order("anna@shop-1 (as service)", datetime(2026, 11, 23, 3, 4, 5, tzinfo=UTC))
NOTHING = StandingOrders()
PAUSE, DRAIN, CANCEL = StandingOrders(pause=GIVEN), StandingOrders(drain=GIVEN), StandingOrders(cancel=GIVEN)
LIMIT = StandingOrders(limit=Order("anna", GIVEN.ordered_at, 4))


@pytest.fixture
async def hands() -> Hands:
    return Hands(RunId(uuid4()))


async def settled(turns: int = 20) -> None:
    """Let all that can go on go on."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_where_nothing_is_ordered_no_question_waits(hands: Hands) -> None:
    await hands.may_take_customer()
    await hands.may_ask()
    async with hands.asking(), hands.asking():
        assert hands.concurrency is None


async def test_a_pause_holds_customers_and_requests_until_it_is_ended(hands: Hands) -> None:
    hands.obey(PAUSE, None)

    async def ask() -> None:
        async with hands.asking():
            pass

    waiting = [asyncio.create_task(question) for question in (hands.may_take_customer(), hands.may_ask(), ask())]
    await settled()
    assert [task.done() for task in waiting] == [False] * 3
    hands.obey(NOTHING, None)
    await asyncio.wait_for(asyncio.gather(*waiting), 30)


async def test_a_request_that_is_on_its_way_ends_as_it_would_in_spite_of_a_pause(hands: Hands) -> None:
    async with hands.asking():
        hands.obey(PAUSE, None)
        assert hands.concurrency == 0
    hands.obey(NOTHING, None)
    await hands.may_ask()


async def test_a_drain_lets_open_slates_ask_on_and_ends_with_the_last_of_them(hands: Hands) -> None:
    with hands.customer():
        hands.obey(DRAIN, None)
        taking = asyncio.create_task(hands.may_take_customer())
        await hands.may_ask()
        async with hands.asking():
            await settled()
        assert not taking.done()
    with pytest.raises(
        RunHaltedError, match=r"^drained by anna@shop-1 \(as service\) at 2026-11-23 03:04:05 UTC$"
    ) as halt:
        await asyncio.wait_for(taking, 30)
    assert halt.value.drained


async def test_a_drain_that_is_taken_back_meanwhile_was_never_one(hands: Hands) -> None:
    with hands.customer():
        hands.obey(DRAIN, None)
        taking = asyncio.create_task(hands.may_take_customer())
        await settled()
        hands.obey(NOTHING, None)
        await asyncio.wait_for(taking, 30)


async def test_a_cancelled_run_answers_every_question_with_who_and_when(hands: Hands) -> None:
    hands.obey(CANCEL, None)
    for question in (hands.may_take_customer(), hands.may_ask(), hands.cancelled()):
        with pytest.raises(RunHaltedError, match=r"^cancelled by anna@shop-1 .* UTC$") as halt:
            await question
        assert not halt.value.drained


async def test_who_waits_in_a_pause_hears_that_the_run_is_cancelled(hands: Hands) -> None:
    hands.obey(PAUSE, None)
    waiting = [asyncio.create_task(question) for question in (hands.may_take_customer(), hands.may_ask())]
    await settled()
    hands.obey(StandingOrders(pause=GIVEN, cancel=GIVEN), None)
    for task in waiting:
        with pytest.raises(RunHaltedError):
            await asyncio.wait_for(task, 30)


async def test_work_is_stopped_and_over_before_the_error_is_raised(hands: Hands) -> None:
    cleaned, begun = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await settled()
            cleaned.set()

    working = asyncio.create_task(hands.unless_cancelled(work()))
    await asyncio.wait_for(begun.wait(), 30)
    hands.obey(CANCEL, None)
    with pytest.raises(RunHaltedError):
        await asyncio.wait_for(working, 30)
    assert cleaned.is_set()


async def test_work_that_ends_by_itself_gives_what_it_came_to(hands: Hands) -> None:
    async def work() -> int:
        return 7

    async def fail() -> int:
        raise ValueError("in the work")

    assert await hands.unless_cancelled(work()) == 7
    with pytest.raises(ValueError, match="in the work"):
        await hands.unless_cancelled(fail())
    assert len(asyncio.all_tasks()) == 1


async def test_who_stops_the_work_himself_leaves_nothing_behind(hands: Hands) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    working = asyncio.create_task(hands.unless_cancelled(work()))
    await asyncio.wait_for(begun.wait(), 30)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert len(asyncio.all_tasks()) == 1


async def test_rows_come_until_the_run_is_cancelled_and_their_maker_is_closed(hands: Hands) -> None:
    closed = asyncio.Event()

    async def numbers() -> AsyncGenerator[int]:
        try:
            yield 1
            yield 2
            await asyncio.Event().wait()
        finally:
            closed.set()

    seen = []
    with pytest.raises(RunHaltedError):
        async for number in hands.until_cancelled(numbers()):
            seen.append(number)
            if number == 2:
                asyncio.get_running_loop().call_soon(hands.obey, CANCEL, None)
    assert seen == [1, 2]
    assert closed.is_set()


async def test_who_leaves_the_rows_closes_what_makes_them(hands: Hands) -> None:
    closed = asyncio.Event()

    async def numbers() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            closed.set()

    async with aclosing(hands.until_cancelled(numbers())) as rows:
        async for _ in rows:
            break
    assert closed.is_set()


async def test_rows_that_end_by_themselves_end(hands: Hands) -> None:
    async def numbers() -> AsyncGenerator[int]:
        yield 1
        yield 2

    assert [number async for number in hands.until_cancelled(numbers())] == [1, 2]


async def test_listeners_hear_of_each_change_of_the_limit_and_of_the_pause_as_nothing_at_all(hands: Hands) -> None:
    heard: list[int | None] = []
    hands.tell(heard.append)
    hands.obey(LIMIT, 2)
    hands.obey(LIMIT, 2)
    hands.obey(StandingOrders(limit=LIMIT.limit, pause=GIVEN), 2)
    hands.obey(LIMIT, 4)
    hands.obey(NOTHING, None)
    assert heard == [None, 2, 0, 4, None]


async def test_no_more_requests_than_the_limit_at_a_time_in_the_order_in_which_they_came(hands: Hands) -> None:
    hands.obey(LIMIT, 2)
    order: list[int] = []
    inside = most = 0

    async def ask(number: int) -> None:
        nonlocal inside, most
        async with hands.asking():
            order.append(number)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.wait_for(asyncio.gather(*(ask(number) for number in range(50))), 30)
    assert order == list(range(50))
    assert most == 2


async def test_a_limit_that_is_lowered_waits_for_those_inside_and_one_that_is_raised_lets_in_at_once() -> None:
    places = Places()
    places.allow(3)
    leave = asyncio.Event()

    async def stay() -> None:
        async with places.place():
            await leave.wait()

    tasks = [asyncio.create_task(stay()) for _ in range(6)]
    await settled()
    assert places.taken == 3
    places.allow(1)
    assert places.taken == 3
    places.allow(5)
    assert places.taken == 5
    leave.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert places.taken == 0


async def test_whoever_stops_waiting_takes_no_place() -> None:
    places = Places()
    places.allow(0)

    async def enter() -> None:
        async with places.place():
            pass

    first, second, third = (asyncio.create_task(enter()) for _ in range(3))
    await settled()
    first.cancel()
    places.allow(1)  # the second is let in, and cancelled before it knows
    second.cancel()
    await asyncio.wait_for(third, 30)
    assert [task.cancelled() for task in (first, second)] == [True, True]
    assert places.taken == 0


async def test_each_order_is_said_once_in_the_log(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pipeline.orders")
    for _ in range(3):
        hands.obey(PAUSE, None)
    hands.obey(NOTHING, None)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "paused by anna@shop-1 (as service) at 2026-11-23 03:04:05 UTC: `recstream continue` ends it" in caplog.text
