"""What is measured: lists of products for the customers of a page, the best first, whatever made them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates import CandidateSource
from pipeline.database import statement
from pipeline.domain import CustomerId, ProductId, Profile
from pipeline.evaluating.shoppers import Shopper
from pipeline.evaluating.vocabulary import Scope
from pipeline.persistence import persistent

POPULARITY: Final = "popularity"
CANDIDATES: Final = "candidates"
NEW_CANDIDATES: Final = "candidates_new_only"

Ranked = Mapping[CustomerId, Sequence[ProductId]]
Lists = Mapping[tuple[str, Scope], Ranked]


@dataclass(frozen=True, slots=True)
class ListName:
    """A list as the report names it: `key` for programs, `told` for people. It is measured in these scopes.

    `run` is the run, or the variant of one, whose slates it holds, ranked by whom `ranked_by` says. `against` are
    the lists that it is held against, customer by customer. Where only those count for it who have a certain list,
    `of` is that one; against a list of others it is held as a group against a group.
    """

    key: str
    told: str
    scopes: tuple[Scope, ...] = tuple(Scope)
    against: tuple[str, ...] = (POPULARITY,)
    run: str | None = None
    of: str | None = None
    ranked_by: Mapping[str, int] = field(default_factory=dict)


class ListSource(Protocol):
    """Makes lists for the customers of a page."""

    @property
    def names(self) -> Sequence[ListName]:
        """What it makes."""
        ...

    async def lists(self, page: Sequence[Shopper]) -> Lists:
        """For each name and scope the lists. A customer is absent where there is none for him."""
        ...


def popularity_beside(run: str) -> str:
    """The key of popularity as it is for the customers of this run's list alone."""
    return f"{POPULARITY}_{run}"


@dataclass(frozen=True, slots=True)
class PopularLists:
    """The same products for everybody. Where new products are looked for, without those that he has purchased.

    `beside` is the run's list whose customers alone count, where not all do.
    """

    products: Sequence[ProductId]
    places: int
    days: int
    beside: str | None = None

    @property
    def names(self) -> Sequence[ListName]:
        """See `ListSource`."""
        told = f"popular, {self.days} days"
        if self.beside is None:
            return (ListName(POPULARITY, told, against=()),)
        whose = f"for the customers of run {self.beside.removeprefix('run_').upper()}"
        return (ListName(popularity_beside(self.beside), f"{told}, {whose}", against=(), of=self.beside),)

    async def lists(self, page: Sequence[Shopper]) -> Lists:
        """See `ListSource`."""
        first = self.products[: self.places]
        same = {shopper.customer_id: first for shopper in page}
        new = {shopper.customer_id: self._without(shopper.owned) for shopper in page}
        (name,) = self.names
        return {(name.key, Scope.NEW): new, (name.key, Scope.REPEAT): same, (name.key, Scope.ALL): same}

    def _without(self, owned: frozenset[ProductId]) -> Sequence[ProductId]:
        return [product for product in self.products[: self.places + len(owned)] if product not in owned][: self.places]


@dataclass(frozen=True, slots=True)
class CandidateLists:
    """What a candidate source finds, in the order in which it finds it."""

    name: ListName
    source: CandidateSource

    @property
    def names(self) -> Sequence[ListName]:
        """See `ListSource`."""
        return (self.name,)

    async def lists(self, page: Sequence[Shopper]) -> Lists:
        """See `ListSource`."""
        found = await self.source.candidates([Profile(it.customer_id) for it in page if self._counts(it)])
        products = {
            customer: [candidate.product.product_id for candidate in candidates.found]
            for customer, candidates in found.items()
        }
        return {(self.name.key, scope): products for scope in self.name.scopes}

    def _counts(self, shopper: Shopper) -> bool:
        """A list of the whole is looked up for everybody, for what it covers; another one for those it is judged by."""
        return Scope.ALL in self.name.scopes or any(shopper.targets.of(scope) for scope in self.name.scopes)


@persistent
async def popular_products(engine: AsyncEngine, as_of: datetime, days: int, most: int) -> list[ProductId]:
    """The products with the most buyers in so many days before, of those that may be recommended today."""
    async with engine.connect() as connection:
        rows = await connection.execute(statement("popular_products"), {"as_of": as_of, "days": days, "most": most})
        return [ProductId(row.product_id) for row in rows if row.place_of_all <= most]
