"""One customer's tries: what was tried at which endpoint, and by the table of failures what comes next."""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from pipeline.errors import AnswerError, EndpointClosedError, EndpointRefusedError
from pipeline.retrying.failures import USES_A_TRY, Action, Case, Failure, failure_of
from pipeline.retrying.retry_budget import RetryBudget

LONGEST_PAUSE_S: Final = 30.0
_FIRST_PAUSE_S: Final = 1.0
_SPREAD_S: Final = 0.5
_BEGINS_ANEW: Final = frozenset({Action.RETRY, Action.LONGER, Action.NEXT_ENDPOINT})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes next for the customer, after how many seconds, and what the ledger is to say if that is the end.

    `takes_out`: this endpoint is to be asked no more in this run.
    """

    action: Action
    pause_s: float
    reason: str
    takes_out: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether the customer is asked for again."""
        return self.action not in {Action.GIVE_UP, Action.STOP}


class Tries:
    """What is left to one customer: `most` tries at each endpoint, and a budget that he shares with the whole run."""

    def __init__(
        self,
        most: int,
        budget: RetryBudget,
        *,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._most = most
        self._budget = budget
        self._now = now
        self._draw = draw
        self._used: Counter[str] = Counter()
        self._barred: set[str] = set()
        self._waiting_since: float | None = None
        self._pauses = 0

    @property
    def barred(self) -> Collection[str]:
        """The endpoints that this customer is not asked for at again."""
        return self._barred

    def judge(
        self,
        problem: AnswerError | None,
        case: Case = Case(),  # noqa: B008 - it is frozen
        *,
        endpoint: str = "",
        others: Collection[str] = (),
        shortfall: str = "",
    ) -> Verdict:
        """Take in how an attempt at `endpoint` ended without filling the slate, and say what comes next.

        `problem` is None after an answer that ended well with too little, which `shortfall` says in words. `others` are
        the endpoints of the run besides this one that may be asked at all. Ask once for each attempt.
        """
        if isinstance(problem, EndpointRefusedError) and problem.stepped_down:
            return Verdict(Action.STEP_DOWN, 0.0, str(problem))
        if isinstance(problem, EndpointClosedError):
            others = [other for other in others if other in self._barred]  # admission has asked all those that are not
        failure = failure_of(problem, case)
        self._count(failure, case, endpoint)
        action, starved = self._choose(failure, case, endpoint, others)
        if action is Action.NEXT_ENDPOINT:
            self._barred.add(endpoint)
        elif action is Action.STOP and any(other != endpoint for other in others):
            action = Action.GIVE_UP  # they do for others what they would not do for him
        reason = str(problem or shortfall)
        if starved:
            reason = f"{reason}; he is not asked for again, for the retries of this run are used up: `recstream resume`"
        return Verdict(action, self._pause(action, failure, case, problem), reason, failure.takes_out)

    def _choose(self, failure: Failure, case: Case, endpoint: str, others: Collection[str]) -> tuple[Action, bool]:
        """The first action that is open to the customer, and whether one was not for want of retries in the run."""
        starved = False
        for action in failure.actions:
            if not self._is_open(action, case, endpoint, others):
                continue
            if action in _BEGINS_ANEW and failure.paid and not case.placed and not self._budget.spend():
                starved = True
                continue
            break
        return action, starved

    def _count(self, failure: Failure, case: Case, endpoint: str) -> None:
        if not USES_A_TRY.isdisjoint(failure.actions):
            self._used[endpoint] += 1
        if case.placed:
            self._pauses = 0
        if Action.WAIT not in failure.actions or case.placed:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self._now()

    def _is_open(self, action: Action, case: Case, endpoint: str, others: Collection[str]) -> bool:
        if action in USES_A_TRY:
            return self._used[endpoint] < self._most
        if action is Action.WAIT:
            return case.down or self._waited_s() < case.patience_s
        if action is Action.NEXT_ENDPOINT:
            return any(other not in self._barred and other != endpoint for other in others)
        return True

    def _waited_s(self) -> float:
        return 0.0 if self._waiting_since is None else self._now() - self._waiting_since

    def _pauses_before(self, action: Action, failure: Failure, case: Case) -> bool:
        """Whether nobody else sees to it that some time passes: the limiter does, and a breaker that is open."""
        return action in USES_A_TRY or (action is Action.WAIT and failure.of_endpoint and not case.down)

    def _pause(self, action: Action, failure: Failure, case: Case, problem: AnswerError | None) -> float:
        """Seconds before what comes next: what the endpoint asked for, else growing; never the same for all."""
        if failure.at_once or not self._pauses_before(action, failure, case):
            return 0.0
        if isinstance(problem, EndpointRefusedError) and problem.retry_after is not None:
            return problem.retry_after + self._draw() * _SPREAD_S
        longest = min(_FIRST_PAUSE_S * 2.0**self._pauses, LONGEST_PAUSE_S)
        self._pauses += 1
        return (0.5 + 0.5 * self._draw()) * longest
