"""What one process obeys: may it take a customer, may it ask, how many requests at a time, must it stop at once."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

from pipeline.domain import RunId
from pipeline.errors import RunHaltedError
from pipeline.orders.places import Places
from pipeline.orders.standing import StandingOrders

T = TypeVar("T")
_log = logging.getLogger(__name__)
Tell = Callable[[int | None], None]


class Hands:
    """The standing orders of a run as this process knows them. Where nothing is ordered, a question costs a glance.

    `concurrency` is how many requests at a time this process may have: its part of an ordered limit, 0 while the run
    is paused (and where the limit is less than there are processes), None without an order. `process` is how the ledger
    knows this process.
    """

    def __init__(self, run_id: RunId, process: UUID | None = None) -> None:
        self.process: Final = process or uuid4()
        self._run_id = run_id
        self._standing = StandingOrders()
        self._changed = asyncio.Event()
        self._requests = Places()
        self._customers = 0
        self._listeners: list[Tell] = []

    @property
    def standing(self) -> StandingOrders:
        """What is ordered, as far as this process has heard."""
        return self._standing

    @property
    def concurrency(self) -> int | None:
        """Requests at a time in this process; None: as many as it likes."""
        return self._requests.most

    def tell(self, listener: Tell) -> None:
        """Call this with `concurrency`, now and whenever it changes."""
        self._listeners.append(listener)
        listener(self.concurrency)

    def obey(self, standing: StandingOrders, part: int | None) -> None:
        """From now on these orders stand; `part` is this process's of the limit."""
        self._say(standing)
        self._standing = standing
        concurrency = part if standing.pause is None else 0
        if concurrency != self.concurrency:
            self._requests.allow(concurrency)
            for listener in self._listeners:
                listener(concurrency)
        self._wake()

    async def may_take_customer(self) -> None:
        """Return once another customer's slate may be opened: at once, but for a pause and a drain.

        Raises:
            RunHaltedError: the run is cancelled, or drained and the last customer in flight here has been served.
        """
        while True:
            self._require_going_on()
            if self._standing.drain is not None and not self._customers:
                raise RunHaltedError(f"drained {self._standing.drain.given()}", drained=True)
            if self._standing.drain is None and self._standing.pause is None:
                return
            await self._change()

    @contextmanager
    def customer(self) -> Iterator[None]:
        """A customer is served inside: a drain waits for his end."""
        self._customers += 1
        try:
            yield
        finally:
            self._customers -= 1
            self._wake()

    async def may_ask(self) -> None:
        """Return once a request may be sent: at once, but for a pause. A drain lets open slates come to their end.

        Raises:
            RunHaltedError: the run is cancelled.
        """
        self._require_going_on()
        while self.concurrency == 0:
            await self._change()
            self._require_going_on()

    def asking(self) -> AbstractAsyncContextManager[None]:
        """A request is made inside: waits through a pause, and until there is a place under the limit."""
        return self._requests.place()

    async def cancelled(self) -> None:
        """Wait for ever, unless the run is cancelled.

        Raises:
            RunHaltedError: it is.
        """
        while True:
            self._require_going_on()
            await self._change()

    async def unless_cancelled(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work to its end; if the run is cancelled meanwhile, so is the work, and has ended before the error.

        Raises:
            RunHaltedError: the run is cancelled.
        """
        working, halted = asyncio.create_task(work), asyncio.create_task(self.cancelled())
        try:
            await asyncio.wait({working, halted}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await halted
            return await working
        finally:
            await _end(working)
            await _end(halted)

    async def until_cancelled(self, rows: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """The same rows; if the run is cancelled meanwhile, what makes them is stopped at once.

        Raises:
            RunHaltedError: the run is cancelled.
        """
        async with aclosing(rows):
            while (following := await self.unless_cancelled(_next(rows))) is not None:
                yield following[0]

    def _require_going_on(self) -> None:
        self._standing.require_not_cancelled()

    async def _change(self) -> None:
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _say(self, standing: StandingOrders) -> None:
        """Each order that is new or stands no more, once, in the log."""
        former, now = self._standing.lines(), standing.lines()
        for line in now:
            if line not in former:
                _log.warning("run %s: %s", self._run_id, line)
        for line in former:
            if line not in now:
                _log.info("run %s: no more %s", self._run_id, line)


async def _next(rows: AsyncGenerator[T]) -> tuple[T] | None:
    """The next row, or None at the end."""
    async for row in rows:
        return (row,)
    return None


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel what is not done, and wait for its end. How it ended is told already, or matters no more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen, so that asyncio does not complain
