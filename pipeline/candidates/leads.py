"""What may become one customer's candidates, and which of it the rules let pass: pure, once a page has been read."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

from pipeline.candidates.arranging import Removed
from pipeline.candidates.page import Known, Listing
from pipeline.candidates.rules import Sieve, Wants
from pipeline.domain import Candidate, FoundBy, ProductId


@dataclass(frozen=True, slots=True)
class Leads:
    """Numbers of products with their scores, best first, and ids of popular products.

    `own_list` is what the shop has listed for this customer alone: then nothing else is looked for. Of `repeats` the
    first `repeats_at_first` are looked at, and the others where places stay empty. `passed_over` is what was popular,
    but not for him.
    """

    known: Known
    neighbours: Mapping[int, float]
    repeats: Mapping[int, float]
    newcomers: Mapping[int, float]
    popular: Sequence[ProductId]
    repeats_at_first: int = 0
    own_list: Sequence[ProductId] = ()
    passed_over: Sequence[Removed] = ()

    def numbers(self) -> Iterator[int]:
        """Of every product that has one."""
        return chain(self.neighbours, self.first_repeats, self.newcomers)

    def product_ids(self) -> Iterator[ProductId]:
        """Of every product that is known by its id."""
        return chain(self.popular, self.own_list)

    @property
    def first_repeats(self) -> Mapping[int, float]:
        """The repeats that are looked at."""
        return dict(islice(self.repeats.items(), self.repeats_at_first))

    def with_further(self, popular: Sequence[ProductId]) -> "Leads":
        """With these popular products behind the others, and all that he may buy again."""
        return replace(self, popular=[*self.popular, *popular], repeats_at_first=len(self.repeats))

    def wants(self, listing: Listing) -> Wants:
        """What rules ask of him, with all that he bought by its id, as far as it may come up."""
        bought = dict(self.known.wants.bought)
        for number, last_days in self.known.last_days.items():
            listed = listing.by_number.get(number)
            if listed is not None:
                bought.setdefault(listed.product.product_id, last_days + listing.build_age_days)
        return replace(self.known.wants, bought=bought)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The products of a listing that one customer may have, as candidates: rules are asked of what is looked at."""

    listing: Listing
    sieve: Sieve
    bought: Container[ProductId]

    def pinned(self) -> Iterator[Candidate]:
        """What the shop offers everybody."""
        for listed in self.listing.pinned:
            if self.sieve.lets_pass(listed):
                yield Candidate(listed.product, 1.0, FoundBy.PINNED)

    def numbered(self, scores: Mapping[int, float], found_by: FoundBy) -> Iterator[Candidate]:
        """The products of these numbers, with what they score."""
        listed_as, lets_pass = self.listing.by_number.get, self.sieve.lets_pass
        for number, score in scores.items():
            listed = listed_as(number)
            if listed is not None and lets_pass(listed):
                yield Candidate(listed.product, score, found_by)

    def listed(
        self, product_ids: Sequence[ProductId], found_by: FoundBy, *, without: Container[ProductId] = ()
    ) -> Iterator[Candidate]:
        """These products, scored by their places: the first has 1."""
        place = 0
        for product_id in product_ids:
            listed = self.listing.by_id.get(product_id)
            if listed is not None and self.sieve.lets_pass(listed) and product_id not in without:
                place += 1
                yield Candidate(listed.product, 1 / place, found_by)

    def popular(self, product_ids: Sequence[ProductId], found_by: FoundBy) -> Iterator[Candidate]:
        """Without what he bought: that has places of its own."""
        return self.listed(product_ids, found_by, without=self.bought)
