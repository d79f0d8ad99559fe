"""Who is let out and does not go, or is cancelled while he waits, leaves nothing taken behind him."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.admission import Admission
from pipeline.budgets import Budget, Caps, open_budget
from pipeline.domain import AnswerRecord, CustomerId
from pipeline.errors import BudgetSpentError, EndpointUnreachableError
from pipeline.orders import Hands, Order, StandingOrders
from pipeline.prompts import Prompt
from pipeline.retrying.breaker import Breaker
from pipeline.retrying.failures import Case
from pipeline.routes import Prices, Route, open_route
from pipeline.runs import Run
from tests.fixtures.scripted_endpoint import Answer, scripted_endpoint
from tests.fixtures.shop import add_run, comes_to, read

PROMPT = Prompt("You rank products.", "1. Oak chair", asked=3)
PATIENCE_S = 60.0
SPENT = "SELECT tokens FROM spending WHERE scope = 'run'"


@pytest.fixture
async def run(engine: AsyncEngine) -> Run:
    return await add_run(engine, CustomerId("c"))


@pytest.fixture
async def route() -> AsyncIterator[Route]:
    async with (
        scripted_endpoint(Answer([])) as scripted,
        open_route(scripted.endpoint(), concurrency=1, patience_s=PATIENCE_S, prices=Prices()) as opened,
    ):
        yield opened


@pytest.fixture
async def budget(database_url: str, run: Run) -> AsyncIterator[Budget]:
    async with open_budget(database_url, run.run_id, "UTC", Caps(run_tokens=10_000)) as opened:
        yield opened


async def may_be_asked(route: Route) -> None:
    """Nothing of the route is taken: its one place is free."""
    async with asyncio.timeout(PATIENCE_S):
        permit = await route.limiter.admit(1)
        permit.end(AnswerRecord(), None)
        (await route.breaker.admit()).leave()
    assert route.limiter.report().in_flight == 0


async def test_what_the_budget_refuses_takes_no_place_at_the_endpoint(
    run: Run, route: Route, database_url: str
) -> None:
    async with open_budget(database_url, run.run_id, "UTC", Caps(run_tokens=1)) as nearly_nothing:
        for _ in range(3):
            with pytest.raises(BudgetSpentError):
                async with Admission(Hands(run.run_id), nearly_nothing).admitted(PROMPT, [route], ()):
                    pytest.fail("it was let out")

    await may_be_asked(route)


async def test_who_is_let_out_and_sends_nothing_costs_nothing(
    run: Run, route: Route, budget: Budget, engine: AsyncEngine
) -> None:
    async with Admission(Hands(run.run_id), budget).admitted(PROMPT, [route], ()):
        pass

    await may_be_asked(route)
    await comes_to(engine, SPENT, 0)


async def test_a_request_that_was_left_gives_its_place_back_and_may_have_cost_all(
    run: Run, route: Route, budget: Budget, engine: AsyncEngine
) -> None:
    async with Admission(Hands(run.run_id), budget).admitted(PROMPT, [route], ()) as leave:
        leave.abandon(AnswerRecord())
        leave.end(AnswerRecord(), None, Case())  # what comes later is ignored

    await may_be_asked(route)
    assert await read(engine, f"{SPENT} AND tokens >= 500")


async def test_a_pause_that_is_ordered_while_somebody_waits_is_no_outage(
    run: Run, route: Route, budget: Budget
) -> None:
    now, gone, hands = 0.0, EndpointUnreachableError("no answer"), Hands(run.run_id)
    route = replace(route, breaker=Breaker("http://x/v1", 900.0, clock=lambda: now))
    (await route.breaker.admit()).end(gone)
    held = await route.limiter.admit(1)

    async def ask() -> None:
        async with Admission(hands, budget).admitted(PROMPT, [route], ()) as leave:
            leave.end(AnswerRecord(), gone, Case())

    asking = asyncio.create_task(ask())
    async with asyncio.timeout(PATIENCE_S):
        while route.limiter.report().demand < 2:  # noqa: ASYNC110 - that somebody waits is told by no event
            await asyncio.sleep(0.01)
        hands.obey(StandingOrders(pause=Order("somebody", datetime.now(UTC))), None)
        held.end(AnswerRecord(), None)
        while route.limiter.report().in_flight < 1:  # noqa: ASYNC110 - nor that he goes on
            await asyncio.sleep(0.01)
        now = 1_000.0
        hands.obey(StandingOrders(), None)
        await asking
    assert not route.breaker.is_out


@pytest.mark.parametrize("where", ["orders", "limiter"])
async def test_who_is_cancelled_while_he_waits_takes_nothing_with_him(
    where: str, run: Run, route: Route, budget: Budget
) -> None:
    hands = Hands(run.run_id)
    admission = Admission(hands, budget)
    held = await route.limiter.admit(1) if where == "limiter" else None

    async def ask() -> None:
        async with admission.admitted(PROMPT, [route], ()):
            pytest.fail("it was let out")

    if where == "orders":
        hands.obey(StandingOrders(pause=Order("somebody", datetime.now(UTC))), None)
    waiting = [asyncio.create_task(ask()) for _ in range(5)]
    await asyncio.sleep(0.05)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert all(task.cancelled() for task in waiting)

    if held is not None:
        held.end(AnswerRecord(), None)
    hands.obey(StandingOrders(), None)
    await may_be_asked(route)
    async with asyncio.timeout(PATIENCE_S), admission.admitted(PROMPT, [route], ()):
        pass
