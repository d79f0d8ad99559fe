"""Reads what the last nights of each model teach, and what is known of today's limits."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import statement
from pipeline.domain import CustomerId
from pipeline.planning.experience import Asked, Experience, History, experience_of, ratio_of
from pipeline.planning.looking import Shop
from pipeline.planning.wishing import Wish
from pipeline.profiles import PAGE
from pipeline.version import code_version

_REPORTED: Final = 400  # requests that estimates are held against: their ratio hardly differs from one to the other


@dataclass(frozen=True, slots=True)
class KnownLimits:
    """Today's limits of an endpoint for one model; None where nothing limits it so far. Rates are per minute."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    requests_from: str | None = None
    tokens_from: str | None = None
    closed_for_s: float = 0.0


async def read_experience(shop: Shop, asked: Asked) -> Experience:
    """What the last nights of this model with this prompt teach; nothing where there were none."""
    which = {
        "model": asked.model,
        "provenance": shop.wish.own.provenance,
        "prompt_version": asked.prompt_version,
    }
    async with shop.engine.connect() as connection:
        row = (await connection.execute(statement("plan_history"), which)).mappings().one_or_none()
        if row is None:
            return Experience()
        reported = await connection.execute(
            statement("plan_reported"), which | {"code_version": code_version(), "most": _REPORTED}
        )
        tokens = {CustomerId(it.customer_id): (it.candidates, it.tokens_in) for it in reported}
    return experience_of(History(**row), await _input_ratio(shop, asked, tokens), shop.wish.concurrency)


async def _input_ratio(shop: Shop, asked: Asked, tokens: dict[CustomerId, tuple[int, int]]) -> float:
    """Reported tokens for an estimated one, over the same customers: those who have as many candidates as they had.

    Who would be asked for with another prompt today tells nothing of this one.
    """
    estimated = reported = 0
    customer_ids = sorted(tokens)
    for begin in range(0, len(customer_ids), PAGE):
        for profile, candidates in await shop.inputs(customer_ids[begin : begin + PAGE]):
            their_number, their_tokens = tokens[profile.customer_id]
            same_prompt = shop.wish.asked_of(profile.customer_id).prompt_version == asked.prompt_version
            if same_prompt and candidates and len(candidates) == their_number:
                estimated += shop.prompt_tokens(profile, candidates)
                reported += their_tokens
    return ratio_of(estimated, reported)


async def read_limits(engine: AsyncEngine, wish: Wish, model: str) -> KnownLimits:
    """What is known of them."""
    whose = {"endpoint": wish.endpoint, "model": model, "account": wish.account}
    async with engine.connect() as connection:
        found = await connection.execute(statement("plan_limits"), whose)
        row = found.mappings().one_or_none()
    return KnownLimits() if row is None else KnownLimits(**row)
