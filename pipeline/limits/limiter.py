"""Lets the requests of one process through in their order, as fast as the endpoint allows: the gate's async shell."""

import asyncio
import math
import random
from collections import deque
from collections.abc import Mapping

from pipeline.domain import AnswerRecord
from pipeline.errors import AnswerError, EndpointClosedError, EndpointUnreachableError
from pipeline.limits.gate import Gate
from pipeline.limits.requests import Request
from pipeline.limits.shares import Report, Share

PATIENCE_S = 900.0


class Limiter:
    """One for each endpoint and model in a process; belongs to the event loop that first waits in it.

    `ceiling` is the most requests at a time, `patience_s` the longest that anybody waits because the endpoint asks for
    it, `name` what the endpoint is called in messages. With `first_at_once` the first request waits for no rate.
    """

    def __init__(
        self,
        ceiling: int,
        *,
        name: str = "the endpoint",
        patience_s: float = PATIENCE_S,
        first_at_once: bool = False,
        chance: random.Random | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._gate = Gate(
            ceiling,
            name=name,
            patience_s=patience_s,
            chance=chance or random.Random(),  # noqa: S311 - jitter
            now=self._loop.time(),
            first_at_once=first_at_once,
        )
        self._line: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def admit(self, tokens: int) -> "Permit":
        """Wait until a request of about so many tokens, in and out, may be sent. First come, first served.

        Who is cancelled gives his place up.

        Raises:
            EndpointClosedError: the endpoint asks to be left alone for longer than `patience_s`.
        """
        now = self._loop.time()
        self._raise_if_closed(now)
        if not self._line and not self._gate.wait(tokens, now):
            return Permit(self, self._gate.send(tokens, now))
        waiter = _Waiter(tokens, self._loop.create_future())
        self._line.append(waiter)
        self._gate.waiting += 1
        self._let_in()
        try:
            return Permit(self, await waiter.turn)
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def report(self) -> Report:
        """What this process wants, and what it has seen since the last report."""
        return self._gate.report(self._loop.time())

    def allot(self, share: Share) -> None:
        """Keep to this share of the endpoint's limits until another is allotted."""
        self._gate.allot(share, self._loop.time())
        self._let_in()

    def bound(self, concurrency: int | None) -> None:
        """Keep to an operator's limit on requests at a time; None takes it away."""
        self._gate.concurrency.bound(concurrency)
        self._let_in()

    def heard(self, request: Request, status: int, headers: Mapping[str, str]) -> None:
        """For permits: the head of an answer is here."""
        self._gate.hear(request, status, headers, self._loop.time())
        self._let_in()

    def ended(self, request: Request, record: AnswerRecord, problem: AnswerError | None) -> None:
        """For permits: a request has ended."""
        self._gate.end(request, record, problem, self._loop.time())
        self._let_in()

    def _leave(self, waiter: "_Waiter") -> None:
        """Give up a place in the line, or a turn that came in the same moment."""
        if waiter.turn.cancelled():
            self._gate.waiting -= 1
        elif waiter.turn.exception() is None:
            self._gate.end(waiter.turn.result(), AnswerRecord(), _NEVER_SENT, self._loop.time())
        self._let_in()

    def _let_in(self) -> None:
        """Let in whoever may come now, and look again when the next one may."""
        now = self._loop.time()
        closed_s = self._gate.closed_for_s(now)
        if closed_s:
            self._send_away(now)
            return
        while self._line:
            waiter = self._line[0]
            if waiter.turn.done():  # cancelled
                self._line.popleft()
                continue
            wait_s = self._gate.wait(waiter.tokens, now)
            if wait_s > 0:
                self._look_again(now, wait_s)
                return
            self._line.popleft()
            self._gate.waiting -= 1
            waiter.turn.set_result(self._gate.send(waiter.tokens, now))

    def _look_again(self, now: float, wait_s: float) -> None:
        """One timer for the whole line."""
        if math.isinf(wait_s):
            return
        when = now + wait_s
        if self._timer is not None:
            if not self._timer.cancelled() and now < self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._let_in)

    def _send_away(self, now: float) -> None:
        while self._line:
            waiter = self._line.popleft()
            if not waiter.turn.done():
                self._gate.waiting -= 1
                waiter.turn.set_exception(self._closed(now))

    def _raise_if_closed(self, now: float) -> None:
        if self._gate.closed_for_s(now):
            raise self._closed(now)

    def _closed(self, now: float) -> EndpointClosedError:
        gate = self._gate
        return EndpointClosedError(
            f"{gate.name} may not be asked for {gate.closed_for_s(now):.0f} s ({gate.closing.because}), and we wait at "
            f"most {gate.patience_s:.0f} s: `recstream resume` later, or give it a fallback endpoint or model"
        )


class Permit:
    """The right to send one request. `end` gives it back, whatever happened."""

    __slots__ = ("_ended", "_limiter", "_request")

    def __init__(self, limiter: Limiter, request: Request) -> None:
        self._limiter = limiter
        self._request = request
        self._ended = False

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """Take in that the head of the answer is here, good or not. `headers` finds names in lower case."""
        self._limiter.heard(self._request, status, headers)

    def end(self, record: AnswerRecord, problem: AnswerError | None) -> None:
        """Give the permit back: how the answer ended, None if well. Once; what is said after that changes nothing."""
        if not self._ended:
            self._ended = True
            self._limiter.ended(self._request, record, problem)


class _Waiter:
    """One who waits in the line. His turn is set when he may send."""

    __slots__ = ("tokens", "turn")

    def __init__(self, tokens: int, turn: "asyncio.Future[Request]") -> None:
        self.tokens = tokens
        self.turn = turn


_NEVER_SENT = EndpointUnreachableError("it was never sent", sent=False)
