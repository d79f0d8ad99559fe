"""Keeps the requests of all processes below the caps of their run and their day: reserved before, settled after.

A request's bound is reserved before it is sent, and what it did not come to is kept for the next. One statement of a
process is in flight: it gives back all that is held, and takes along all who wait by then. While much is left it also
reserves for some that will come, which then need no statement; where little is left, nobody holds for long what he does
not need, so that the last request that fits is found, whichever process has it.

What a process that died had reserved stays spent: it may have been. So does the difference of a request that is never
settled.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pipeline.domain import RunId
from pipeline.errors import BudgetSpentError, DatabaseError, DatabaseUnavailableError
from pipeline.spending import Caps, Spend, Spender, Standing, Turn

__all__ = ["Budget", "Caps", "Spend", "open_budget"]

MOST_IN_A_TURN: Final = 1_000
MOST_AHEAD: Final = 64
_GIVEN_BACK_AFTER_S: Final = 1.0
_LOOKS_AGAIN_AFTER_S: Final = 0.5
_LOOKS_IN_VAIN: Final = 120  # about a minute without any change while only other processes have requests in flight

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    """A request that is not sent before its bound is reserved."""

    bound: Spend
    admitted: "asyncio.Future[None]"


class Budget:
    """What one process asks for what a request may cost. Open it with `open_budget`."""

    def __init__(self, caps: Caps, patience: int = _LOOKS_IN_VAIN) -> None:
        self._caps = caps
        self._patience = patience
        self._waiting: deque[_Waiting] = deque()
        self._held = Spend()  # reserved, and not for a request in flight
        self._in_flight = 0
        self._is_told = True  # that nothing is in flight and nothing held, if it is so
        self._is_tight = True
        self._turns = 0
        self._unsure: tuple[Turn, list[_Waiting]] | None = None  # it is not known whether the server took it
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        self._leaving = False

    async def reserve(self, bound: Spend) -> None:
        """Return once `bound` is reserved, which is the most that the request can come to. First come, first served.

        Where a cap leaves less, it waits as long as requests in flight may still give something back.

        Raises:
            BudgetSpentError: nothing in flight will make room; the message says which cap and what to do.
            DatabaseError: nobody could be asked; nothing is reserved.
        """
        if not self._caps.any:
            return
        if self._leaving:
            raise _closed()
        bound = bound.rounded_up()
        if not self._is_anybody_before() and self._held.covers(bound):
            self._held -= bound
            self._in_flight += 1
            return
        await self._wait_for(_Waiting(bound, asyncio.get_running_loop().create_future()))

    def settle(self, bound: Spend, actual: Spend) -> None:
        """Give back what a request that has ended did not come to: once for each that was reserved, never waiting.

        One that came to more than its bound is counted in full all the same.
        """
        if self._caps.any:
            self._give_back(bound.rounded_up() - actual.rounded_up())

    async def run(self, spender: Spender) -> None:
        """Take turns over this connection until `leave` is called."""
        try:
            while not self._leaving:
                await self._something_to_do()
                await self._take_turns(spender)
        finally:
            self.leave()

    def leave(self) -> None:
        """Take a last turn for what is to be given back, and end. Who still waits is refused."""
        self._leaving = True
        self._refuse_all(_closed())
        self._wake.set()

    async def _wait_for(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._wake.set()
        try:
            await waiting.admitted
        except asyncio.CancelledError:
            if waiting.admitted.done() and not waiting.admitted.cancelled() and waiting.admitted.exception() is None:
                self._give_back(waiting.bound)  # it was admitted in the same moment
            raise

    def _give_back(self, freed: Spend) -> None:
        self._held += freed
        self._in_flight -= 1
        if self._waiting:
            self._wake.set()
        elif (self._is_tight or not self._in_flight) and self._timer is None and not self._leaving:
            self._timer = asyncio.get_running_loop().call_later(_GIVEN_BACK_AFTER_S, self._note_time)

    def _note_time(self) -> None:
        self._timer, self._is_due = None, True
        self._wake.set()

    def _is_anybody_before(self) -> bool:
        """Whether a request waits already, be it in a turn that goes on."""
        return bool(self._waiting or (self._unsure and self._unsure[1]))

    async def _something_to_do(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def _take_turns(self, spender: Spender) -> None:
        """Turn after turn, until nobody waits and nothing is left that others may wait for."""
        looks = _Looks(self._patience)
        while self._unsure or self._has_waiting() or self._is_worth_telling():
            self._wake.clear()  # what happens from here on is for another turn
            try:
                standing = await self._take_turn(spender)
            except DatabaseError as error:
                self._refuse_all(error)
                return
            if self._has_waiting() and not self._wake.is_set():
                await self._wait_for_room(standing, looks)

    def _is_worth_telling(self) -> bool:
        """Whether something is held that this process may not need, or it has ended all without saying so."""
        due, self._is_due = self._is_due or self._leaving, False
        idle = not self._in_flight and not self._is_told
        return due and (idle or (bool(self._held) and (self._is_tight or self._leaving)))

    async def _take_turn(self, spender: Spender) -> Standing:
        """One turn; one whose fate is unknown first, for it alone says what became of it."""
        turn, asking = self._unsure or self._next_turn()
        self._unsure = turn, asking
        standing = await spender.take(turn)
        self._unsure = None
        self._held += turn.bound_ahead * standing.ahead
        self._is_tight = standing.ahead < turn.most_ahead or not turn.bounds
        self._is_told = not turn.in_flight + standing.admitted + standing.ahead
        self._admit(asking[: standing.admitted])
        self._waiting.extendleft(reversed(asking[standing.admitted :]))
        return standing

    def _admit(self, asking: Sequence[_Waiting]) -> None:
        self._in_flight += len(asking)
        for waiting in asking:
            if waiting.admitted.done():  # its caller has gone
                self._give_back(waiting.bound)
            else:
                waiting.admitted.set_result(None)

    def _next_turn(self) -> tuple[Turn, list[_Waiting]]:
        asking: list[_Waiting] = []
        while self._has_waiting() and len(asking) < MOST_IN_A_TURN:
            asking.append(self._waiting.popleft())
        self._turns += 1
        bounds = [waiting.bound for waiting in asking]
        turn = Turn(self._turns, self._held, self._in_flight, bounds, 0 if self._leaving else MOST_AHEAD)
        self._held = Spend()
        return turn, asking

    def _has_waiting(self) -> bool:
        """Whether a caller waits who has not gone meanwhile."""
        while self._waiting and self._waiting[0].admitted.done():
            self._waiting.popleft()
        return bool(self._waiting)

    async def _wait_for_room(self, standing: Standing, looks: "_Looks") -> None:
        """Return when another look is worth it; refuse all who wait where none is."""
        if not self._in_flight and looks.is_in_vain(standing):
            self._refuse_all(_spent(self._caps, standing, self._waiting[0].bound))
            return
        try:
            async with asyncio.timeout(_LOOKS_AGAIN_AFTER_S * random.uniform(0.5, 1)):  # noqa: S311 - jitter
                await self._something_to_do()
        except TimeoutError:
            return

    def _refuse_all(self, error: BudgetSpentError | DatabaseError) -> None:
        asking = self._unsure[1] if self._unsure else []
        for waiting in (*asking, *self._waiting):
            if not waiting.admitted.done():
                waiting.admitted.set_exception(error)
        self._waiting.clear()


class _Looks:
    """Tells when waiting for other processes has become vain.

    One look may be older than a request that another process has just been admitted to send, so two have to agree that
    nobody has one in flight. A process that died seems to have some for ever: so nothing may have changed for long.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._last: tuple[Spend, Spend] | None = None
        self._same = 0

    def is_in_vain(self, standing: Standing) -> bool:
        """Take in how it stands while nothing of ours is in flight."""
        seen = standing.run, standing.day
        self._same = self._same + 1 if seen == self._last else 0
        self._last = seen
        return self._same >= (self._patience if standing.others_in_flight > 0 else 1)


