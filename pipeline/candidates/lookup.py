"""Looks candidates up: a page of customers in one statement, and one more for the products found.

Where places stay empty, the whole catalog is looked through for these customers.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.candidates.arranging import MOST_REMOVED, Found, Places, Removed, arrange, calls_for_more
from pipeline.candidates.builds import Build
from pipeline.candidates.further import Spellings, read_further
from pipeline.candidates.leads import Leads, Shelf
from pipeline.candidates.ordering import Ordering
from pipeline.candidates.page import MOST_KEPT, MOST_SCORED, Known, Links, Listing, read_listing, read_page
from pipeline.candidates.popularity import Popularity, read_popularity
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.candidates.rhythm import dueness
from pipeline.candidates.rules import Sieve
from pipeline.candidates.scoring import best
from pipeline.domain import Candidate, CandidateOrder, Candidates, CustomerId, FoundBy, ProductId, Profile
from pipeline.rule_entries import Rules

_TO_SPARE: Final = 1.5  # so many times as many are found as there are places: rules take some out
_TO_SPARE_OF_CHOOSY: Final = 10  # and of who has told what he does not want


class CandidateLookup:
    """A `CandidateSource`: what it says is a matter of the build, the rules and the time.

    Without a build there are neither neighbours nor newcomers, and what a customer has purchased is not offered again.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        build: Build | None,
        as_of: datetime,
        *,
        popularity: Popularity,
        rules: Rules,
        places: Places,
        ordering: Ordering,
        most_kept: int = MOST_KEPT,
    ) -> None:
        self._engine = engine
        self._build = build
        self._as_of = as_of
        self._popularity = popularity
        self._rules = rules
        self._places = places
        self._ordering = ordering
        self._links = Links(most_kept)
        self._spellings = Spellings()

    async def candidates(self, profiles: Sequence[Profile]) -> dict[CustomerId, Candidates]:
        """See `CandidateSource`."""
        if not profiles:
            return {}
        own_lists = {it.customer_id: it.pinned_candidates for it in profiles if it.pinned_candidates}
        async with self._engine.connect() as connection:
            links = self._links.copy()
            customers = await read_page(
                connection,
                self._build,
                [profile.customer_id for profile in profiles],
                self._as_of,
                refused_days=self._rules.refused_days,
                newcomers=self._places.for_newcomers > 0,
                links=links,
            )
            self._links.learn(links)
            leads = {
                customer_id: self._listed(known, own_lists[customer_id])
                if customer_id in own_lists
                else self._leads(known, links)
                for customer_id, known in customers.items()
            }
            found = await self._arranged(connection, leads)
            if not self._popularity.is_whole:
                found |= await self._looked_further(connection, leads, found)
        return {customer_id: self._candidates(customer_id, *it) for customer_id, it in found.items()}

    def _listed(self, known: Known, own_list: Sequence[ProductId]) -> Leads:
        return Leads(known, {}, {}, {}, (), own_list=own_list)

    def _leads(self, known: Known, links: Links) -> Leads:
        spare = int(self._places.most * (_TO_SPARE_OF_CHOOSY if known.wants.ask_of_all else _TO_SPARE)) + 1
        owned = known.owned[:MOST_SCORED]
        neighbours = best(owned, links.neighbours, known.last_days, spare)
        newcomers = best(owned, links.newcomers, known.last_days, 2 * self._places.for_newcomers)
        repeats = self._repeats(known, owned, links.recent_buyers)
        popular, passed_over = self._popular_for(known, spare)
        enough = len(neighbours) > self._places.most and not self._popularity.is_whole
        return Leads(
            known=known,
            neighbours=neighbours,
            repeats=repeats,
            newcomers=newcomers,
            popular=popular,
            passed_over=passed_over,
            repeats_at_first=2 * self._places.for_repeats if enough else len(repeats),
        )

    def _repeats(self, known: Known, owned: Sequence[int], recent_buyers: Mapping[int, int]) -> dict[int, float]:
        """Best first; of those alone whose buyers have been read, else it mattered who else is on the page."""
        if self._build is None:
            return {}
        offset, exponent = self._build.recipe.popularity_offset, self._build.recipe.popularity_exponent
        scores = {
            number: dueness(
                known.times[number], known.last_days[number], (recent_buyers.get(number, 0) + offset) ** exponent
            )
            for number in owned
        }
        return {number: scores[number] for number in sorted(scores, key=scores.__getitem__, reverse=True)}

    def _popular_for(self, known: Known, spare: int) -> tuple[Sequence[ProductId], Sequence[Removed]]:
        """The first ones, and what was passed over: who is choosy has the first that he may want."""
        most = len(self._popularity.overall) if self._popularity.is_whole else spare
        categories = [*self._popularity.categories_named_in(known.searches), *known.categories]
        sieve = Sieve(self._rules, known.wants)
        if sieve.asks_nothing and not categories:
            return self._popularity.favourites[:most], ()  # as for most customers, of a night that begins with a build
        found: dict[ProductId, None] = {}
        for listed in self._popularity.in_order(list(dict.fromkeys(categories))):
            if len(found) >= most:
                break
            product_id = listed.product.product_id
            if sieve.lets_pass(listed) and product_id not in known.wants.bought:
                found[product_id] = None
        return list(found), sieve.removed

    async def _arranged(
        self, connection: AsyncConnection, leads: Mapping[CustomerId, Leads]
    ) -> dict[CustomerId, tuple[list[Candidate], list[Removed]]]:
        numbers = set(chain.from_iterable(lead.numbers() for lead in leads.values()))
        product_ids = set(chain.from_iterable(lead.product_ids() for lead in leads.values()))
        listing = await read_listing(connection, self._build, self._as_of, numbers, product_ids)
        return {customer_id: self._judged(lead, listing) for customer_id, lead in leads.items()}

    def _judged(self, leads: Leads, listing: Listing) -> tuple[list[Candidate], list[Removed]]:
        wants = leads.wants(listing)
        sieve = Sieve(self._rules, wants)
        shelf = Shelf(listing, sieve, wants.bought)
        fits = self._popularity.is_whole and len(self._popularity.overall) <= self._places.most
        found = Found(
            pinned=chain(shelf.pinned(), shelf.listed(leads.own_list, FoundBy.PINNED)),
            neighbours=shelf.numbered(leads.neighbours, FoundBy.NEIGHBOURS),
            repeats=shelf.numbered(leads.first_repeats, FoundBy.REPEAT),
            newcomers=shelf.numbered(leads.newcomers, FoundBy.NEWCOMER),
            popular=shelf.popular(leads.popular, FoundBy.CATALOG if fits else FoundBy.POPULAR),
        )
        arranged, crowded_out = arrange(found, self._places)
        return arranged, [*sieve.removed, *crowded_out, *leads.passed_over]

    async def _looked_further(
        self,
        connection: AsyncConnection,
        leads: Mapping[CustomerId, Leads],
        found: Mapping[CustomerId, tuple[list[Candidate], list[Removed]]],
    ) -> dict[CustomerId, tuple[list[Candidate], list[Removed]]]:
        """Those for whom there was not enough, with all that the catalog has for them."""
        few = {
            customer_id: lead
            for customer_id, lead in leads.items()
            if not lead.own_list and calls_for_more(found[customer_id][0], self._places)
        }
        if not few:
            return {}
        customers = {customer_id: lead.known for customer_id, lead in few.items()}
        further = await read_further(connection, self._build, customers, self._places.most, self._spellings)
        wider = {customer_id: lead.with_further(further.get(customer_id, ())) for customer_id, lead in few.items()}
        return await self._arranged(connection, wider)

    def _candidates(
        self, customer_id: CustomerId, found: Sequence[Candidate], removed: Sequence[Removed]
    ) -> Candidates:
        return self._ordering.ordered(
            customer_id,
            tuple(found),
            self._as_of,
            build_id=None if self._build is None else self._build.build_id,
            removed=tuple(dict.fromkeys(removed))[:MOST_REMOVED],
        )


class BuiltCandidates(CandidateLookup):
    """The `CandidateSource` of a shop with a build."""

    @classmethod
    async def open(
        cls,
        engine: AsyncEngine,
        build: Build,
        as_of: datetime,
        *,
        recipe: CandidateRecipe,
        rules: Rules,
        most: int,
        order: CandidateOrder,
        seed: int,
        most_kept: int = MOST_KEPT,
    ) -> "BuiltCandidates":
        """Look up to `most` candidates for each customer up, as of this time, in this build.

        What was popular is read once, as of the build. Memory: twice `most` products for each category, and what up to
        `most_kept` products of the build lead to.
        """
        popularity = await read_popularity(engine, build.as_of, recipe.popularity_days, most)
        places = Places(most, recipe.repeat_share, recipe.newcomer_share, rules.most_per_category, rules.most_per_brand)
        ordering = Ordering(order, seed)
        return cls(
            engine,
            build,
            as_of,
            popularity=popularity,
            rules=rules,
            places=places,
            ordering=ordering,
            most_kept=most_kept,
        )
