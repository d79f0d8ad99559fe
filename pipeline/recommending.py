"""The flow of one slate: profile → prompt → stream → parse → validate → write, attempt after attempt."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from openai import AsyncOpenAI

from pipeline.domain import (
    AnswerRecord,
    CommittedRecommendation,
    Ending,
    Product,
    Profile,
    SlateState,
)
from pipeline.errors import (
    AnswerCutError,
    AnswerEmptyError,
    AnswerError,
    AnswerFilteredError,
    AnswerLimitError,
    AnswerOverdueError,
    AnswerRefusedError,
    AnswerStalledError,
    EndpointFatalError,
    EndpointRefusedError,
    EndpointUnreachableError,
    PromptRefusedError,
    RateLimitedError,
    RecstreamError,
    SlateTakenOverError,
)
from pipeline.group_commit import GroupCommit
from pipeline.parsing import parse
from pipeline.prompts import Prompt, compose
from pipeline.slates import Slate, SlateLedger
from pipeline.streaming import Endpoint, stream
from pipeline.validation import Judge, remaining, validate
from pipeline.writing import write

MOST_REFUSALS_IN_A_ROW = 20
_log = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 30.0

_ENDINGS: tuple[tuple[type[AnswerError], Ending], ...] = (
    (EndpointFatalError, Ending.FATAL),
    (RateLimitedError, Ending.RATE_LIMITED),
    (EndpointRefusedError, Ending.ENDPOINT_ERROR),
    (EndpointUnreachableError, Ending.UNREACHABLE),
    (AnswerStalledError, Ending.IDLE),
    (AnswerOverdueError, Ending.OVERDUE),
    (AnswerCutError, Ending.CUT),
    (AnswerLimitError, Ending.LENGTH_LIMIT),
    (AnswerFilteredError, Ending.CONTENT_FILTER),
    (AnswerRefusedError, Ending.REFUSED),
    (AnswerEmptyError, Ending.EMPTY),
)


class RefusalStreak:
    """Tells one customer's refused prompt from a request that the endpoint refuses for everybody."""

    def __init__(self) -> None:
        self._refused = 0

    def note(self, problem: AnswerError | None) -> None:
        """Take note of how a slate ended.

        Raises:
            EndpointFatalError: so many prompts were refused one after another that all of them would be.
        """
        self._refused = self._refused + 1 if isinstance(problem, PromptRefusedError) else 0
        if self._refused >= MOST_REFUSALS_IN_A_ROW:
            raise EndpointFatalError(
                f"{problem}; the same for {self._refused} customers in a row: mend it, then `recstream resume`"
            )


@dataclass(frozen=True, slots=True)
class SlateServices:
    """What the slates of one run share."""

    client: AsyncOpenAI
    endpoint: Endpoint
    writer: GroupCommit
    ledger: SlateLedger
    slate_size: int
    attempts: int
    refusals: RefusalStreak = field(default_factory=RefusalStreak)


async def recommend(
    profile: Profile, candidates: Sequence[Product], services: SlateServices
) -> AsyncGenerator[CommittedRecommendation]:
    """Yield each recommendation once it is durable; go on where an earlier try broke off.

    How the slate ended stands in the ledger. A customer whose attempts all fail raises nothing, nor does one whose
    slate is opened by another meanwhile, or who is erased: the night goes on.

    Raises:
        EndpointFatalError: no customer can be served; the run must stop.
        DatabaseError: the rows yielded before are durable, nothing more can be written.
    """
    try:
        async with aclosing(_opened(profile, candidates, services)) as rows:
            async for row in rows:
                yield row
    except SlateTakenOverError as lost:
        _log.info("%s", lost)


async def _opened(
    profile: Profile, candidates: Sequence[Product], services: SlateServices
) -> AsyncGenerator[CommittedRecommendation]:
    slate = await services.ledger.open(profile.customer_id, candidates, services.slate_size)
    if slate.state is SlateState.COMPLETE:
        return
    try:
        async with aclosing(_attempts(profile, candidates, slate, services)) as rows:
            async for row in rows:
                yield row
    except SlateTakenOverError:
        raise
    except BaseException:
        if slate.state is SlateState.STREAMING:
            await services.ledger.give_back(slate)
        raise


