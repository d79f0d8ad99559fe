"""The circuit breaker of one endpoint: who may ask it goes through here, and waits here while it is out of order."""

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable

from pipeline.errors import AnswerError, EndpointClosedError, EndpointRefusedError, RateLimitedError
from pipeline.retrying.circuit import Circuit
from pipeline.retrying.failures import Case, failure_of

_log = logging.getLogger(__name__)


class Breaker:
    """One for each endpoint in a process. It asks nothing by itself: whoever is let through is the probe.

    `name` is the endpoint as messages show it. `patience_s` is for how long it may answer nobody.
    `clock` tells seconds, and never goes back.
    """

    def __init__(
        self,
        name: str,
        patience_s: float,
        *,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.patience_s = patience_s
        self._draw = draw
        self._clock = clock
        self._circuit = Circuit()
        self._waiting: deque[asyncio.Future[Pass]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last_problem: AnswerError | None = None
        self._out: AnswerError | None = None

    @property
    def is_down(self) -> bool:
        """True while the endpoint answers nobody: then no failure there is the customer's."""
        return self._circuit.is_open or self._is_away

    @property
    def is_ready(self) -> bool:
        """Whether `admit` would let somebody through at once: for anything, or to find out whether it is back."""
        return self._out is None and not self._is_waited_for and self._circuit.wait_s(self._clock()) == 0

    @property
    def is_out(self) -> bool:
        """True where nobody can be served: it was taken out, or has answered nobody for longer than it may."""
        return self._out is not None or self._is_away

    def take_out(self, problem: AnswerError) -> None:
        """Let nobody through from now on: no customer can be served there."""
        if self._out is None:
            _log.warning("%s is asked no more in this run: %s", self.name, problem)
            self._out = problem
            self._wake()

    async def admit(self) -> "Pass":
        """A pass as soon as the endpoint may be asked, in the order of coming. Whoever has one must `end` or `leave`.

        One that stayed away too long still lets a probe through now and then: whoever can go elsewhere looks at
        `is_ready` first.

        Raises:
            EndpointClosedError: it has answered nobody for `patience_s`, or was taken out.
        """
        if self.is_ready:
            return self._let_through()
        waiting: asyncio.Future[Pass] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._wake()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                waiting.result().leave()
            raise

    @property
    def _is_away(self) -> bool:
        return self._circuit.outage_s >= self.patience_s

    @property
    def _is_waited_for(self) -> bool:
        while self._waiting and self._waiting[0].done():  # it was cancelled
            self._waiting.popleft()
        return bool(self._waiting)

    def _let_through(self) -> "Pass":
        return Pass(self, self._circuit.enter(), self._clock)

    def _require_hope(self) -> None:
        if self._out is not None:
            raise EndpointClosedError(str(self._out))
        if self._is_away:
            raise EndpointClosedError(
                f"{self.name} has answered nobody for {self._circuit.outage_s:,.0f} s (outage_patience_s is "
                f"{self.patience_s:g}): {self._last_problem}; when it is back, `recstream resume` goes on"
            )

    def _wake(self) -> None:
        """Let through who may be; tell who waits in vain; and set the one timer for the others."""
        self._stop_timer()
        try:
            self._require_hope()
        except EndpointClosedError as closed:
            self._turn_away(str(closed))
            return
        while self._is_waited_for and self._circuit.wait_s(self._clock()) == 0:
            self._waiting.popleft().set_result(self._let_through())
        wait_s = self._circuit.wait_s(self._clock())
        if self._is_waited_for and wait_s < math.inf:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake)

    def _turn_away(self, why: str) -> None:
        while self._is_waited_for:
            self._waiting.popleft().set_exception(EndpointClosedError(why))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def note_answer(self) -> None:
        """Somebody has the first row of an answer. Passes tell this, nobody else."""
        was_open = self._circuit.is_open
        self._circuit.note_answer()
        if was_open:
            _log.info("%s answers again", self.name)
        self._wake()

    def note_end(self, probe: int, asked_at: float, problem: AnswerError | None, case: Case) -> None:
        """An attempt that asked at `asked_at` has ended without a row. Passes tell this, nobody else."""
        if problem is None or not _is_silence(problem, case):
            self._note_life(problem)
            return
        was_open = self._circuit.is_open
        self._last_problem = problem
        now = self._clock()
        self._circuit.note_silence(now, asked_at)
        if isinstance(problem, RateLimitedError) and not self._is_away:
            self._circuit.note_life()
            return
        self._circuit.note_failure(now, self._draw(), probe, asked_at)
        if not was_open and self._circuit.is_open:
            _log.warning("%s answers nobody, and is asked by one at a time until it does: %s", self.name, problem)

    def note_leave(self, probe: int) -> None:
        """Whoever was let through asks no more. Passes tell this, nobody else."""
        self._circuit.leave(probe)
        self._wake()

    def _note_life(self, problem: AnswerError | None) -> None:
        if isinstance(problem, EndpointRefusedError):
            self._circuit.note_life()
        else:
            self.note_answer()


def _is_silence(problem: AnswerError, case: Case) -> bool:
    return isinstance(problem, RateLimitedError) or failure_of(problem, case).of_endpoint


class Pass:
    """The leave to send one request. It ends once, by `end` or by `leave`; what comes after that is ignored."""

    def __init__(self, breaker: Breaker, probe: int, clock: Callable[[], float]) -> None:
        self._breaker = breaker
        self._probe = probe
        self._clock = clock
        self._asked_at = clock()
        self._answered = False
        self._ended = False

    def asks(self) -> None:
        """The request is sent now: whoever was let through may have waited for other things since."""
        self._asked_at = self._clock()

    def answered(self) -> None:
        """The first row is here: the endpoint does what it is there for."""
        if not self._answered and not self._ended:
            self._answered = True
            self._breaker.note_answer()

    def end(self, problem: AnswerError | None, case: Case = Case()) -> None:  # noqa: B008 - it is frozen
        """The attempt is over; `problem` is None if its answer ended well. Tell this before `Tries.judge` is asked."""
        nothing_was_sent = isinstance(problem, EndpointClosedError)
        if not self._ended and not self._answered and not nothing_was_sent:
            self._breaker.note_end(self._probe, self._asked_at, problem, case)
        self.leave()

    def leave(self) -> None:
        """The attempt was left; if before its end, that says nothing of the endpoint."""
        if not self._ended:
            self._ended = True
            self._breaker.note_leave(self._probe)
