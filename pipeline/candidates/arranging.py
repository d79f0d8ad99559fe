"""Gives the places among the candidates to what was found for one customer: pure, and the same whenever it is asked."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Final

from pipeline.domain import Candidate, FoundBy, ProductId, Rule

Removed = tuple[Rule, ProductId]
MOST_REMOVED: Final = 50
"""So many removals of one customer are recorded."""


@dataclass(frozen=True, slots=True)
class Found:
    """What may be offered to one customer, each kind best first. A product may be of several kinds.

    They are read only as far as there are places.
    """

    pinned: Iterable[Candidate] = ()
    neighbours: Iterable[Candidate] = ()
    repeats: Iterable[Candidate] = ()
    newcomers: Iterable[Candidate] = ()
    popular: Iterable[Candidate] = ()


@dataclass(frozen=True, slots=True)
class Places:
    """How many places there are, and how many of them one kind of product may take while there are others.

    Shares are of `most`; 0 of a category or brand is any number.
    """

    most: int
    repeat_share: float = 0.3
    newcomer_share: float = 0.05
    per_category: int = 0
    per_brand: int = 0

    @property
    def for_repeats(self) -> int:
        """The places for what the customer has bought before."""
        return int(self.most * self.repeat_share + 1e-9)

    @property
    def for_newcomers(self) -> int:
        """The places for what hardly anybody has bought yet."""
        return int(self.most * self.newcomer_share + 1e-9)


def arrange(found: Found, places: Places) -> tuple[list[Candidate], list[Removed]]:
    """The candidates, best first, and what was kept out for the sake of diversity.

    Pins come first. Repeats and newcomers stand among the rest at even distances, so that the first ten are as mixed as
    the whole. What is one too many of its kind waits: it has a place only where that would stay empty otherwise.
    """
    taken = _Taken(places)
    waiting: list[Candidate] = []
    for candidate in _in_order(found, places):
        if len(taken.candidates) >= places.most:
            break
        if taken.has_room_for(candidate):
            taken.take(candidate)
        else:
            waiting.append(candidate)
    left_out = taken.fill_with(waiting)
    return taken.candidates, [(rule, it.product.product_id) for it in left_out if (rule := taken.too_many(it))]


def calls_for_more(arranged: Sequence[Candidate], places: Places) -> bool:
    """Whether places are empty, or were given to more repeats and newcomers than should have any."""
    kinds = Counter(it.found_by for it in arranged)
    return (
        len(arranged) < places.most
        or kinds[FoundBy.REPEAT] > places.for_repeats
        or kinds[FoundBy.NEWCOMER] > places.for_newcomers
    )


class _Taken:
    """The places that are taken."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._ids: set[ProductId] = set()
        self._left = {FoundBy.REPEAT: places.for_repeats, FoundBy.NEWCOMER: places.for_newcomers}
        self._categories: defaultdict[str | None, int] = defaultdict(int)
        self._brands: defaultdict[str | None, int] = defaultdict(int)
        self.candidates: list[Candidate] = []

    @property
    def is_full(self) -> bool:
        return len(self.candidates) >= self._places.most

    def has_room_for(self, candidate: Candidate) -> bool:
        """Whether none of the limits is reached; of what is here already there is no need of more."""
        if self._left.get(candidate.found_by, 1) <= 0:
            return False
        return self.too_many(candidate) is None or candidate.found_by is FoundBy.PINNED

    def too_many(self, candidate: Candidate) -> Rule | None:
        """The limit of diversity that is reached for its kind."""
        product, places = candidate.product, self._places
        if places.per_category and self._categories.get(product.category, 0) >= places.per_category:
            return Rule.TOO_MANY_OF_CATEGORY
        if places.per_brand and self._brands.get(product.brand, 0) >= places.per_brand:
            return Rule.TOO_MANY_OF_BRAND
        return None

    def take(self, candidate: Candidate) -> None:
        """Give it the next place, unless the product has one."""
        product = candidate.product
        if product.product_id in self._ids:
            return
        self._ids.add(product.product_id)
        self.candidates.append(candidate)
        if candidate.found_by in self._left:
            self._left[candidate.found_by] -= 1
        if product.category:
            self._categories[product.category] += 1
        if product.brand:
            self._brands[product.brand] += 1

    def fill_with(self, waiting: Sequence[Candidate]) -> list[Candidate]:
        """Give those that wait the places that are left; returns who gets none."""
        for number, candidate in enumerate(waiting):
            if self.is_full:
                return [it for it in waiting[number:] if it.product.product_id not in self._ids]
            self.take(candidate)
        return []


def _in_order(found: Found, places: Places) -> Iterator[Candidate]:
    """All in the order in which they are asked for: a share of so much of the places is one place in so many."""
    yield from found.pinned
    others = chain(found.neighbours, found.popular)
    repeats = _Sharer(iter(found.repeats), places.repeat_share, 0.5)
    newcomers = _Sharer(iter(found.newcomers), places.newcomer_share, 0.75)
    for place in count(1):
        following = None
        if repeats.share * place >= repeats.due:
            following = repeats.next()
        if following is None and newcomers.share * place >= newcomers.due:
            following = newcomers.next()
        if following is None:
            following = next(others, None)
        if following is None:
            break
        yield following
    yield from repeats.candidates
    yield from newcomers.candidates


@dataclass(slots=True)
class _Sharer:
    """One kind of candidates that has a share of the places: its next one stands where so much as `due` is its own."""

    candidates: Iterator[Candidate]
    share: float
    due: float

    def next(self) -> Candidate | None:
        """Its next one; after that one place more has to be its own."""
        self.due += 1
        return next(self.candidates, None)
