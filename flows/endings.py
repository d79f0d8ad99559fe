"""Ends a flow in order when it is told to from outside: by a cancellation in Prefect, or with the process it runs in.

Prefect tells a process with SIGTERM, and its own handler raises wherever the event loop happens to be. Here the signal
cancels the flow's body as a task is cancelled: streams are closed, the ledger is told, and only then the flow ends.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, TerminationSignal

from flows.verdicts import verdict_on
from pipeline.database import open_engine
from pipeline.domain import OrderKind, RunId
from pipeline.errors import (
    CalledOffError,
    DatabaseError,
    RecstreamError,
    RunConflictError,
    RunHaltedError,
    ShutDownError,
)
from pipeline.order_book import heard_from
from pipeline.orders import give_order, is_ending, read_standing

PREFECT: Final = "Prefect"
_ASK_EVERY_S: Final = 2.0
_ANSWER_WITHIN_S: Final = 2.0
_LAST_WORD_WITHIN_S: Final = 4.0  # who sent the signal kills after 30 s
_LAST_LINES_WITHIN_S: Final = 4.0

_log = logging.getLogger(__name__)


class Ending:
    """What a cancellation in Prefect ends: the flow alone, or a run in all its processes, once the flow has one."""

    def __init__(self) -> None:
        self._of: tuple[str, RunId] | None = None

    def cancels(self, url: str, run_id: RunId) -> None:
        """From now on a cancellation in Prefect is one of this run, which stands in the database at `url`."""
        self._of = url, run_id

    async def cancel(self) -> RunHaltedError | None:
        """Order it; returns why the flow is to end, None where its run has been served and is ending already."""
        if self._of is None:
            return _alone()
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await _order_cancel(*self._of)
        except (DatabaseError, TimeoutError) as error:
            _log.warning("run %s: its other processes hear of no cancellation: %s", self._of[1], error)
            return _alone()


async def ended_in_order(body: Callable[[Ending], Coroutine[Any, Any, State[Any]]]) -> State[Any]:
    """The state that a flow's body comes to, or what ended it before: an error of ours is a state too.

    Cancelled in Prefect, the body is cancelled and the flow Cancelled. If the process is only being shut down, as a
    worker's are, the body is interrupted, and the flow Crashed: somebody else may take it up.

    Raises:
        TerminationSignal: the process is being shut down. The body has ended in order before.
        Abort: so it has, but Prefect's server does not hear of it. Its engine would try until the process is killed.
    """
    ending, told = Ending(), asyncio.Event()
    working = asyncio.create_task(body(ending))
    try:
        with _sigterm_calls(told.set) as reaches_us:
            why = await _why(working, told, None if reaches_us else _flow_run_id(), ending)
            await _end(working, why)
            if reaches_us and isinstance(why, RunHaltedError) and not await _is_said(_outcome(working, why)):
                _end_process_soon()
                raise Abort(f"{why}: who has sent the signal tells Prefect's server")
    except asyncio.CancelledError:  # Ctrl-C, where the flow runs in a thread of its own
        why = RunHaltedError("interrupted")
        await _end(working, why)
        _obeyed()
    return _outcome(working, why)


async def _why(
    working: asyncio.Task[State[Any]], told: asyncio.Event, asked: UUID | None, ending: Ending
) -> RunHaltedError | ShutDownError | None:
    """Why the body is to end before its end; None where it is not, or has."""
    waiting = asyncio.create_task(told.wait() if asked is None else _until_cancelled(asked))
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if working.done():
        return None
    if not await _is_cancelled(_flow_run_id()):
        return ShutDownError("interrupted: its process is being shut down")
    return await ending.cancel()


async def _end(working: asyncio.Task[State[Any]], why: RecstreamError | None) -> None:
    """Wait for the body's end; with a reason, cancel it first, once, so that it may still write down how it ended."""
    if why is not None and not working.done():
        get_run_logger().warning("ending: %s", why)
        working.cancel(why)
    while not working.done():
        try:
            await asyncio.wait({working})
        except asyncio.CancelledError:
            if why is None:
                raise


def _outcome(working: asyncio.Task[State[Any]], why: RecstreamError | None) -> State[Any]:
    try:
        return working.result()
    except RecstreamError as error:
        return verdict_on(error)
    except asyncio.CancelledError:
        if isinstance(why, RunHaltedError):
            return verdict_on(why)
        if why is not None:
            raise TerminationSignal(signal.SIGTERM) from None  # Prefect ends the process with it
        raise


async def _order_cancel(url: str, run_id: RunId) -> RunHaltedError | None:
    async with open_engine(url, connections=1) as engine:
        with suppress(RunConflictError):  # what stands is read all the same
            await give_order(engine, run_id, OrderKind.CANCEL, through=PREFECT)
        halt = (await read_standing(engine, run_id)).halt()
        # A run that others hold to be over takes no order either: then the flow ends, and nothing else.
        return halt or (None if await is_ending(engine, run_id) else _alone())


def _alone() -> CalledOffError:
    return CalledOffError(f"cancelled by {heard_from(PREFECT)}")


async def _until_cancelled(flow_run_id: UUID) -> None:
    """Nobody sends a signal to a thread: Prefect is asked."""
    while not await _is_cancelled(flow_run_id):  # noqa: ASYNC110 - Prefect sets no event of ours
        await asyncio.sleep(_ASK_EVERY_S)


async def _is_cancelled(flow_run_id: UUID) -> bool:
    """Whether Prefect wants this flow run to end. If its server does not answer, it cannot have said so."""
    client = _context().client
    assert isinstance(client, PrefectClient)  # noqa: S101 - an async flow's
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            state = (await client.read_flow_run(flow_run_id)).state
    except Exception as error:  # noqa: BLE001 - whatever its client raises: the server does not answer
        _log.info("Prefect's server does not say whether flow run %s is cancelled: %r", flow_run_id, error)
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


async def _is_said(state: State[Any]) -> bool:
    """Whether Prefect's server has heard how this flow ended."""
    client = _context().client
    assert isinstance(client, PrefectClient)  # noqa: S101 - as above
    try:
        async with asyncio.timeout(_LAST_WORD_WITHIN_S):
            await client.set_flow_run_state(_flow_run_id(), state)
    except Exception as error:  # noqa: BLE001 - as above
        _log.warning("Prefect's server does not hear how the flow ended (%s): %r", state.message, error)
        return False
    return True


def _end_process_soon() -> None:
    """At its end Prefect waits for its threads, which have log lines for a server that does not take them."""
    ending = threading.Timer(_LAST_LINES_WITHIN_S, os._exit, (0,))
    ending.daemon = True
    ending.start()


def _flow_run_id() -> UUID:
    flow_run = _context().flow_run
    assert flow_run is not None  # noqa: S101 - it runs
    return flow_run.id


def _context() -> FlowRunContext:
    context = FlowRunContext.get()
    assert context is not None  # noqa: S101 - what ends in order is a flow
    return context


@contextmanager
def _sigterm_calls(call: Callable[[], None]) -> Iterator[bool]:
    """SIGTERM calls this inside, and nothing else. False where signals do not arrive: outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    loop = asyncio.get_running_loop()
    former = signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(call))
    try:
        yield True
    finally:
        signal.signal(signal.SIGTERM, former)


def _obeyed() -> None:
    """The cancellation is done with: what Prefect still does for the flow is not to suffer from it."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
