"""What a provider with limits allows, as a plan: how much, how it refuses more, and what it tells about itself."""

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Rate = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Places = Annotated[int, Field(ge=0)]
Span = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Wait = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Dialect(StrEnum):
    """How every answer tells of the limits: not at all, or in the headers of one provider or the other."""

    OFF = "off"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class LimitChange(BaseModel):
    """Rates that come into force so many seconds after the first request under the plan. What is unset stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after_seconds: Wait
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    concurrency: Places | None = None


class LimitPlan(BaseModel):
    """What is allowed; None allows as much as is asked for, 0 nothing.

    Requests and tokens are counted in buckets that fill continuously and hold `burst_seconds` worth, or, where
    `window_seconds` is set, in windows of that length that begin full. A refusal says when to come back as far as
    `retry_after` (whole seconds) and `retry_after_ms` let it: the truth, or `retry_after_seconds`. `in_band` refuses
    inside a stream that began well. `shared_tokens_per_second` is what all streams have together: nobody is refused
    for it, everybody gets slower. `prompt_cache` reports the beginning of a prompt that was seen before as cached.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    concurrency: Places | None = None
    burst_seconds: Span = 1
    window_seconds: Span | None = None
    headers: Dialect = Dialect.OFF
    retry_after: bool = True
    retry_after_ms: bool = False
    retry_after_seconds: Wait | None = None
    in_band: bool = False
    shared_tokens_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    prompt_cache: bool = False
    changes: tuple[LimitChange, ...] = ()

    @model_validator(mode="after")
    def _changes_in_order(self) -> Self:
        if any(later.after_seconds < earlier.after_seconds for earlier, later in pairwise(self.changes)):
            raise ValueError("the changes must stand in the order of their times")
        return self

    def changed(self, change: LimitChange) -> "LimitPlan":
        """The plan with the rates of this change in force."""
        return self.model_copy(update=change.model_dump(exclude_unset=True, exclude={"after_seconds"}))

    def in_force(self) -> dict[str, float]:
        """What is limited, by name."""
        limits = {
            "requests_per_minute": self.requests_per_minute,
            "tokens_per_minute": self.tokens_per_minute,
            "concurrency": self.concurrency,
        }
        return {name: limit for name, limit in limits.items() if limit is not None}
