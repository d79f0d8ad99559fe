"""The prompts of a shop's customers, as recstream composes them: what the contenders ask."""

from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg

from bench.limits.plan import MOST_CANDIDATES, SLATE_SIZE
from bench.limits.real_shop import first_customers
from pipeline.candidates.popular import PopularCandidates
from pipeline.database import libpq_url, open_engine
from pipeline.domain import CustomerId
from pipeline.profiles import read_profiles
from pipeline.prompts import Prompt, compose, load_templates
from pipeline.segments import ShopHabits
from pipeline.settings import Settings


async def questions(
    url: str, customer_ids: Sequence[CustomerId], *, asked: int, most_candidates: int, as_of: datetime | None = None
) -> list[Prompt]:
    """A prompt for each of these customers, in their order."""
    when = as_of or datetime.now(UTC)
    templates, days = load_templates(), Settings.model_fields["popularity_days"].default
    async with open_engine(url, connections=2) as engine:
        source = await PopularCandidates.open(engine, when, days=days, most=most_candidates)
        profiles = await read_profiles(engine, customer_ids, when, ShopHabits())
        candidates = await source.candidates(list(profiles.values()))
    return [
        compose(templates, profiles[customer_id].as_text(), candidates[customer_id].offered, asked)
        for customer_id in customer_ids
    ]


async def first_questions(url: str, customers: int, asked: int) -> list[Prompt]:
    """The prompts of a shop's first customers at as many candidates as a run has."""
    return await questions(url, first_customers(url, customers), asked=asked, most_candidates=MOST_CANDIDATES)


async def prompts_of_run(url: str, customers: int, run: str, most_candidates: int) -> list[Prompt]:
    """The prompts of a shop's first customers as they stood when this run was planned, at so many candidates."""
    with psycopg.connect(libpq_url(url)) as connection:
        row = connection.execute("SELECT as_of FROM runs WHERE run_id = %s", [run]).fetchone()
    assert row is not None
    customer_ids = first_customers(url, customers)
    return await questions(url, customer_ids, asked=SLATE_SIZE, most_candidates=most_candidates, as_of=row[0])
