"""Reads the customers that a split is measured on, a page at a time: memory does not grow with their number."""

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import CustomerId, ProductId
from pipeline.evaluating.splits import Split
from pipeline.evaluating.vocabulary import Scope, Targets
from pipeline.persistence import persistent

PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Shopper:
    """One customer with something to know or to foretell. `owned` are the popular products he had purchased before.

    `never_sold` are products that he purchased in the window and nobody before it, or that are gone from the catalog:
    they are no targets.
    """

    customer_id: CustomerId
    targets: Targets
    owned: frozenset[ProductId]
    never_sold: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """What the pages are read with: the products sold before, the popular ones, and the zone in which a day begins."""

    sold: frozenset[ProductId]
    popular: Sequence[ProductId]
    zone: str


async def shoppers(engine: AsyncEngine, split: Split, catalog: Catalog) -> AsyncGenerator[list[Shopper]]:
    """Yield the customers who purchased anything before the end of the split, by keyset."""
    slots = {
        "begins": split.begins,
        "until": split.until,
        "popular": list(catalog.popular),
        "zone": catalog.zone,
        "page": PAGE,
    }
    after = ""
    while rows := await _page(engine, {**slots, "after": after}):
        yield [_shopper(row, catalog.sold) for row in rows if row["orders"] or row["new_products"]]
        after = rows[-1]["customer_id"]


@persistent
async def sold_before(engine: AsyncEngine, split: Split) -> frozenset[ProductId]:
    """The products of the catalog that anybody had purchased before the split; as many as the catalog has at most."""
    async with engine.connect() as connection:
        sold = await connection.scalars(statement("evaluation_sold"), {"begins": split.begins})
        return frozenset(map(ProductId, sold))


@persistent
async def _page(engine: AsyncEngine, slots: dict[str, object]) -> Sequence[RowMapping]:
    async with engine.connect() as connection:
        return (await connection.execute(statement("evaluation_customers"), slots)).mappings().all()


def _shopper(row: RowMapping, sold: Collection[ProductId]) -> Shopper:
    new, repeated = (frozenset(map(ProductId, row[name] or ())) for name in ("new_products", "repeated"))
    targets = Targets(new.intersection(sold), repeated.intersection(sold), row["orders"])
    return Shopper(
        customer_id=CustomerId(row["customer_id"]),
        targets=targets,
        owned=frozenset(map(ProductId, row["owned"] or ())),
        never_sold=len(new) + len(repeated) - len(targets.of(Scope.ALL)),
    )
