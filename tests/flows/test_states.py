"""Prefect's states of runs that did not come to their end: they say what the ledger says, in one line."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import OrderKind
from pipeline.errors import (
    BudgetSpentError,
    ConfigurationError,
    DatabaseUnavailableError,
    EndpointFatalError,
    RecstreamError,
    RunHaltedError,
)
from pipeline.offline_ranker.faults import Fault
from pipeline.orders import give_order
from pipeline.runs import RunSummary
from tests.fixtures.misbehaving_ranker import MisbehavingRanker
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, PATIENCE_S, run_nightly, run_on_demand
from tests.fixtures.shop import add_customer, add_product, comes_to, read, scalar

pytestmark = [pytest.mark.usefixtures("_settings_of_the_flows"), LEAVES_SOCKETS]


@pytest.fixture
async def shop(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve products, three customers who are served one after the other, and one attempt for each."""
    for number in range(1, 13):
        await add_product(engine, str(number), f"Product {number}")
    for customer in ("a", "b", "c"):
        await add_customer(engine, customer)
    monkeypatch.setenv("RECSTREAM_CONCURRENCY", "1")
    monkeypatch.setenv("RECSTREAM_ATTEMPTS", "1")


async def halted(engine: AsyncEngine, ranker: MisbehavingRanker, kind: OrderKind) -> State[RunSummary]:
    """What a night comes to that is ordered to end while its first answer is on its way."""
    ranker.misbehave(Fault.HELD, hold_after_objects=1)
    night = asyncio.create_task(run_nightly())
    await comes_to(engine, "SELECT count(*) FROM recommendations", 1)
    given = await give_order(engine, None, kind)
    await comes_to(engine, f"SELECT min(heard_of) >= {given.order_id} OR count(*) = 0 FROM run_processes", answer=True)
    ranker.behave()
    return await night


async def message_in_prefect(state: State[RunSummary]) -> str:
    """What the server tells of it, which is what Prefect's page shows."""
    assert state.state_details.flow_run_id is not None
    async with get_client() as client:
        kept = (await client.read_flow_run(state.state_details.flow_run_id)).state
    assert kept is not None
    assert kept.type == state.type
    return str(kept.message)


async def cancelled_shards(state: State[RunSummary]) -> list[str]:
    """What the cancelled task runs of a night tell."""
    assert state.state_details.flow_run_id is not None
    of_the_night = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    async with get_client() as client:
        states = [it.state for it in await client.read_task_runs(flow_run_filter=of_the_night)]
    return [state.message or "" for state in states if state is not None and state.is_cancelled()]


async def test_a_drained_night_is_cancelled_with_its_figures_and_who_drained_it(
    engine: AsyncEngine, shop: None, ranker: MisbehavingRanker
) -> None:
    state = await halted(engine, ranker, OrderKind.DRAIN)
    told = await message_in_prefect(state)
    run_id, reason = (await read(engine, "SELECT run_id, reason FROM runs"))[0]
    assert state.is_cancelled()
    assert told == f"run {run_id}: 1 of 3 customers, 10 rows; {reason}"
    assert str(reason).startswith("drained by ")


async def test_the_shards_of_a_drained_night_are_cancelled_and_not_failed(
    engine: AsyncEngine, shop: None, ranker: MisbehavingRanker
) -> None:
    state = await halted(engine, ranker, OrderKind.DRAIN)
    async with asyncio.timeout(PATIENCE_S):
        while not (told := await cancelled_shards(state)):  # noqa: ASYNC110 - the server sets no event
            await asyncio.sleep(0.1)
    assert [message.split(" by ")[0] for message in told] == ["drained"]


async def test_a_cancelled_night_is_cancelled_with_its_figures_and_who_cancelled_it(
    engine: AsyncEngine, shop: None, ranker: MisbehavingRanker
) -> None:
    state = await halted(engine, ranker, OrderKind.CANCEL)
    told = await message_in_prefect(state)
    run_id, reason = (await read(engine, "SELECT run_id, reason FROM runs"))[0]
    assert state.is_cancelled()
    assert told == f"run {run_id}: 0 of 3 customers, 1 rows; {reason}"
    assert str(reason).startswith("cancelled by ")


async def test_a_night_whose_budget_is_spent_is_cancelled_with_its_figures(
    engine: AsyncEngine, shop: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_TOKEN_BUDGET_PER_RUN", "1")
    state = await run_nightly()
    assert state.is_cancelled()
    assert isinstance(await state.aresult(raise_on_failure=False), BudgetSpentError)
    told = await message_in_prefect(state)
    run_id, reason = (await read(engine, "SELECT run_id, reason FROM runs"))[0]
    assert told == f"run {run_id}: 0 of 3 customers, 0 rows; {reason}"


async def test_a_customer_whose_budget_is_spent_is_cancelled(
    engine: AsyncEngine, shop: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_TOKEN_BUDGET_PER_RUN", "1")
    state = await run_on_demand("a")
    assert state.is_cancelled()
    assert str(state.message).startswith(str(await scalar(engine, "SELECT reason FROM runs")))


@pytest.mark.parametrize(
    ("setting", "value", "kind"),
    [
        ("RECSTREAM_MODEL", "no-such-model", EndpointFatalError),
        ("RECSTREAM_PROMPT", "no-such-prompt", ConfigurationError),
        ("DATABASE_URL", "postgresql://postgres@127.0.0.1:9/shop", DatabaseUnavailableError),
    ],
)
@pytest.mark.parametrize("run_flow", [run_nightly, lambda: run_on_demand("a")], ids=["nightly", "on-demand"])
async def test_what_a_person_has_to_mend_fails_the_flow_run_with_one_line_and_no_traceback(
    shop: None,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    value: str,
    kind: type[RecstreamError],
    run_flow: Callable[[], Awaitable[State[RunSummary]]],
) -> None:
    monkeypatch.setenv(setting, value)
    state = await run_flow()
    assert state.is_failed()
    error = await state.aresult(raise_on_failure=False)
    assert isinstance(error, kind)
    assert not isinstance(error, RunHaltedError)
    told = await message_in_prefect(state)
    assert str(error) in told
    assert len(told.splitlines()) == 1
