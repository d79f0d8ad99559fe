"""Looks at the customers of a night as the night would, page by page, and asks nobody: all of them, or a sample."""

from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates import CandidateSource
from pipeline.database import statement
from pipeline.domain import Candidates, CustomerId, Profile
from pipeline.persistence import persistent
from pipeline.planning.counting import answer_tokens, prompt_tokens
from pipeline.planning.experience import Asked, Experience
from pipeline.planning.forecast import Forecast, Question, Tally, forecast
from pipeline.planning.wishing import Wish
from pipeline.profiles import PAGE, read_profiles
from pipeline.prompts import compose
from pipeline.unchanged import Input, content_of, find_unchanged, varied
from pipeline.variants import variant_of

MOST_EXACT: Final = 5_000
SAMPLE: Final = 4_000

Look = Callable[[Sequence[CustomerId]], AsyncGenerator[Input]]


@dataclass(frozen=True, slots=True)
class Shop:
    """The shop as the night would see it.

    `builds_anew`: the night would begin with candidates of its own, and nobody can say yet whose stay the same.
    """

    engine: AsyncEngine
    as_of: datetime
    candidates: CandidateSource
    wish: Wish
    builds_anew: bool

    async def inputs(self, page: Sequence[CustomerId]) -> list[Input]:
        """The profiles and candidates of these customers; who is not there any more is absent."""
        profiles = await read_profiles(self.engine, page, self.as_of, self.wish.habits)
        candidates = await persistent(self.candidates.candidates)(list(profiles.values()))
        return [(profile, candidates[customer_id]) for customer_id, profile in profiles.items()]

    def prompt_tokens(self, profile: Profile, candidates: Candidates) -> int:
        """About how many tokens the first request for this customer has."""
        variant = variant_of(profile.customer_id, self.wish.variants)
        asked = min(self.wish.own.slate_size, len(candidates))
        prompt = compose(variant.templates, profile.as_text(), candidates.offered, asked)
        return prompt_tokens(prompt, self.wish.own.provenance)


async def look_at_all(shop: Shop, customers: int, experiences: Mapping[Asked, Experience]) -> Tally:
    """What the night comes to: exact for up to `MOST_EXACT` customers, else of a random sample of `SAMPLE`."""
    pages = _all(shop) if customers <= MOST_EXACT else _sample(shop)
    tally = Tally()
    async with aclosing(pages):
        async for page in pages:
            await _look_at(shop, page, experiences, tally)
    return tally


async def _look_at(
    shop: Shop, page: Sequence[CustomerId], experiences: Mapping[Asked, Experience], tally: Tally
) -> None:
    inputs = await shop.inputs(page)
    kept = await _kept(shop, inputs)
    asked = [it for it in inputs if it[1] and it[0].customer_id not in kept]
    tally.looked_at += len(inputs)
    tally.unchanged += len(kept)
    tally.no_candidates += len(inputs) - len(kept) - len(asked)
    tally.add(_forecasts(shop, asked, experiences))


async def _kept(shop: Shop, inputs: Sequence[Input]) -> Collection[CustomerId]:
    """Who would keep his slate, as far as it can be known."""
    if shop.builds_anew:
        return ()
    content = content_of(inputs, varied(shop.wish.own, shop.wish.variants))
    return await find_unchanged(shop.engine, content, shop.wish.unchanged_max_age_days)


def _forecasts(shop: Shop, inputs: Sequence[Input], experiences: Mapping[Asked, Experience]) -> Iterator[Forecast]:
    for profile, candidates in inputs:
        asked = shop.wish.asked_of(profile.customer_id)
        rows = min(shop.wish.own.slate_size, len(candidates))
        question = Question(
            model=asked.model,
            rows=rows,
            prompt_tokens=shop.prompt_tokens(profile, candidates),
            answer_tokens=answer_tokens(rows, shop.wish.own.provenance),
        )
        yield forecast(question, experiences[asked], shop.wish.tokens_per_second)


async def _all(shop: Shop) -> AsyncGenerator[list[CustomerId]]:
    left = shop.wish.most
    after = ""
    while left is None or left > 0:
        page = await _read(shop, "plan_customers", {"after": after, "page": min(PAGE, left or PAGE)})
        if not page:
            return
        yield page
        after = page[-1]
        left = None if left is None else left - len(page)


async def _sample(shop: Shop) -> AsyncGenerator[list[CustomerId]]:
    drawn = await _read(shop, "plan_sample", {"most": shop.wish.most, "sample": SAMPLE})
    for begin in range(0, len(drawn), PAGE):
        yield drawn[begin : begin + PAGE]


async def _read(shop: Shop, name: str, values: Mapping[str, int | str | None]) -> list[CustomerId]:
    async with shop.engine.connect() as connection:
        found = await connection.scalars(statement(name), values)
        return [CustomerId(customer_id) for customer_id in found]
