"""What the flows may be told. An unknown parameter is refused, so that a misspelt one never passes in silence."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flows.run_names import on_demand_run_name
from pipeline.domain import CustomerId, RunId, ShardLease, SlateState
from pipeline.runs import LEFT

MOST_RESTARTS = 5
MOST_CUSTOMERS = 1000
"""On one list: what somebody waits for is no night."""


class NightlyParameters(BaseModel):
    """Parameters of the nightly flow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Only the first so many customers.")
    refresh: bool = Field(default=False, description="Make every slate anew, also where nothing has changed.")
    resume: UUID | None = Field(default=None, description="Go on with this run instead of starting one.")
    anew: bool = Field(default=False, description="Start a run also where the last night was interrupted.")
    only: Literal["failed"] | None = Field(default=None, description="Of the run that is resumed, only these slates.")

    restarts: Annotated[int, Field(ge=0, le=MOST_RESTARTS)] = Field(
        default=0, description="How often it has been started again after a crash: the automation counts."
    )
    crashed: UUID | None = Field(
        default=None, description="The flow run that crashed, as the automation names it: its run is gone on with."
    )

    @property
    def left(self) -> Collection[SlateState]:
        """The states of the slates that are to be made.

        A slate that is tried again is failed no more, but streaming: who follows on a process that died has it too.
        """
        return LEFT if self.only is None else (SlateState(self.only), SlateState.STREAMING)

    @property
    def is_any_night(self) -> bool:
        """True where it may as well be one that was interrupted lately."""
        return self.limit is None and not self.refresh and not self.anew

    @model_validator(mode="after")
    def _only_of_a_run(self) -> Self:
        if self.only is not None and self.resume is None:
            raise ValueError("only is for a run that is resumed: a new run has no slates yet")
        return self

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.limit is not None and self.resume is not None:
            raise ValueError("limit is for a new run: a run that is resumed has its customers already")
        return self

    @model_validator(mode="after")
    def _refresh_of_a_new_run(self) -> Self:
        if self.refresh and self.resume is not None:
            raise ValueError("refresh is for a new run: a run that is resumed goes on as it was planned")
        return self


class ShardParameters(BaseModel):
    """Parameters of the flow of one shard: what the parent has offered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: UUID = Field(description="The run that has planned the shard.")
    shard: Annotated[int, Field(ge=0)] = Field(description="Which of its shards.")
    attempt: Annotated[int, Field(ge=1)] = Field(
        description="The fencing token: whoever has an earlier one is refused."
    )
    left: tuple[SlateState, ...] = Field(default=LEFT, description="Only slates in these states are made.")

    @property
    def lease(self) -> ShardLease:
        """The right to serve it, as long as it is the newest."""
        return ShardLease(RunId(self.run_id), self.shard, self.attempt)


class CandidatesParameters(BaseModel):
    """Parameters of the flow that builds candidates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: datetime | None = Field(default=None, description="From what happened up to this moment; now by default.")
    method: Literal["auto", "sql", "scipy"] | None = Field(default=None, description="Instead of the setting.")

    @field_validator("as_of")
    @classmethod
    def _with_zone(cls, moment: datetime | None) -> datetime | None:
        if moment is not None and moment.tzinfo is None:
            raise ValueError("as_of needs a zone, as in 2026-11-23T03:00:00+01:00")
        return moment


class OnDemandParameters(BaseModel):
    """Parameters of the on-demand flow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customer_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="The customer to serve now."
    )
    customer_ids: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(max_length=MOST_CUSTOMERS)
    ] = Field(default=(), description="Or these customers, in one run.")

    @property
    def customers(self) -> list[CustomerId]:
        """Whom to serve."""
        return [CustomerId(it) for it in ([self.customer_id] if self.customer_id else self.customer_ids)]

    @property
    def run_name(self) -> str:
        """What the flow run is called."""
        return on_demand_run_name(self.customers)

    @model_validator(mode="after")
    def _one_or_a_list(self) -> Self:
        if bool(self.customer_id) == bool(self.customer_ids):
            raise ValueError("give either customer_id or customer_ids: one customer, or a list of them")
        return self


class EvaluationParameters(BaseModel):
    """Parameters of the evaluation flow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: str | None = Field(default=None, description="Where the targets begin; else as late as can be.")
    days: Annotated[int, Field(ge=1, le=366)] = Field(
        default=30, description="For how many days purchases are targets."
    )
    candidates_only: bool = Field(
        default=False, description="Only what is among the candidates: no measures of slates."
    )
    runs: Annotated[tuple[str, ...], Field(max_length=2)] = Field(
        default=(), description="A run to measure, or two to hold against each other: ids, or RUN:VARIANT."
    )
    seed: Annotated[int, Field(ge=0)] = Field(default=1, description="Of the resamples that give the intervals.")
