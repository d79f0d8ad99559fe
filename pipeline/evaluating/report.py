"""What an evaluation has come to: plain figures, whose names and keys stay as they are for programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pipeline.evaluating.vocabulary import Scope, Segment


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over customers, with its 95% bootstrap interval; None of nobody."""

    mean: float | None
    low: float | None
    high: float | None

    @property
    def is_sure(self) -> bool:
        """Whether 0 lies outside: as a difference it is more than chance."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of one list; `less` are its differences to other lists, paired: customer by customer."""

    list: str
    scope: Scope
    segment: Segment
    measure: str
    places: int
    customers: int
    value: Interval
    less: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many products of the catalog are on any slate of so many places, and their share."""

    list: str
    places: int
    products: int
    share: float


@dataclass(frozen=True, slots=True)
class MeasuredList:
    """A list as it is named in the figures, and to people; `ranked_by` says of a run how many rows are whose.

    A name there is a model's, or what ranked without one: offline_ranker, retrieval_order.
    """

    list: str
    told: str
    run: str | None
    ranked_by: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Counted:
    """How many customers and targets there were.

    Purchases of products never sold before, or gone from the catalog, are no targets: `targets_never_sold` are those.
    """

    looked_up: int
    scored_new: int
    scored_repeat: int
    scored_all: int
    cold: int
    targets_new: int
    targets_repeat: int
    targets_never_sold: int
    catalog: int
    sold_before: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All of it. `begins` to `until` are the targets; figures of segment ALL leave cold customers out."""

    begins: datetime
    until: datetime
    days: int
    places: int
    seed: int
    resamples: int
    counted: Counted
    lists: tuple[MeasuredList, ...]
    figures: tuple[Figure, ...]
    coverage: tuple[Coverage, ...]
    notes: tuple[str, ...]

    def figure(
        self, name: str, scope: Scope, measure: str, places: int, segment: Segment = Segment.ALL
    ) -> Figure | None:
        """One of the figures; None where it was not measured."""
        wanted = (name, scope, segment, measure, places)
        found = (it for it in self.figures if (it.list, it.scope, it.segment, it.measure, it.places) == wanted)
        return next(found, None)
