"""Finds candidates where none have been built: what was bought lately in the customer's categories, then at all.

Left out is what he has purchased and what the rules are against. A customer with a list of his own (the attribute
`candidates`) gets that list.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.arranging import Places
from pipeline.candidates.lookup import CandidateLookup
from pipeline.candidates.ordering import Ordering
from pipeline.candidates.popularity import read_popularity
from pipeline.domain import CandidateOrder
from pipeline.rule_entries import Rules

_FIRST_DAY = datetime(2001, 1, 1, tzinfo=UTC)  # a Monday: seven days are a week


class PopularCandidates(CandidateLookup):
    """The `CandidateSource` of a shop without a build."""

    @classmethod
    async def open(
        cls,
        engine: AsyncEngine,
        as_of: datetime,
        *,
        days: int,
        most: int,
        every_days: int = 1,
        rules: Rules | None = None,
        order: CandidateOrder = "retrieval",
        seed: int = 0,
    ) -> "PopularCandidates":
        """Read what was bought in the `days` before `as_of`. Memory: twice `most` products for each category.

        With `every_days` above 1 what is popular stays the same for so many days: else a shop that sells something
        every day has other candidates for everybody every night, and no slate is ever unchanged.
        """
        rules = rules or Rules()
        until = as_of if every_days == 1 else as_of - (as_of - _FIRST_DAY) % timedelta(days=every_days)
        popularity = await read_popularity(engine, until, days, most)
        places = Places(most, per_category=rules.most_per_category, per_brand=rules.most_per_brand)
        ordering = Ordering(order, seed)
        return cls(engine, None, as_of, popularity=popularity, rules=rules, places=places, ordering=ordering)
