"""The flow of one slate: profile → prompt → stream → parse → validate → write, attempt after attempt."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, field

from pipeline.admission import Admission, Leave, calibrated
from pipeline.domain import (
    AnswerRecord,
    Candidates,
    CommittedRecommendation,
    CustomerId,
    Ending,
    Outcome,
    Profile,
    SlateState,
)
from pipeline.endings import ending_of
from pipeline.errors import (
    AnswerEmptyError,
    AnswerError,
    EndpointClosedError,
    RecstreamError,
    RunHaltedError,
    SlateTakenOverError,
)
from pipeline.group_commit import GroupCommit
from pipeline.log_context import log_context
from pipeline.parsing import parse
from pipeline.prompts import Prompt, compose
from pipeline.retrying import last_resort
from pipeline.retrying.failures import Action, Case
from pipeline.retrying.refusal_streak import RefusalStreak
from pipeline.retrying.retry_budget import RetryBudget
from pipeline.retrying.said_refusals import refusal_said
from pipeline.retrying.tries import Tries, Verdict
from pipeline.routes import Course, Route
from pipeline.slates import Slate, SlateLedger
from pipeline.streaming import stream
from pipeline.validation import Judge, remaining, validate
from pipeline.writing import write

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SlateServices:
    """What the slates of one run share."""

    course_of: Callable[[CustomerId], Course]
    admission: Admission
    writer: GroupCommit
    ledger: SlateLedger
    slate_size: int
    attempts: int
    patience_s: float
    fill_up: bool = False
    retry_budget: RetryBudget = field(default_factory=RetryBudget)
    refusals: RefusalStreak = field(default_factory=RefusalStreak)


async def recommend(
    profile: Profile, candidates: Candidates, services: SlateServices
) -> AsyncGenerator[CommittedRecommendation]:
    """Yield each recommendation once it is durable; go on where an earlier try broke off.

    How the slate ended stands in the ledger. A customer whose attempts all fail raises nothing, nor does one whose
    slate is opened by another meanwhile, or who is erased: the night goes on.

    Raises:
        EndpointFatalError, EndpointClosedError: no customer can be served; the run must stop.
        RunHaltedError: this customer is not served, for a budget is spent or a person has cancelled the run.
        DatabaseError: the rows yielded before are durable, nothing more can be written.
    """
    try:
        async with aclosing(_opened(profile, candidates, services)) as rows:
            async for row in rows:
                yield row
    except SlateTakenOverError as lost:
        _log.info("%s", lost)


async def _opened(
    profile: Profile, candidates: Candidates, services: SlateServices
) -> AsyncGenerator[CommittedRecommendation]:
    course = services.course_of(profile.customer_id)
    slate = await services.ledger.open(profile.customer_id, candidates, services.slate_size, course.variant)
    if slate.state is SlateState.COMPLETE:
        return
    try:
        async with aclosing(_attempts(profile, candidates, slate, course, services)) as rows:
            async for row in rows:
                yield row
    except SlateTakenOverError:
        raise
    except BaseException as error:
        if slate.state is SlateState.STREAMING:
            await services.ledger.give_back(slate, _why_not(error))
        raise


async def _attempts(
    profile: Profile, candidates: Candidates, slate: Slate, course: Course, services: SlateServices
) -> AsyncGenerator[CommittedRecommendation]:
    """One request after another for the rows that are missing, as the table of failures says."""
    tries = Tries(services.attempts, services.retry_budget)
    reason, problem = "", None
    while slate.missing:
        attempt = _Attempt(profile, candidates, slate, course, services)
        async with aclosing(attempt.run(tries.barred)) as rows:
            async for row in rows:
                yield row
        problem = attempt.problem
        if not slate.missing:
            break
        verdict = attempt.judged_by(tries)
        reason = verdict.reason
        if verdict.action is Action.STOP:
            await _stop(slate, verdict, attempt, services.ledger)
        if not verdict.goes_on:
            break
        await asyncio.sleep(verdict.pause_s)
    if slate.missing and reason and services.fill_up:
        async with aclosing(_filled_up(candidates, slate, services)) as rows:
            async for row in rows:
                yield row
        reason = last_resort.reason(reason)
    await _close(slate, reason, services.ledger)
    services.refusals.note(problem, slate.attempt)


class _Attempt:
    """One request for the rows that are missing.

    `problem` is what kept it from an answer that ended well; without one, its answer was not enough.
    """

    def __init__(
        self,
        profile: Profile,
        candidates: Candidates,
        slate: Slate,
        course: Course,
        services: SlateServices,
    ) -> None:
        self._candidates = remaining(candidates.offered, slate.placed)
        self._prompt: Prompt = compose(course.templates, profile.as_text(), self._candidates, slate.missing)
        self._judge = Judge(self._candidates, asked=slate.missing)
        self._slate = slate
        self._placed_before = len(slate.placed)
        self._routes = course.routes
        self._services = services
        self._record = AnswerRecord()
        self._route: Route | None = None
        self.problem: AnswerError | None = None

    async def run(self, barred: Collection[str]) -> AsyncGenerator[CommittedRecommendation]:
        """Yield its rows once they are durable. An error of the answer is kept, all others are raised."""
        try:
            async with self._services.admission.admitted(self._prompt, self._routes, barred) as leave:
                self._route = leave.route
                async with aclosing(self._recorded(leave)) as rows:
                    async for row in rows:
                        yield row
        except EndpointClosedError as closed:
            self.problem = closed

    def judged_by(self, tries: Tries) -> Verdict:
        """What comes next. If the failure says so the route is taken out of the run, where that has others."""
        closed = isinstance(self.problem, EndpointClosedError)
        others = [
            route.name
            for route in self._routes
            if route is not self._route and not route.breaker.is_out and not (closed and route.breaker.is_down)
        ]
        verdict = tries.judge(
            self.problem,
            self._case(),
            endpoint=self._route.name if self._route else "",
            others=others,
            shortfall=self._judge.shortfall(),
        )
        if verdict.takes_out and others and self._route is not None and self.problem is not None:
            self._route.breaker.take_out(self.problem)
        return verdict

    @property
    def was_sent(self) -> bool:
        """False where no route let it through."""
        return self._route is not None

    async def _recorded(self, leave: Leave) -> AsyncGenerator[CommittedRecommendation]:
        """The rows, with the attempt in the ledger from before its request to its end."""
        route, origin = leave.route, leave.route.origin
        elsewhere = None if origin is None else route.endpoint.address
        begun = False
        try:
            await self._services.ledger.begin_attempt(self._slate, self._prompt.input_hash, elsewhere)
            begun = True
            async with aclosing(self._rows(leave)) as rows:
                async for row in rows:
                    leave.answered()
                    self._slate.note_row()
                    yield row
        except AnswerError as error:
            self.problem = self._told(error, route)
            await self._end(leave, ending_of(self.problem), self.problem)
        except SlateTakenOverError as lost:
            await self._end(leave, Ending.TAKEN_OVER, lost)
            raise
        except BaseException:
            if begun:
                leave.abandon(self._judged(route))
            else:
                leave.unused()  # nothing goes out before it is written down
            await self._services.ledger.abandon_attempt(self._slate, self._record)
            raise
        else:
            await self._end(leave, self._good_ending(), None)

    async def _rows(self, leave: Leave) -> AsyncGenerator[CommittedRecommendation]:
        services, judge, route = self._services, self._judge, leave.route
        texts = stream(route.client, route.endpoint, self._prompt, self._record, leave.heard, leave.offer, leave.covers)
        outcomes = validate(parse(texts, judge.enough), judge)
        written = write(outcomes, self._slate, services.writer, services.ledger, route.origin)
        async with aclosing(written) as rows:
            async for row in rows:
                yield row
        judge.require_any()

    async def _end(self, leave: Leave, ending: Ending, error: RecstreamError | None) -> None:
        record = self._judged(leave.route)
        leave.end(record, self.problem, self._case())
        if self._case().placed:
            self._services.retry_budget.earn()
        await self._services.ledger.end_attempt(self._slate, record, ending, None if error is None else str(error))

    def _judged(self, route: Route) -> AnswerRecord:
        record, price = self._record, route.prices.price
        record.refused_objects, record.score_rises = self._judge.refused, self._judge.score_rises
        record.usage = calibrated(route, self._prompt, record.usage)
        record.cost = None if price is None else price.cost(record.usage)
        return record

    def _case(self) -> Case:
        return Case(
            placed=len(self._slate.placed) > self._placed_before,
            spoke=self._record.first_byte_s is not None,
            down=self._route is not None and self._route.breaker.is_down,
            patience_s=self._services.patience_s,
        )

    def _told(self, error: AnswerError, route: Route) -> AnswerError:
        """The error; where an answer held nothing but the endpoint's own refusal, that one."""
        if isinstance(error, AnswerEmptyError):
            return refusal_said(self._record.said, route.endpoint.address) or error
        return error

    def _good_ending(self) -> Ending:
        return Ending.COMPLETE if self._record.finish_reason or not self._judge.enough() else Ending.ENOUGH


