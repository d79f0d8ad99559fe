"""How a flow ends that is told to from outside, in this process: by SIGTERM, by Prefect, by Ctrl-C."""

import asyncio
import os
import re
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Completed
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.cli.own_thread import own_thread
from flows.endings import Ending, ended_in_order
from pipeline.domain import OrderKind, RunKind, RunState
from pipeline.errors import CalledOffError, ConfigurationError, RunHaltedError, ShutDownError
from pipeline.gates import Gates
from pipeline.night import working_on
from pipeline.orders import give_order, take_no_more_orders
from pipeline.run_states import end_run
from pipeline.runs import Run, plan_run
from tests.fixtures.prefect_runs import LEAVES_SOCKETS, PATIENCE_S
from tests.fixtures.shop import RANKER, add_customer, add_product, read, scalar

pytestmark = [pytest.mark.usefixtures("prefect_in_reach"), LEAVES_SOCKETS]
Body = Callable[[Ending], Coroutine[Any, Any, State[Any]]]
BY_SOMEBODY = r"cancelled by somebody in Prefect, as .+@.+ heard"


@flow(name="ends", persist_result=False)
async def ends(body: Any) -> State[Any]:
    """A flow of nothing but its ending."""
    return await ended_in_order(body)


class Work:
    """What a flow is at when it is told to end: it sees that it has begun, and why it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.flow_run_id: UUID | None = None
        self.why: object = None

    async def __call__(self, ending: Ending) -> State[Any]:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        self.flow_run_id = context.flow_run.id
        self.begun.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        except asyncio.CancelledError as error:
            await asyncio.sleep(0)  # what it still has to say takes its time
            self.why = error.args[0]
            raise
        return Completed()


async def run(body: Body) -> State[Any]:
    state: State[Any] = await ends(body, return_state=True)
    return state


async def cancel_in_prefect(flow_run_id: UUID | None) -> None:
    """As its page and `prefect flow-run cancel` do."""
    assert flow_run_id is not None
    async with get_client() as client:
        await client.set_flow_run_state(flow_run_id, State(type=StateType.CANCELLING))


@pytest.fixture
def sigterms() -> Iterator[list[int]]:
    """What reaches the handler that was there before, which a test outlives."""
    heard: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    yield heard
    signal.signal(signal.SIGTERM, former)


@pytest.fixture
async def planned(engine: AsyncEngine) -> Run:
    await add_product(engine, "1")
    await add_customer(engine, "a")
    return await plan_run(engine, RunKind.NIGHTLY, RANKER, slate_size=1, shard_size=1)


async def test_a_flow_that_is_left_alone_ends_in_its_own_state(sigterms: list[int]) -> None:
    async def body(_: Ending) -> State[Any]:
        return Completed(message="all is well")

    assert (await run(body)).message == "all is well"


async def test_a_flow_that_prefect_cancels_unwinds_and_is_cancelled_with_who_and_why(sigterms: list[int]) -> None:
    work = Work()
    running = asyncio.create_task(run(work))
    await work.begun.wait()
    await cancel_in_prefect(work.flow_run_id)
    os.kill(os.getpid(), signal.SIGTERM)

    state = await running

    assert state.is_cancelled()
    assert re.fullmatch(BY_SOMEBODY, state.message or "")
    assert isinstance(work.why, CalledOffError)
    assert sigterms == []


async def test_a_process_that_is_shut_down_ends_its_flow_first_which_is_crashed_and_not_cancelled(
    sigterms: list[int],
) -> None:
    work = Work()
    running = asyncio.create_task(run(work))
    await work.begun.wait()
    os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TerminationSignal):
        await running

    assert isinstance(work.why, ShutDownError)
    assert sigterms == [signal.SIGTERM], "Prefect hands the signal on"
    assert work.flow_run_id is not None
    async with get_client() as client:
        state = (await client.read_flow_run(work.flow_run_id)).state
    assert state is not None
    assert state.is_crashed()


def test_a_flow_in_a_thread_of_its_own_hears_of_its_cancellation_by_asking() -> None:
    begun: list[Work] = []

    async def thread() -> State[Any]:
        begun.append(Work())
        running = asyncio.create_task(run(begun[0]))
        await begun[0].begun.wait()
        await cancel_in_prefect(begun[0].flow_run_id)
        return await running

    with own_thread(thread) as running:
        state = running.result(PATIENCE_S)
    assert state.is_cancelled()
    assert re.fullmatch(BY_SOMEBODY, state.message or "")


async def test_a_flow_that_is_interrupted_unwinds_and_is_cancelled(sigterms: list[int]) -> None:
    work = Work()
    running = asyncio.create_task(run(work))
    await work.begun.wait()
    running.cancel()

    state = await running

    assert state.is_cancelled()
    assert state.message == "interrupted"
    assert isinstance(work.why, RunHaltedError)


async def test_a_cancellation_in_prefect_is_an_order_of_the_run_that_its_ledger_tells(
    engine: AsyncEngine, database_url: str, planned: Run, sigterms: list[int]
) -> None:
    work = Work()

    async def body(ending: Ending) -> State[Any]:
        ending.cancels(database_url, planned.run_id)
        async with working_on(engine, planned, Gates()):
            return await work(ending)

    running = asyncio.create_task(run(body))
    await work.begun.wait()
    await cancel_in_prefect(work.flow_run_id)
    os.kill(os.getpid(), signal.SIGTERM)

    state = await running

    assert await read(engine, "SELECT kind FROM run_orders") == [("cancel",)]
    ((ledger, reason),) = await read(engine, "SELECT state, reason FROM runs")
    assert ledger == "cancelled"
    assert re.match(rf"{BY_SOMEBODY} \(as .+\) at .+ UTC; `recstream resume` goes on", str(reason))
    assert state.is_cancelled()
    assert state.message is not None
    assert str(reason).startswith(state.message)


async def test_a_run_that_was_cancelled_by_name_before_keeps_its_reason(
    engine: AsyncEngine, database_url: str, planned: Run, sigterms: list[int]
) -> None:
    await give_order(engine, planned.run_id, OrderKind.CANCEL)
    work = Work()

    async def body(ending: Ending) -> State[Any]:
        ending.cancels(database_url, planned.run_id)
        return await work(ending)

    running = asyncio.create_task(run(body))
    await work.begun.wait()
    await cancel_in_prefect(work.flow_run_id)
    os.kill(os.getpid(), signal.SIGTERM)
    assert "Prefect" not in str((await running).message)
    assert await scalar(engine, "SELECT count(*) FROM run_orders") == 1


async def test_a_run_that_is_being_published_is_not_cancelled_any_more(
    engine: AsyncEngine, database_url: str, planned: Run
) -> None:
    await take_no_more_orders(engine, planned.run_id)
    ending = Ending()
    ending.cancels(database_url, planned.run_id)
    assert await ending.cancel() is None
    assert await scalar(engine, "SELECT count(*) FROM run_orders") == 0


async def test_a_run_that_was_taken_for_dead_takes_no_order_and_its_flow_ends_alone(
    engine: AsyncEngine, database_url: str, planned: Run
) -> None:
    await end_run(engine, planned.run_id, RunState.FAILED, "its process died", interrupted=True)
    ending = Ending()
    ending.cancels(database_url, planned.run_id)
    assert isinstance(await ending.cancel(), CalledOffError)


async def test_an_error_that_a_person_has_to_mend_is_one_line_and_a_defect_is_told_whole() -> None:
    async def wrong(_: Ending) -> State[Any]:
        raise ConfigurationError("the model is set to nothing: set RECSTREAM_MODEL")

    async def broken(_: Ending) -> State[Any]:
        raise KeyError("a defect")

    state = await run(wrong)
    assert state.is_failed()
    assert state.message == "the model is set to nothing: set RECSTREAM_MODEL"
    with pytest.raises(ConfigurationError):
        await state.aresult()
    assert "KeyError" in str((await run(broken)).message)
