"""Lets one request at a time out. What may keep it waiting, and in which order, stands here and nowhere else.

The operator's orders come first, then the breaker of a route, the endpoint's limits, and the budget: who waits for one
of them holds as little as may be of what others wait for.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from pipeline.budgets import Budget, Spend
from pipeline.domain import AnswerRecord, Usage
from pipeline.errors import AnswerError, EndpointClosedError, EndpointRefusedError, EndpointUnreachableError
from pipeline.limits.limiter import Permit
from pipeline.orders import Hands
from pipeline.pricing.token_counts import estimated_request_tokens, most_request_tokens
from pipeline.prompts import Prompt
from pipeline.retrying.breaker import Pass
from pipeline.retrying.failures import Case
from pipeline.routes import Route
from pipeline.terms import Offer, StructuredOutput, most_output_tokens

_UNBOUNDED_TOKENS = 8_192  # of an answer to a request that names no limit: the model's own is seldom higher


@dataclass(slots=True)
class Leave:
    """The leave to send one request over `route`, with what it offers.

    It is told once what became of the request; what comes later is ignored.
    """

    route: Route
    prompt: Prompt
    offer: Offer
    _passed: Pass
    _permit: Permit
    _budget: Budget
    _bound: Spend
    _ended: bool = False

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """Take in the head of the answer, as soon as it is here."""
        self._permit.heard(status, headers)

    def answered(self) -> None:
        """Take in that the first row is here: the endpoint does what it is there for."""
        self._passed.answered()

    def covers(self, offer: Offer) -> bool:
        """Whether a request with this offer can come to no more than what was reserved."""
        return self._bound.covers(bound_of(self.route, self.prompt, offer))

    def end(self, record: AnswerRecord, problem: AnswerError | None, case: Case) -> None:
        """Say how the answer ended, None if well."""
        if not self._ended:
            self._ended = True
            self._passed.end(problem, case)
            self._permit.end(record, problem)
            self._budget.settle(self._bound, self._spent(record, problem))

    def abandon(self, record: AnswerRecord) -> None:
        """Say that the request was left before its end."""
        self._give_back(record, _LEFT)

    def unused(self) -> None:
        """Say that no request was sent."""
        self._give_back(AnswerRecord(), _NEVER_SENT)

    def _give_back(self, record: AnswerRecord, problem: AnswerError) -> None:
        if not self._ended:
            self._ended = True
            self._passed.leave()
            self._permit.end(record, problem)
            self._budget.settle(self._bound, self._spent(record, problem))

    def _spent(self, record: AnswerRecord, problem: AnswerError | None) -> Spend:
        """What the budget loses. A request of which nobody has said what it came to may have cost all that it could."""
        if isinstance(problem, EndpointUnreachableError):
            unknown = problem.sent
        elif isinstance(problem, EndpointRefusedError) and not problem.in_band:
            unknown = False
        else:
            unknown = problem is not None and (record.status is None or record.usage.estimated)
        if unknown:
            return self._bound
        spent = Spend(record.cost or Decimal(0), record.usage.tokens_in + record.usage.tokens_out)
        return self._no_less_than(spent) if record.usage.estimated else spent

    def _no_less_than(self, estimated: Spend) -> Spend:
        """Somewhat more than what was estimated, for that may be low; never more than was reserved."""
        cost, tokens = estimated.cost * 5 / 4, estimated.tokens * 5 // 4
        return Spend(min(cost, self._bound.cost), min(tokens, self._bound.tokens))


class Admission:
    """What all requests of a run in this process go through."""

    def __init__(self, hands: Hands, budget: Budget) -> None:
        self._hands = hands
        self._budget = budget

    @asynccontextmanager
    async def admitted(self, prompt: Prompt, routes: Sequence[Route], barred: Collection[str]) -> AsyncIterator[Leave]:
        """Wait until a request with this prompt may be sent over one of the routes, the first that may be asked.

        `barred` are the names of those that it must not take.

        Raises:
            EndpointClosedError: no route is open, nor will one be for as long as we wait.
            BudgetSpentError: a cap leaves too little for it.
            RunHaltedError: a person has cancelled the run.
        """
        async with self._hands.asking():
            leave = await self._leave(prompt, [route for route in routes if route.name not in barred])
            try:
                yield leave
            finally:
                leave.unused()

    async def _leave(self, prompt: Prompt, routes: Sequence[Route]) -> Leave:
        closed = EndpointClosedError("no endpoint is left to ask for this customer")
        for route in sorted(routes, key=_turn):
            try:
                return await self._leave_over(route, await route.breaker.admit(), prompt)
            except EndpointClosedError as error:
                closed = error
        raise closed

    async def _leave_over(self, route: Route, passed: Pass, prompt: Prompt) -> Leave:
        permit = None
        try:
            permit = await route.limiter.admit(_expected_tokens(route, prompt))
            await self._hands.may_ask()  # an order may have come while it waited
            offer = route.endpoint.terms.offer()
            bound = bound_of(route, prompt, offer)
            await self._budget.reserve(bound)
        except BaseException:
            passed.leave()
            if permit is not None:
                permit.end(AnswerRecord(), _NEVER_SENT)
            raise
        passed.asks()
        return Leave(route, prompt, offer, passed, permit, self._budget, bound)


def _turn(route: Route) -> int:
    """First the routes that let somebody through at once, be it as a probe; to wait for, rather those that answer."""
    return 0 if route.breaker.is_ready else 1 + route.breaker.is_down


def bound_of(route: Route, prompt: Prompt, offer: Offer) -> Spend:
    """The most that a request with this offer can come to, however the answer's form is stepped down meanwhile."""
    lowest = replace(offer, structured_output=StructuredOutput.PROMPT)
    tokens_in = most_request_tokens(prompt.system, prompt.customer)
    tokens_out = most_output_tokens(lowest, prompt.asked) or _UNBOUNDED_TOKENS
    highest = route.prices.highest
    return Spend(Decimal(0) if highest is None else highest.most(tokens_in, tokens_out), tokens_in + tokens_out)


def _expected_tokens(route: Route, prompt: Prompt) -> int:
    """What the endpoint may count against its limits: providers take the room of an answer for its length."""
    estimated = route.calibration.corrected(estimated_request_tokens(prompt.system, prompt.customer))
    return estimated + (most_output_tokens(route.endpoint.terms.offer(), prompt.asked) or 0)


def calibrated(route: Route, prompt: Prompt, usage: Usage) -> Usage:
    """The usage of an answer: what was reported teaches us to estimate, what was not is estimated by what we learnt."""
    estimated = estimated_request_tokens(prompt.system, prompt.customer)
    if not usage.estimated:
        route.calibration.note(estimated, usage.tokens_in)
        return usage
    was_reported = usage.tokens_in != estimated  # before the answer broke off
    return usage if was_reported else replace(usage, tokens_in=route.calibration.corrected(estimated))


_LEFT: Final = AnswerError("it was left before its end")
_NEVER_SENT: Final = EndpointUnreachableError("it was never sent")