async def _stop(slate: Slate, verdict: Verdict, attempt: _Attempt, ledger: SlateLedger) -> None:
    """End the run: no customer can be served. The slate says why, if it was its own request that found that out."""
    if attempt.was_sent:
        await _close(slate, verdict.reason, ledger)
    if attempt.problem is not None:
        raise attempt.problem


async def _filled_up(
    candidates: Candidates, slate: Slate, services: SlateServices
) -> AsyncGenerator[CommittedRecommendation]:
    """The rows that no model would give, in the order in which the candidates were found."""

    async def outcomes() -> AsyncGenerator[Outcome]:
        for recommendation in last_resort.retrieval_order(candidates.found, slate.placed.values(), slate.wanted):
            yield recommendation

    async with aclosing(write(outcomes(), slate, services.writer, services.ledger, last_resort.ORIGIN)) as rows:
        async for row in rows:
            slate.note_row()
            yield row


async def _close(slate: Slate, reason: str, ledger: SlateLedger) -> None:
    if not slate.wanted:
        await ledger.close(
            slate,
            SlateState.FAILED,
            "no candidates: rules, stock or a list of his own leave nothing to recommend to this customer",
        )
    elif not slate.missing:
        filled_up = reason.startswith(last_resort.BEGINNING)
        await ledger.close(slate, SlateState.COMPLETE, reason if filled_up else None)
    else:
        state = SlateState.SHORT if slate.placed else SlateState.FAILED
        reason = reason or "the database refused rows: see rejections"
        if log_context().shard is not None:  # who asks for one customer is told by the slate
            _log.warning("the slate is %s: %s", state, reason)
        await ledger.close(slate, state, reason)


def _why_not(error: BaseException) -> str:
    """What the ledger says of a slate that is left to whoever opens it next."""
    return f"not attempted: {error.short}" if isinstance(error, RunHaltedError) else "not served: its run ended before"
