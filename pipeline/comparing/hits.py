"""Whether what was recommended was bought afterwards: the share of customers, and how surely one side has more.

A hit is a customer who purchased at least one product of his slate within the window, which is the same for both
sides. It begins at the later of the two runs' `as_of`: what was bought between them one run may have known already.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.comparing.intervals import Interval, independent_difference, paired_difference, wilson


@dataclass(frozen=True, slots=True)
class Share:
    """How many customers of how many, with Wilson's 95% interval of the share."""

    customers: int
    hits: int
    share: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Hits:
    """Hits of both sides within one window, and their difference, second less first.

    `paired`: both shares are of the customers with a slate on both sides, and the difference is of each with himself
    (`first_only` and `second_only` are those whom one side alone has hit). Else the two have no customer in common.
    `buyers` are those of the customers in question who bought anything at all. The window has its first moment
    outside and its last inside.
    """

    since: datetime
    until: datetime
    depth: int
    paired: bool
    buyers: int
    first: Share
    second: Share
    first_only: int
    second_only: int
    difference: float
    interval: Interval


@dataclass(slots=True)
class HitTally:
    """What is known after the customers that were added: those with two slates, and those with one."""

    both: int = 0
    first_only: int = 0
    second_only: int = 0
    neither: int = 0
    paired_buyers: int = 0
    first_alone: int = 0
    first_alone_hits: int = 0
    second_alone: int = 0
    second_alone_hits: int = 0
    alone_buyers: int = 0

    def add(self, first: Sequence[str] | None, second: Sequence[str] | None, bought: Collection[str]) -> None:
        """Add one customer: the products of his slates, None where he has none, and what he bought in the window."""
        hit_by_first = first is not None and not set(bought).isdisjoint(first)
        hit_by_second = second is not None and not set(bought).isdisjoint(second)
        if first is not None and second is not None:
            self.paired_buyers += bool(bought)
            self._add_pair(hit_by_first, hit_by_second)
            return
        self.alone_buyers += bool(bought)
        if first is not None:
            self.first_alone += 1
            self.first_alone_hits += hit_by_first
        else:
            self.second_alone += 1
            self.second_alone_hits += hit_by_second

    def whole(self, since: datetime, until: datetime, depth: int) -> Hits | None:
        """What it came to; None where a side has no customer."""
        pairs = self.both + self.first_only + self.second_only + self.neither
        if not pairs and not (self.first_alone and self.second_alone):
            return None
        if pairs:
            first, second = (self.both + self.first_only, pairs), (self.both + self.second_only, pairs)
            interval = paired_difference(self.both, self.first_only, self.second_only, self.neither)
        else:
            first, second = (self.first_alone_hits, self.first_alone), (self.second_alone_hits, self.second_alone)
            interval = independent_difference(first, second)
        return Hits(
            since=since,
            until=until,
            depth=depth,
            paired=bool(pairs),
            buyers=self.paired_buyers if pairs else self.alone_buyers,
            first=_share(*first),
            second=_share(*second),
            first_only=self.first_only,
            second_only=self.second_only,
            difference=second[0] / second[1] - first[0] / first[1],
            interval=interval,
        )

    def _add_pair(self, hit_by_first: bool, hit_by_second: bool) -> None:
        if hit_by_first and hit_by_second:
            self.both += 1
        elif hit_by_first:
            self.first_only += 1
        elif hit_by_second:
            self.second_only += 1
        else:
            self.neither += 1


def _share(hits: int, customers: int) -> Share:
    return Share(customers, hits, hits / customers, wilson(hits, customers))
