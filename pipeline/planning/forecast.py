"""What one customer's slate will come to, and the sums over many of them, with the error of a sample."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import sqrt
from typing import Final

from pipeline.planning.experience import Experience

_DEVIATIONS: Final = 1.96  # 95 of 100 samples err by less


@dataclass(frozen=True, slots=True)
class Forecast:
    """One slate, in means: of two slates one may be asked for once and the other three times."""

    model: str
    requests: float
    tokens_in: float
    tokens_cached: float
    tokens_out: float
    answering_s: float | None


@dataclass(frozen=True, slots=True)
class Question:
    """A slate's first request: its rows, and the tokens that prompt and answer are estimated to have."""

    model: str
    rows: int
    prompt_tokens: int
    answer_tokens: int


def forecast(question: Question, experience: Experience, pace: float | None) -> Forecast:
    """What the slate will come to. `pace`: tokens a second, where they are known."""
    tokens_in = question.prompt_tokens * experience.input_ratio * experience.inputs
    tokens_out = float(question.answer_tokens)
    if experience.output_tokens_of_a_row is not None:
        tokens_out = question.rows * experience.output_tokens_of_a_row
    answering_s = experience.answer_s
    if answering_s is None and pace is not None:
        answering_s = tokens_out / pace
    return Forecast(
        question.model,
        experience.requests,
        tokens_in,
        tokens_in * experience.cached_share,
        tokens_out,
        answering_s,
    )


@dataclass(slots=True)
class Sum:
    """A sum over a sample, and what is needed to say how far it may be off."""

    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Take in one customer's value; one who has none adds nothing."""
        self.total += value
        self.squares += value * value

    def margin(self, sampled: int, of: int) -> float:
        """How far the whole may be from what the sample says, as a share of it, in 95 cases of 100."""
        if sampled >= of or sampled < 2 or not self.total:
            return 0.0
        mean = self.total / sampled
        variance = max(self.squares / sampled - mean * mean, 0.0) * sampled / (sampled - 1)
        return _DEVIATIONS * sqrt(variance / sampled * (1 - sampled / of)) / mean


@dataclass(slots=True)
class ModelTally:
    """The slates of one model. `answering_s` is None as soon as nobody knows it of one of them."""

    customers: int = 0
    requests: float = 0.0
    tokens_in: float = 0.0
    tokens_cached: float = 0.0
    tokens_out: float = 0.0
    answering_s: float | None = 0.0

    def add(self, slate: Forecast) -> None:
        """Take in one slate."""
        self.customers += 1
        self.requests += slate.requests
        self.tokens_in += slate.tokens_in
        self.tokens_cached += slate.tokens_cached
        self.tokens_out += slate.tokens_out
        known = self.answering_s is not None and slate.answering_s is not None
        self.answering_s = (self.answering_s or 0.0) + (slate.answering_s or 0.0) if known else None

    def scaled(self, by: float) -> "ModelTally":
        """The same for so many times as many customers."""
        return ModelTally(
            round(self.customers * by),
            self.requests * by,
            self.tokens_in * by,
            self.tokens_cached * by,
            self.tokens_out * by,
            None if self.answering_s is None else self.answering_s * by,
        )


@dataclass(slots=True)
class Tally:
    """All customers that were looked at: who would be skipped, and what the others come to, model by model."""

    looked_at: int = 0
    unchanged: int = 0
    no_candidates: int = 0
    models: dict[str, ModelTally] = field(default_factory=dict)
    tokens: Sum = field(default_factory=Sum)

    def add(self, slates: Iterable[Forecast]) -> None:
        """Take in the slates of a page that would be asked for."""
        for slate in slates:
            self.models.setdefault(slate.model, ModelTally()).add(slate)
            self.tokens.add(slate.tokens_in + slate.tokens_out)
