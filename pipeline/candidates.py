"""Narrows the catalog to the products worth ranking for each customer.

The first, plain way: what was bought lately in the customer's categories, then what was bought lately at all, without
what he has purchased, what is hidden and what is out of stock. A customer with a list of his own (the attribute
`candidates`) gets that list. A better way takes this one's place behind `CandidateSource`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import CustomerId, Product, ProductId, Profile

_FIRST_DAY = datetime(2001, 1, 1, tzinfo=UTC)  # a Monday: seven days are a week


class CandidateSource(Protocol):
    """Finds candidates for the customers of a page."""

    async def candidates(self, profiles: Sequence[Profile]) -> dict[CustomerId, list[Product]]:
        """For each customer the products to rank, most promising first; an empty list where there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Popularity:
    """What was bought lately, most buyers first: over all, and in each category."""

    overall: tuple[Product, ...]
    by_category: dict[str, tuple[Product, ...]]

    def product_ids(self) -> list[ProductId]:
        """Every product that can come out of `choose`."""
        found = dict.fromkeys(product.product_id for product in self.overall)
        for products in self.by_category.values():
            found.update(dict.fromkeys(product.product_id for product in products))
        return list(found)

    def choose(self, categories: Sequence[str], purchased: Collection[ProductId], most: int) -> list[Product]:
        """Up to `most` products: the customer's categories take turns, then the shop's favourites follow."""
        chosen: dict[ProductId, Product] = {}
        for product in self._in_order(categories):
            if len(chosen) == most:
                break
            if product.product_id not in purchased:
                chosen.setdefault(product.product_id, product)
        return list(chosen.values())

    def _in_order(self, categories: Sequence[str]) -> Iterator[Product]:
        shelves = [self.by_category[category] for category in categories if category in self.by_category]
        for place in range(max(map(len, shelves), default=0)):
            yield from (shelf[place] for shelf in shelves if place < len(shelf))
        yield from self.overall


class PopularCandidates:
    """The plain `CandidateSource`: reads popularity once, then two statements for a page of customers."""

    def __init__(self, engine: AsyncEngine, as_of: datetime, popularity: Popularity, most: int) -> None:
        self._engine = engine
        self._as_of = as_of
        self._popularity = popularity
        self._popular_ids = popularity.product_ids()
        self._most = most

    @classmethod
    async def open(
        cls, engine: AsyncEngine, as_of: datetime, *, days: int, most: int, every_days: int = 1
    ) -> "PopularCandidates":
        """Read what was bought in the `days` before `as_of`. Memory: `most` products for each category.

        With `every_days` above 1 what is popular stays the same for so many days: else a shop that sells something
        every day has other candidates for everybody every night, and no slate is ever unchanged.
        """
        until = as_of if every_days == 1 else as_of - (as_of - _FIRST_DAY) % timedelta(days=every_days)
        return cls(engine, as_of, await _read_popularity(engine, until, days, most), most)

    async def candidates(self, profiles: Sequence[Profile]) -> dict[CustomerId, list[Product]]:
        """See `CandidateSource`."""
        pinned = [profile for profile in profiles if profile.pinned_candidates]
        others = [profile.customer_id for profile in profiles if not profile.pinned_candidates]
        return {**await self._popular(others), **await self._pinned(pinned)}

    async def _popular(self, customer_ids: list[CustomerId]) -> dict[CustomerId, list[Product]]:
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                statement("candidate_inputs"),
                {"customer_ids": customer_ids, "as_of": self._as_of, "popular": self._popular_ids},
            )
            return {
                CustomerId(row.customer_id): self._popularity.choose(
                    row.categories or (), set(row.purchased or ()), self._most
                )
                for row in rows
            }

    async def _pinned(self, profiles: Sequence[Profile]) -> dict[CustomerId, list[Product]]:
        found: dict[CustomerId, list[Product]] = {profile.customer_id: [] for profile in profiles}
        places = [(profile.customer_id, product) for profile in profiles for product in profile.pinned_candidates]
        parameters = {
            "customer_ids": [customer_id for customer_id, _ in places],
            "product_ids": [product_id for _, product_id in places],
            "as_of": self._as_of,
        }
        async with self._engine.connect() as connection:
            for row in await connection.execute(statement("pinned_products"), parameters):
                found[CustomerId(row.customer_id)].append(_product(row))
        return {customer_id: products[: self._most] for customer_id, products in found.items()}


async def _read_popularity(engine: AsyncEngine, as_of: datetime, days: int, most: int) -> Popularity:
    overall: list[Product] = []
    by_category: dict[str, list[Product]] = defaultdict(list)
    # A customer may have purchased all of the first `most`: twice as many leaves something for most of those.
    parameters = {"as_of": as_of, "days": days, "most": most * 2}
    async with engine.connect() as connection:
        for row in await connection.execute(statement("popular_products"), parameters):
            product = _product(row)
            if row.place_of_all <= parameters["most"]:
                overall.append(product)
            if product.category is not None:
                by_category[product.category].append(product)
    return Popularity(tuple(overall), {category: tuple(shelf) for category, shelf in by_category.items()})


def _product(row: Row[Any]) -> Product:
    return Product(ProductId(row.product_id), row.name, row.brand, row.category, row.price)
