"""A made-up shop with a long tail, drawn with a seed: who purchased what and when, as numbers.

It is like the real shop in what makes a build dear. A purchase in three is of a product that the customer had already;
the squared lengths of histories come to more than three times the square of their mean; and a few customers have
purchased thousands of products. Products lie in groups, and a customer keeps to a few of these, so that neighbours
mean something.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
"""All purchases lie before it."""
DAYS = 365

_GROUPS = 100
_GROUPS_OF_CUSTOMER = 3
_FROM_ANYWHERE = 0.25  # of a customer's purchases are from the whole catalog
_AGAIN = 0.05  # are of what he purchased before, however popular it is
_TAIL = 0.8  # the product at place r is purchased r to the power of minus this as often as the first
_SPREAD = 1.2  # standard deviation of the logarithm of a customer's number of purchases


@dataclass(frozen=True, slots=True)
class ShopSize:
    """How large a shop to draw. `heavy` of its customers make `heavy_purchases` each."""

    products: int
    customers: int
    purchases: int
    heavy: int
    heavy_purchases: int

    def part(self, parts: int) -> "ShopSize":
        """A shop of the same catalog with so many times fewer customers, who purchase as these do."""
        return ShopSize(
            self.products,
            self.customers // parts,
            self.purchases // parts,
            max(self.heavy // parts, 1),
            self.heavy_purchases,
        )


@dataclass(frozen=True, slots=True)
class Purchases:
    """One element for each purchase, oldest first: numbers from 0, and seconds since 1970."""

    customers: NDArray[np.int32]
    products: NDArray[np.int32]
    seconds: NDArray[np.int64]


def group_of(product: int) -> int:
    """The group in which a product lies: its category in the tables."""
    return product % _GROUPS


def draw(size: ShopSize, seed: int) -> Purchases:
    """Exactly `size.purchases` purchases: the same for the same seed."""
    random = np.random.default_rng(seed)
    customers = np.repeat(np.arange(size.customers, dtype=np.int32), _purchases_of_customers(size, random))
    products = _products(size, customers, random)
    _purchase_again(customers, products, random)
    last = int(UNTIL.timestamp())
    seconds = random.integers(last - DAYS * 86_400, last, len(customers))
    in_time = np.argsort(seconds)
    return Purchases(customers[in_time], products[in_time], seconds[in_time])


def _purchases_of_customers(size: ShopSize, random: np.random.Generator) -> NDArray[np.int64]:
    """How many purchases each customer makes: at least one; the heavy ones lie anywhere among the others."""
    others = random.lognormal(0, _SPREAD, size.customers)
    others[:] = np.maximum(others * (size.purchases - size.heavy * size.heavy_purchases) / others.sum(), 1)
    counts = np.floor(others).astype(np.int64)
    counts[random.permutation(size.customers)[: size.heavy]] = size.heavy_purchases
    missing = size.purchases - int(counts.sum())
    spread = random.integers(0, size.customers, abs(missing))
    np.add.at(counts, spread, np.sign(missing))
    return np.maximum(counts, 0)


def _products(size: ShopSize, customers: NDArray[np.int32], random: np.random.Generator) -> NDArray[np.int32]:
    """A product for each purchase, out of one of its customer's groups or out of them all."""
    weights = random.permutation(np.arange(1, size.products + 1) ** -_TAIL)
    by_group = np.argsort(np.arange(size.products) % _GROUPS, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(weights[by_group])])
    bounds = np.searchsorted(by_group % _GROUPS, np.arange(_GROUPS + 1))
    groups = random.integers(0, _GROUPS, (size.customers, _GROUPS_OF_CUSTOMER))
    group = groups[customers, random.integers(0, _GROUPS_OF_CUSTOMER, len(customers))]
    is_heavy = np.bincount(customers, minlength=size.customers)[customers] >= size.heavy_purchases
    anywhere = is_heavy | (random.random(len(customers)) < _FROM_ANYWHERE)
    least = np.where(anywhere, 0.0, sums[bounds[group]])
    most = np.where(anywhere, sums[-1], sums[bounds[group + 1]])
    places = np.searchsorted(sums, least + random.random(len(customers)) * (most - least), side="right") - 1
    chosen: NDArray[np.int64] = by_group[np.minimum(places, size.products - 1)]
    return chosen.astype(np.int32)


def _purchase_again(customers: NDArray[np.int32], products: NDArray[np.int32], random: np.random.Generator) -> None:
    """Makes a part of the purchases ones of what the same customer purchases elsewhere. They lie by customer."""
    starts = np.searchsorted(customers, customers, side="left")
    ends = np.searchsorted(customers, customers, side="right")
    again = random.random(len(customers)) < _AGAIN
    products[again] = products[random.integers(starts, ends)[again]]
