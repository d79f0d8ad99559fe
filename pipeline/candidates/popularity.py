"""What was bought lately, over all and in each category: read once for all customers of a run."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.rules import Listed
from pipeline.database import statement
from pipeline.domain import Product, ProductId

_MOST_CATEGORIES: Final = 10
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)  # not slotted: it remembers what it has been asked
class Popularity:
    """What was bought lately, most buyers first: over all, and in each category.

    It `is_whole` where the catalog has no other products that may be recommended.
    """

    overall: tuple[Listed, ...]
    by_category: dict[str, tuple[Listed, ...]]
    is_whole: bool

    def in_order(self, categories: Sequence[str]) -> Iterator[Listed]:
        """All of it: the categories take turns, then the shop's favourites follow. A product can come twice."""
        shelves = [self.by_category[category] for category in categories if category in self.by_category]
        for place in range(max(map(len, shelves), default=0)):
            yield from (shelf[place] for shelf in shelves if place < len(shelf))
        yield from self.overall

    def categories_named_in(self, searches: Sequence[str]) -> list[str]:
        """The categories all of whose words are in one of these searches, the first search first."""
        searched = [set(_WORD.findall(words.casefold())) for words in searches]
        found = (category for words in searched for category, name in self.names.items() if name <= words)
        return list(dict.fromkeys(found))[:_MOST_CATEGORIES]

    @cached_property
    def favourites(self) -> tuple[ProductId, ...]:
        """The ids of what was bought over all."""
        return tuple(listed.product.product_id for listed in self.overall)

    @cached_property
    def names(self) -> dict[str, set[str]]:
        """The words of each category's name."""
        named = {category: set(_WORD.findall(category.casefold())) for category in self.by_category}
        return {category: words for category, words in named.items() if words}


async def read_popularity(engine: AsyncEngine, as_of: datetime, days: int, most: int) -> Popularity:
    """What was bought in the `days` before `as_of`. Memory: twice `most` products for each category."""
    overall: list[Listed] = []
    by_category: dict[str, list[Listed]] = defaultdict(list)
    # A customer may have purchased all of the first `most`: twice as many leaves something for most of those.
    twice = most * 2
    parameters = {"as_of": as_of, "days": days, "most": twice}
    async with engine.connect() as connection:
        for row in await connection.execute(statement("popular_products"), parameters):
            product = Product(ProductId(row.product_id), row.name, row.brand, row.category, row.price)
            listed = Listed(product)
            if row.place_of_all <= twice:
                overall.append(listed)
            if product.category is not None:
                by_category[product.category].append(listed)
    shelves = {category: tuple(shelf) for category, shelf in by_category.items()}
    return Popularity(tuple(overall), shelves, is_whole=len(overall) < twice)