async def _attempts(
    profile: Profile, candidates: Sequence[Product], slate: Slate, services: SlateServices
) -> AsyncGenerator[CommittedRecommendation]:
    problem: AnswerError | None = None
    shortfall = ""
    for tried in range(services.attempts):
        if not slate.missing:
            break
        if problem is not None:
            await asyncio.sleep(_pause(tried, problem))
        attempt = _Attempt(profile, candidates, slate, services)
        async with aclosing(attempt.run()) as rows:
            async for row in rows:
                yield row
        problem, shortfall = attempt.problem, attempt.shortfall
        if isinstance(problem, PromptRefusedError):
            break
    await _close(slate, str(problem or shortfall), services.ledger)
    services.refusals.note(problem)


class _Attempt:
    """One request for the rows that are missing.

    `problem` is what kept it from an answer that ended well, `shortfall` why such an answer was not enough.
    """

    def __init__(self, profile: Profile, candidates: Sequence[Product], slate: Slate, services: SlateServices) -> None:
        self._candidates = remaining(candidates, slate.placed)
        self._prompt: Prompt = compose(profile.as_text(), self._candidates, slate.missing)
        self._judge = Judge(self._candidates, asked=slate.missing)
        self._slate = slate
        self._services = services
        self._record = AnswerRecord()
        self.problem: AnswerError | None = None
        self.shortfall = ""

    async def run(self) -> AsyncGenerator[CommittedRecommendation]:
        await self._services.ledger.begin_attempt(self._slate, self._prompt.input_hash)
        try:
            async with aclosing(self._rows()) as rows:
                async for row in rows:
                    self._slate.note_row()
                    yield row
        except AnswerError as error:
            self.problem = error
            await self._end(_ending_of(error), error)
        except SlateTakenOverError as lost:
            await self._end(Ending.TAKEN_OVER, lost)
            raise
        except BaseException:
            await self._services.ledger.abandon_attempt(self._slate, self._judged())
            raise
        else:
            self.shortfall = self._judge.shortfall()
            await self._end(self._good_ending(), None)
        if isinstance(self.problem, EndpointFatalError):
            await _close(self._slate, str(self.problem), self._services.ledger)
            raise self.problem

    async def _end(self, ending: Ending, error: RecstreamError | None) -> None:
        said = None if error is None else str(error)
        await self._services.ledger.end_attempt(self._slate, self._judged(), ending, said)

    def _judged(self) -> AnswerRecord:
        self._record.refused_objects, self._record.score_rises = self._judge.refused, self._judge.score_rises
        return self._record

    def _good_ending(self) -> Ending:
        return Ending.COMPLETE if self._record.finish_reason or not self._judge.enough() else Ending.ENOUGH

    async def _rows(self) -> AsyncGenerator[CommittedRecommendation]:
        services, judge = self._services, self._judge
        texts = stream(services.client, services.endpoint, self._prompt, self._record)
        outcomes = validate(parse(texts, judge.enough), judge)
        async with aclosing(write(outcomes, self._slate, services.writer, services.ledger)) as rows:
            async for row in rows:
                yield row
        judge.require_any()


async def _close(slate: Slate, reason: str, ledger: SlateLedger) -> None:
    if not slate.wanted:
        await ledger.close(
            slate,
            SlateState.FAILED,
            "no candidates: nothing in the catalog may be recommended to this customer",
        )
    elif not slate.missing:
        await ledger.close(slate, SlateState.COMPLETE, None)
    else:
        state = SlateState.SHORT if slate.placed else SlateState.FAILED
        await ledger.close(slate, state, reason or "the database refused rows: see rejections")


def _ending_of(error: AnswerError) -> Ending:
    if isinstance(error, EndpointRefusedError) and error.in_band:
        return Ending.ERROR_IN_BAND
    return next(ending for kind, ending in _ENDINGS if isinstance(error, kind))


def _pause(tried: int, problem: AnswerError) -> float:
    """Seconds before the next attempt: what the endpoint asked for, else growing; never the same for all."""
    if isinstance(problem, EndpointRefusedError) and problem.retry_after is not None:
        return min(problem.retry_after, _LONGEST_PAUSE_S) + random.uniform(0, 0.5)  # noqa: S311 - jitter
    if isinstance(problem, (AnswerEmptyError, AnswerLimitError)):
        return 0.0
    longest: float = min(0.5 * 2**tried, _LONGEST_PAUSE_S)
    return random.uniform(0.5, 1) * longest  # noqa: S311 - jitter
