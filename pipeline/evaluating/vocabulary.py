"""The words of an evaluation: what counts as a hit, for whom, and by which measure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pipeline.domain import ProductId

CUTS: Final = (5, 10, 20)
"""After how many places a slate is judged."""
LIGHT_ORDERS: Final = 4
"""A customer with more days of purchases than this is heavy."""


class Scope(StrEnum):
    """Which targets count: products that the customer had never purchased, those that he had, or both."""

    NEW = "new"
    REPEAT = "repeat"
    ALL = "all"


class Segment(StrEnum):
    """Customers by the days on which they had purchased something; ALL are those with at least one."""

    ALL = "all"
    COLD = "cold"
    LIGHT = "light"
    HEAVY = "heavy"


SEGMENT_BOUNDS: Final = {
    Segment.ALL: "purchased something before",
    Segment.COLD: "never purchased anything before",
    Segment.LIGHT: f"purchased on 1 to {LIGHT_ORDERS} days before",
    Segment.HEAVY: f"purchased on {LIGHT_ORDERS + 1} days or more before",
}


class Measure(StrEnum):
    """How a ranked list is judged against the targets: both are sets of products, no target weighs more than another.

    With K places: RECALL is hits / targets, PRECISION hits / K, HIT is 1 with at least one hit. NDCG is the sum of
    1 / log2(place + 1) over hits, divided by the same sum were all places hits as far as there are targets. MRR is
    1 / place of the first hit, 0 without one.
    """

    RECALL = "recall"
    PRECISION = "precision"
    NDCG = "ndcg"
    MRR = "mrr"
    HIT = "hit"


MEASURES_TOLD: Final = {
    Measure.RECALL: "found",
    Measure.PRECISION: "hits",
    Measure.NDCG: "NDCG",
    Measure.MRR: "MRR",
    Measure.HIT: "reached",
}
"""What people read instead."""


@dataclass(frozen=True, slots=True)
class At:
    """A measure after so many places."""

    measure: Measure
    places: int

    def __str__(self) -> str:
        return f"{self.measure}@{self.places}"


@dataclass(frozen=True, slots=True)
class Targets:
    """What one customer purchased in the window. `orders` are the days of purchases before it."""

    new: frozenset[ProductId]
    repeat: frozenset[ProductId]
    orders: int

    def of(self, scope: Scope) -> frozenset[ProductId]:
        """The targets that count."""
        if scope is Scope.ALL:
            return self.new | self.repeat
        return self.new if scope is Scope.NEW else self.repeat

    @property
    def segment(self) -> Segment:
        """The one, besides ALL, that he is in."""
        if not self.orders:
            return Segment.COLD
        return Segment.LIGHT if self.orders <= LIGHT_ORDERS else Segment.HEAVY


def slate_measures() -> tuple[At, ...]:
    """Every measure of a slate."""
    return tuple(At(measure, places) for places in CUTS for measure in Measure)
