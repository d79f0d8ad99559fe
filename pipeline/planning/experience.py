"""What the last nights of a model teach: how its endpoint counts, how long it writes, how often it is asked twice."""

from dataclasses import dataclass
from typing import Final

ENOUGH_SLATES: Final = 20  # fewer tell too little of how often a request is made again
_FURTHEST: Final = 4.0  # a ratio beyond this, or below its inverse, is of something else


@dataclass(frozen=True, slots=True)
class Asked:
    """A model, and the prompt that it is asked with."""

    model: str
    prompt_version: str


@dataclass(frozen=True, slots=True)
class History:
    """The last nights of one model in numbers; see `plan_history.sql`.

    `rows` were wanted; `first_tokens_in` is the mean of first requests; `answering_s` is the sum of all answers' times,
    `busy_s` how long there were any.
    """

    runs: int
    slates: int
    rows: int
    requests: int
    answers: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    first_tokens_in: float
    answering_s: float
    busy_s: float


@dataclass(frozen=True, slots=True)
class Experience:
    """How an estimate is turned into what a night will report. Without history all is as it is estimated.

    `input_ratio`: reported tokens for an estimated one. `requests` and `inputs` of a slate: how often it is asked for,
    and how many times its first prompt is paid. None if nobody knows: `output_tokens_of_a_row`; `answer_s`, the seconds
    that a slate's answers take; `answers_at_once`, how many were seen to go on together.
    """

    input_ratio: float = 1.0
    output_tokens_of_a_row: float | None = None
    requests: float = 1.0
    inputs: float = 1.0
    cached_share: float = 0.0
    answer_s: float | None = None
    answers_at_once: float | None = None
    runs: int = 0


def experience_of(history: History | None, input_ratio: float, concurrency: int) -> Experience:
    """What this history teaches for a night with so many answers at once."""
    if history is None or history.slates < ENOUGH_SLATES:
        return Experience(input_ratio)
    return Experience(
        input_ratio=input_ratio,
        output_tokens_of_a_row=history.tokens_out / history.rows if history.rows else None,
        requests=max(history.requests / history.slates, 1.0),
        inputs=_inputs(history),
        cached_share=history.tokens_cached / history.tokens_in,
        answer_s=history.answering_s / history.slates,
        answers_at_once=_answers_at_once(history, concurrency),
        runs=history.runs,
    )


def ratio_of(estimated: int, reported: int) -> float:
    """Reported tokens for an estimated one; 1 where nothing is known."""
    if not estimated or not reported:
        return 1.0
    return min(max(reported / estimated, 1 / _FURTHEST), _FURTHEST)


def _inputs(history: History) -> float:
    if not history.first_tokens_in:
        return 1.0
    return history.tokens_in / (history.first_tokens_in * history.slates)


def _answers_at_once(history: History, concurrency: int) -> float | None:
    """A night of few customers says nothing of how many there can be."""
    if not history.busy_s or history.slates < 4 * concurrency * history.runs:
        return None
    return max(history.answering_s / history.busy_s, 1.0)
