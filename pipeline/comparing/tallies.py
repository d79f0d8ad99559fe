"""Adds up, customer by customer, how alike two sides rank: memory does not grow with their number."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.comparing.likeness import jaccard, kendall_tau, overlap, rank_biased_overlap


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike the slates are of the customers who have one on both sides: means over customers.

    `depth` is how many places of each slate were looked at. `ordered` are customers with two products or more in
    both of their slates: tau is their mean. `same_slate` are customers whose slate is one and the same on both sides,
    because one run kept the other's, or both a third one's. Means are None where they are of nobody.
    """

    depth: int
    customers: int
    same_slate: int
    identical: int
    overlap: float | None
    jaccard: float | None
    rank_biased_overlap: float | None
    kendall_tau: float | None
    ordered: int


@dataclass(slots=True)
class LikenessTally:
    """What is known after the customers that were added."""

    depth: int
    customers: int = 0
    same_slate: int = 0
    identical: int = 0
    ordered: int = 0
    _overlap: float = 0.0
    _jaccard: float = 0.0
    _rank_biased_overlap: float = 0.0
    _kendall_tau: float = 0.0

    def add(self, first: Sequence[str], second: Sequence[str], *, same_slate: bool) -> None:
        """Add one customer: the products of his two slates, the best first."""
        self.customers += 1
        self.same_slate += same_slate
        if first == second:
            self._add_identical(len(first))
            return
        self._overlap += overlap(first, second)
        self._jaccard += jaccard(first, second)
        self._rank_biased_overlap += rank_biased_overlap(first, second)
        tau = kendall_tau(first, second)
        if tau is not None:
            self.ordered += 1
            self._kendall_tau += tau

    def whole(self) -> Likeness:
        """What it came to."""
        return Likeness(
            depth=self.depth,
            customers=self.customers,
            same_slate=self.same_slate,
            identical=self.identical,
            overlap=_mean(self._overlap, self.customers),
            jaccard=_mean(self._jaccard, self.customers),
            rank_biased_overlap=_mean(self._rank_biased_overlap, self.customers),
            kendall_tau=_mean(self._kendall_tau, self.ordered),
            ordered=self.ordered,
        )

    def _add_identical(self, products: int) -> None:
        self.identical += 1
        self._overlap += 1
        self._jaccard += 1
        self._rank_biased_overlap += 1
        if products > 1:
            self.ordered += 1
            self._kendall_tau += 1


def _mean(total: float, number: int) -> float | None:
    return total / number if number else None
