"""Misbehaviour on demand: which faults there are, and which requests suffer them.

Every fault is drawn on its own for every request, from the plan's seed and the request's number alone, so
that the same plan gives the same faults in the same order.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Fault(StrEnum):
    """What can be done to a request, in the order in which it is applied."""

    REFUSED_429 = "refused-429"
    REFUSED_500 = "refused-500"
    DELAYED = "delayed"
    STALLED = "stalled"
    UNKNOWN_CANDIDATE = "unknown-candidate"
    MISSING_SCORE = "missing-score"
    REPEATED_PRODUCT = "repeated-product"
    NAN_SCORE = "nan-score"
    TEXT_SCORE = "text-score"
    WRAPPED = "wrapped"
    HELD = "held"
    ERROR_EVENT = "error-event"
    CUT = "cut"


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
ObjectCount = Annotated[int, Field(ge=0)]


class FaultPlan(BaseModel):
    """The share of requests that each fault befalls, and how the faults go about it.

    `cut_after_objects` goes before `cut_at_share`, a share of the answer's characters. A held answer stops
    after `hold_after_objects` and goes on when the next plan is put.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    shares: Mapping[Fault, Share] = Field(default_factory=dict)
    retry_after_seconds: Seconds | None = 1
    delay_seconds: Seconds = 1
    cut_after_objects: ObjectCount | None = None
    cut_at_share: Share = 0.5
    error_after_objects: ObjectCount = 2
    hold_after_objects: ObjectCount = 1

    def drawn(self, request_number: int) -> tuple[Fault, ...]:
        """Return the faults of the request with this number, counted from 1."""
        return tuple(fault for fault in Fault if self._draw(fault, request_number) < self.shares.get(fault, 0))

    def _draw(self, fault: Fault, request_number: int) -> float:
        digest = hashlib.blake2b(f"{self.seed}:{fault}:{request_number}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64
