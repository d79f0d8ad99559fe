"""What customers of the real shop purchased in the thirty days after a moment, and what was known of them before it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg

from pipeline.domain import CustomerId, ProductId

_DAYS = 30
_POPULAR_DAYS = 14
_LONDON = ZoneInfo("Europe/London")
_PURCHASES = """
SELECT customer_id, product_id, occurred_at FROM events
WHERE kind = 'purchase' AND occurred_at < %(until)s
ORDER BY occurred_at, event_key
"""

Wanted = dict[CustomerId, frozenset[ProductId]]
"""Of each customer who has any: the products that a perfect list would hold."""


@dataclass(frozen=True, slots=True)
class Split:
    """What is purchased in the thirty days from `begins` on is to be foretold from what was purchased before."""

    name: str
    begins: datetime

    @property
    def as_of(self) -> datetime:
        """The last moment that may be known."""
        return self.begins - timedelta(microseconds=1)

    @property
    def until(self) -> datetime:
        """Where the targets end."""
        return self.begins + timedelta(days=_DAYS)


SEP = Split("sep", datetime(2011, 9, 11, tzinfo=_LONDON))
VAL = Split("val", datetime(2011, 10, 11, tzinfo=_LONDON))


@dataclass(frozen=True, slots=True)
class Purchase:
    """One product that a customer purchased, `days` before the split."""

    customer: CustomerId
    product: ProductId
    days: float


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A split's two sides: what may be learnt from, oldest first, and what is to be found.

    Targets are those products alone that somebody had purchased before, of customers who had purchased something.
    """

    known: tuple[Purchase, ...]
    new: Wanted
    repeat: Wanted

    @property
    def all(self) -> Wanted:
        """New and repeat together."""
        nothing: frozenset[ProductId] = frozenset()
        customers = {**self.new, **self.repeat}
        return {one: self.new.get(one, nothing) | self.repeat.get(one, nothing) for one in customers}

    def purchased(self) -> dict[CustomerId, set[ProductId]]:
        """What each customer had purchased before."""
        found: dict[CustomerId, set[ProductId]] = {}
        for one in self.known:
            found.setdefault(one.customer, set()).add(one.product)
        return found

    def popular(self) -> list[ProductId]:
        """The products of the fourteen days before the split, most buyers first."""
        bought = {(one.customer, one.product) for one in self.known if one.days <= _POPULAR_DAYS}
        buyers = Counter(product for _, product in sorted(bought))
        return [product for product, _ in buyers.most_common()]


def read_held_out(connection: psycopg.Connection, split: Split) -> HeldOut:
    """Read both sides of the split out of the shop's events."""
    known: list[Purchase] = []
    later: dict[CustomerId, set[ProductId]] = {}
    for customer, product, moment in connection.execute(_PURCHASES, {"until": split.until}):
        if moment < split.begins:
            known.append(Purchase(customer, product, (split.begins - moment) / timedelta(days=1)))
        else:
            later.setdefault(customer, set()).add(product)
    held_out = HeldOut(tuple(known), {}, {})
    return HeldOut(held_out.known, *_targets(held_out, later))


def _targets(held_out: HeldOut, later: dict[CustomerId, set[ProductId]]) -> tuple[Wanted, Wanted]:
    sold = {one.product for one in held_out.known}
    purchased = held_out.purchased()
    scored = {customer: (products & sold, purchased[customer]) for customer, products in _of(later, purchased)}
    new = {customer: frozenset(products - before) for customer, (products, before) in scored.items()}
    repeat = {customer: frozenset(products & before) for customer, (products, before) in scored.items()}
    return _with_any(new), _with_any(repeat)


def _of(
    later: dict[CustomerId, set[ProductId]], known: dict[CustomerId, set[ProductId]]
) -> Iterator[tuple[CustomerId, set[ProductId]]]:
    return ((customer, products) for customer, products in later.items() if customer in known)


def _with_any(wanted: Wanted) -> Wanted:
    return {customer: products for customer, products in wanted.items() if products}