@asynccontextmanager
async def open_budget(
    url: str, run_id: RunId, time_zone: str, caps: Caps, *, patience: int = _LOOKS_IN_VAIN
) -> AsyncIterator[Budget]:
    """The budget of this run, and of the day that it is now in `time_zone`. Without caps it never asks anybody.

    The day is the one in which it was opened, however long it stays open. All that was reserved has to be settled
    before it is closed. `patience` is how often, twice a second, it looks for a change that others have to make.
    """
    budget = Budget(caps, patience)
    if not caps.any:
        yield budget
        return
    spender = Spender(url, run_id, time_zone, caps)
    taking_turns = asyncio.create_task(budget.run(spender), name="budget")
    try:
        yield budget
    finally:
        budget.leave()
        try:
            await taking_turns
            await spender.leave()
        except DatabaseError as error:
            _log.warning(
                "what the budget had reserved too much could not be given back, and counts as spent: %s", error
            )
        finally:
            await spender.close()


def _closed() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the budget is closed: nothing can be reserved any more")


def _spent(caps: Caps, standing: Standing, bound: Spend) -> BudgetSpentError:
    """Says which cap leaves too little for this request, and what to do."""
    of_money = (
        (standing.run.cost, caps.run_cost, "budget_per_run"),
        (standing.day.cost, caps.day_cost, "budget_per_day"),
    )
    of_tokens = (
        (standing.run.tokens, caps.run_tokens, "token_budget_per_run"),
        (standing.day.tokens, caps.day_tokens, "token_budget_per_day"),
    )
    for spent, cap, name in of_money:
        if cap is not None and spent + bound.cost > cap:
            return _too_little(name, f"{_money(spent)} of {_money(cap)} {caps.currency}", _money(bound.cost))
    spent_tokens, most, name = next(one for one in of_tokens if one[1] is not None and one[0] + bound.tokens > one[1])
    return _too_little(name, f"{spent_tokens:,} of {most:,} tokens", f"{bound.tokens:,}")


def _too_little(name: str, spent: str, bound: str) -> BudgetSpentError:
    return BudgetSpentError(
        f"{name} is spent: {spent}, and the next request can come to {bound}: raise it, then `recstream resume`, "
        "or `recstream recommend` anew for one customer"
    )


def _money(amount: Decimal) -> str:
    """The amount with the places that say something."""
    return f"{amount:,.6f}".rstrip("0").rstrip(".")
