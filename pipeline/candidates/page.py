"""Reads what the candidates of one page of customers are found by: one statement for them, one for the products."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.candidates.builds import Build
from pipeline.candidates.rhythm import Habit
from pipeline.candidates.rules import Listed, Wants
from pipeline.database import statement
from pipeline.domain import CustomerId, Product, ProductId

MOST_OWNED: Final = 1_000
"""So many different products of a customer, his newest, are kept from being found as if they were new to him.

Of what he purchased after the build, or without one, so many purchases.
"""
MOST_SCORED: Final = 500
"""So many of these, the newest, lead to others, and are repeated."""
MOST_KEPT: Final = 20_000
_MOST_REFUSED: Final = 5_000
_NO_BUILD: Final = 0  # none has this number
_BEFORE_ALL: Final = datetime(1, 1, 2, tzinfo=UTC)  # the first day that is one in every time zone
_ANY_PRICE: Final = 10**15
_FEW: Final = 20  # who has purchased less is known by what he looked at, too; without a build everybody is

Weights = tuple[Sequence[int], Sequence[float]]
"""Numbers of products and what each weighs, heaviest first."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one customer. Products are numbers of the build; `habits` are of each that he purchased.

    `owned` are all of them, the newest first, those after the build too. `wants.bought` knows only the purchases after
    the build: the others have numbers, whose products are not known yet.
    """

    habits: Mapping[int, Habit]
    owned: Sequence[int]
    wants: Wants
    categories: Sequence[str] = ()
    searches: Sequence[str] = ()


class Links:
    """What the products of a build lead to, as far as it has been read: a build never changes.

    Of a catalog of up to `MOST_KEPT` products each is read once; of a larger one those that are not kept, again for
    each page. Memory: about two kilobytes a product.
    """

    def __init__(self) -> None:
        self.neighbours: dict[int, Weights] = {}
        self.newcomers: dict[int, Weights] = {}
        self.recent_buyers: dict[int, int] = {}

    def add(self, number: int, neighbours: Weights, newcomers: Weights, recent_buyers: int) -> None:
        """Keep what one product leads to, and how many bought it lately."""
        self.neighbours[number] = neighbours
        self.recent_buyers[number] = recent_buyers
        if newcomers[0]:
            self.newcomers[number] = newcomers

    def forget(self) -> None:
        """Keep the newest `MOST_KEPT`."""
        for number in list(self.neighbours)[: max(len(self.neighbours) - MOST_KEPT, 0)]:
            del self.neighbours[number], self.recent_buyers[number]
            self.newcomers.pop(number, None)


@dataclass(frozen=True, slots=True)
class Listing:
    """Products of the catalog as it is now, by number in the build and by id.

    `pinned` is what the shop has pinned; `build_age_days` is how much later than the build customers are looked at.
    """

    by_number: Mapping[int, Listed]
    by_id: Mapping[ProductId, Listed]
    pinned: Sequence[Listed]
    build_age_days: float


def number_of(build: Build | None) -> int:
    """The number by which statements know the build."""
    return _NO_BUILD if build is None else build.build_id


async def read_page(
    connection: AsyncConnection,
    build: Build | None,
    customer_ids: Sequence[CustomerId],
    as_of: datetime,
    *,
    refused_days: int,
    newcomers: bool,
    links: Links,
) -> dict[CustomerId, Known]:
    """Everything of these customers up to `as_of`: a `Known` for each, whoever he is.

    Without a build all that he purchased is known by its id. What the products that they
    purchased lead to is in `links` then.
    """
    asked = {
        "customer_ids": list(customer_ids),
        "build_id": number_of(build),
        "built_as_of": _BEFORE_ALL if build is None else build.as_of,
        "as_of": as_of,
        "refused_days": refused_days,
        "newcomers": newcomers,
        "most_owned": MOST_OWNED,
        "most_scored": MOST_SCORED,
        "most_refused": _MOST_REFUSED,
        "few": MOST_OWNED + 1 if build is None else _FEW,
        "known": list(links.neighbours),
    }
    customers: dict[CustomerId, Known] = {}
    for row in await connection.execute(statement("candidate_page"), asked):
        if row.number is None:
            customers[CustomerId(row.customer_id)] = _known(row)
        else:
            near = row.neighbours or (), row.weights or ()
            links.add(row.number, near, (row.newcomers or (), row.newcomer_weights or ()), row.recent_buyers)
    return customers


async def read_listing(
    connection: AsyncConnection,
    build: Build | None,
    as_of: datetime,
    numbers: Collection[int],
    product_ids: Collection[ProductId],
) -> Listing:
    """These products as they are now, and those that the shop has pinned; what is in the catalog no more is absent."""
    asked = {"build_id": number_of(build), "numbers": list(numbers), "product_ids": list(product_ids)}
    by_number: dict[int, Listed] = {}
    by_id: dict[ProductId, Listed] = {}
    for row in await connection.execute(statement("candidate_listing"), asked):
        number, product_id, name, brand, category, price, available, hidden, banned, pinned = row
        product = Product(ProductId(product_id), name, brand, category, price)
        listed = Listed(product, available, hidden, banned, pinned)
        by_id[product.product_id] = listed
        if number is not None:
            by_number[number] = listed
    pinned = [listed for listed in by_id.values() if listed.pinned]
    age = timedelta(0) if build is None else as_of - build.as_of
    return Listing(by_number, by_id, pinned, age / timedelta(days=1))


def _known(row: Row[Any]) -> Known:
    habits = {
        number: Habit(times, first, last)
        for number, times, first, last in zip(
            row.numbers or (), row.times or (), row.first_days or (), row.last_days or (), strict=True
        )
    }
    since = [number for number in row.numbers_since or () if number is not None]
    for number in since:
        habits[number] = _once_more(habits.get(number))
    return Known(
        habits=habits,
        owned=list(dict.fromkeys([*since, *(row.numbers or ())])),
        wants=_wants(row),
        categories=row.categories or (),
        searches=row.words or (),
    )


def _once_more(habit: Habit | None) -> Habit:
    """Bought after the build: as on the day that it was built for."""
    return Habit(1, 0.0, 0.0) if habit is None else Habit(habit.times + 1, habit.first_days, 0.0)


def _wants(row: Row[Any]) -> Wants:
    bought: dict[ProductId, float] = {}
    for product_id, days in zip(row.bought_since or (), row.days_since or (), strict=True):
        bought.setdefault(ProductId(product_id), days)
    return Wants(
        bought=bought,
        refused=frozenset(map(ProductId, row.refused or ())),
        excluded_brands=_folded(row.excluded_brands),
        excluded_categories=_folded(row.excluded_categories),
        price_from=_price(row.price_from),
        price_to=_price(row.price_to),
    )


def _price(stated: float | None) -> float | None:
    """JSON knows numbers that no float holds."""
    return None if stated is None else float(min(max(stated, -_ANY_PRICE), _ANY_PRICE))


def _folded(words: Sequence[str | None] | None) -> frozenset[str]:
    return frozenset(word.casefold() for word in words or () if word)
