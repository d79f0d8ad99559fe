"""Reads what the candidates of one page of customers are found by: one statement for them, one for the products."""

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.candidates.builds import Build
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
    """What is known of one customer. Products are numbers of the build.

    `owned` are all that he purchased, the newest first, those after the build too: each on so many days (`times`), the
    last of them so many days before the build (`last_days`). `wants.bought` knows only the purchases after the build:
    the others have numbers, whose products are not known yet.
    """

    owned: Sequence[int]
    times: Mapping[int, int]
    last_days: Mapping[int, float]
    wants: Wants
    categories: Sequence[str] = ()
    searches: Sequence[str] = ()


class Links:
    """What the products of a build lead to, as far as it has been read: a build never changes.

    Of a catalog of up to `most_kept` products each is read once; of a larger one those that are not kept, again for
    each page. Pages are looked up side by side: each has a copy of its own, in which nothing is forgotten that it has
    relied upon. Memory: about two kilobytes a product; a copy holds the same ones.
    """

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        self.most_kept = most_kept
        self.neighbours: dict[int, Weights] = {}
        self.newcomers: dict[int, Weights] = {}
        self.recent_buyers: dict[int, int] = {}

    def add(self, number: int, neighbours: Weights, newcomers: Weights, recent_buyers: int) -> None:
        """Keep what one product leads to, and how many bought it lately."""
        self.neighbours[number] = neighbours
        self.recent_buyers[number] = recent_buyers
        if newcomers[0]:
            self.newcomers[number] = newcomers

    def copy(self) -> "Links":
        """What is known now, to be added to by one page."""
        own = Links(self.most_kept)
        own.learn(self)
        return own

    def learn(self, others: "Links") -> None:
        """Know what the others know too, and of all that the newest `most_kept`."""
        self.neighbours |= others.neighbours
        self.newcomers |= others.newcomers
        self.recent_buyers |= others.recent_buyers
        for number in list(self.neighbours)[: max(len(self.neighbours) - self.most_kept, 0)]:
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

    Without a build all that he purchased is known by its id. What the products that they purchased lead to is in
    `links` then, which nobody else may change meanwhile.
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
        "known": _array(links.neighbours),
    }
    customers: dict[CustomerId, Known] = {}
    for row in await connection.execute(statement("candidate_page"), asked):
        if row.number is None:
            customers[CustomerId(row.customer_id)] = _known(row)
        else:
            near = _weights(row.neighbours, row.weights)
            links.add(row.number, near, _weights(row.newcomers, row.newcomer_weights), row.recent_buyers)
    return customers


async def read_listing(
    connection: AsyncConnection,
    build: Build | None,
    as_of: datetime,
    numbers: Collection[int],
    product_ids: Collection[ProductId],
) -> Listing:
    """These products as they are now, and those that the shop has pinned; what is in the catalog no more is absent."""
    asked = {"build_id": number_of(build), "numbers": _array(numbers), "product_ids": list(product_ids)}
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
    numbers: Sequence[int] = row.numbers or ()
    times: dict[int, int] = dict(zip(numbers, row.times or (), strict=True))
    last_days: dict[int, float] = dict(zip(numbers, row.last_days or (), strict=True))
    since = [number for number in row.numbers_since or () if number is not None]
    for number in since:
        times[number] = times.get(number, 0) + 1
        last_days[number] = 0.0  # as on the day that the build is for
    return Known(
        owned=list(dict.fromkeys([*since, *numbers])),
        times=times,
        last_days=last_days,
        wants=_wants(row),
        categories=row.categories or (),
        searches=row.words or (),
    )


def _array(numbers: Iterable[int]) -> str:
    """An array as Postgres writes it: the driver takes ten times as long to write thousands of numbers."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _weights(numbers: Sequence[int] | None, weights: Sequence[float] | None) -> Weights:
    """Neither is a list, for they stay: the garbage collector would go through them again and again."""
    return array("i", numbers or ()), array("d", weights or ())


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
