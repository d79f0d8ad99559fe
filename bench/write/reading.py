"""How long one customer's current slate takes to read, where all nights are published."""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.write.rows import customer_id
from bench.write.shop import Shop
from bench.write.slates import SeenRow, night_of, slate_reader
from pipeline.database import open_engine
from pipeline.domain import RunId
from pipeline.errors import DatabaseError
from pipeline.reading import ReadSlate, read_current_slate

_SEED = 7
_WARM_UP_SHARE = 0.3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reads:
    """Milliseconds of each read, after a warm-up.

    `prepared` are a reader's own, by a prepared statement; `without_slate` the same of customers who have none;
    `product` are those by the product's `read_current_slate`.
    """

    prepared: list[float]
    without_slate: list[float]
    product: list[float]


async def read_points(url: str, shop: Shop, nights: Sequence[RunId], reads: int) -> Reads:
    """Read the slates of random customers, one after the other over one connection, each way.

    Raises:
        DatabaseError: a slate was not the last night's.
    """
    last = len(nights) - 1
    served, unserved = range(1, shop.customers + 1), range(shop.customers + 1, shop.known + 1)
    async with slate_reader(url) as read, open_engine(url, connections=1) as engine:

        async def read_product(customer: int) -> ReadSlate | None:
            return await read_current_slate(engine, customer_id(customer))

        def is_last(customer: int, rows: Sequence[SeenRow]) -> bool:
            return night_of(shop, nights, customer, rows) == last

        return Reads(
            await _timed(read, is_last, served, reads),
            await _timed(read, lambda _, rows: not rows, unserved, reads // 2),
            await _timed(read_product, lambda _, slate: slate is not None, served, reads // 2),
        )


async def _timed(
    read: Callable[[int], Awaitable[T]], is_right: Callable[[int, T], bool], customers: range, reads: int
) -> list[float]:
    random_customers = random.Random(_SEED)
    taken = []
    for _ in range(reads + int(reads * _WARM_UP_SHARE)):
        customer = random_customers.choice(customers)
        begun = time.monotonic()
        found = await read(customer)
        taken.append((time.monotonic() - begun) * 1000)
        if not is_right(customer, found):
            raise DatabaseError(f"customer {customer} sees another slate than he must: no figure holds")
    return taken[-reads:]
