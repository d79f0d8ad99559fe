"""The Python API: one customer's profile and a list of products in, recommendations out while the answer streams.

It needs no database. With neither a key nor a base URL it starts the offline ranker for the life of the process.
"""

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from anyio.from_thread import start_blocking_portal
from pydantic import BaseModel, ConfigDict, Field

from pipeline.domain import AnswerRecord, Product, ProductId, Profile, Recommendation
from pipeline.errors import InputError
from pipeline.parsing import parse
from pipeline.prompts import compose
from pipeline.provisioning import endpoint_for_this_process
from pipeline.settings import load_settings
from pipeline.streaming import Endpoint, open_client, stream
from pipeline.validation import Judge, validate

MAX_PROFILE_CHARACTERS = 200_000
MAX_PRODUCTS = 1_000


class ProductRecommendation(BaseModel):
    """One place on the slate. `relevance_score` is 0 to 1: an ordering, not a probability."""

    model_config = ConfigDict(frozen=True)

    product_id: str
    product_name: str
    relevance_score: float = Field(ge=0, le=1, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class _Question:
    profile: str
    candidates: list[Product]
    asked: int
    endpoint: Endpoint


def stream_recommendations(
    profile_data: str | Profile,
    products: Iterable[Mapping[str, Any] | object],
    *,
    limit: int | None = None,
    model: str | None = None,
    temperature: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
) -> Generator[ProductRecommendation]:
    """Yield the products most relevant for the customer, best first, each as soon as its last byte is here.

    Nothing is requested before the first `next`; leaving the loop closes the connection at once.

    Args:
        profile_data: the customer as free text, or a `Profile`.
        products: dicts or objects with `product_id` (int or text) and `product_name` or `name`; optional `brand`,
            `category`, `price`. At most 1,000.
        limit: how many to ask for; all of them by default.
        model, temperature, base_url, api_key: go before RECSTREAM_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY.

    Raises:
        InputError: the profile or a product cannot be used.
        ConfigurationError: a setting is wrong or missing.
        AnswerError: the answer did not end well; raised after the last recommendation that was whole.
    """
    with start_blocking_portal() as portal:
        recommendations = astream_recommendations(
            profile_data,
            products,
            limit=limit,
            model=model,
            temperature=temperature,
            base_url=base_url,
            api_key=api_key,
        )
        try:
            while (recommendation := portal.call(anext, recommendations, None)) is not None:
                yield recommendation
        finally:
            portal.call(recommendations.aclose)


async def astream_recommendations(
    profile_data: str | Profile,
    products: Iterable[Mapping[str, Any] | object],
    *,
    limit: int | None = None,
    model: str | None = None,
    temperature: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
) -> AsyncGenerator[ProductRecommendation]:
    """As `stream_recommendations`, for an event loop. Close it (`contextlib.aclosing`) if you leave the loop early."""
    settings = load_settings(model=model, temperature=temperature, openai_base_url=base_url, openai_api_key=api_key)
    candidates = [_product(position, given) for position, given in enumerate(products, start=1)]
    question = _Question(
        profile=_profile_text(profile_data),
        candidates=_checked(candidates),
        asked=_asked(limit, len(candidates)),
        endpoint=endpoint_for_this_process(settings),
    )
    async with aclosing(_answer(question)) as recommendations:
        async for recommendation in recommendations:
            yield ProductRecommendation(
                product_id=recommendation.product_id,
                product_name=recommendation.product_name,
                relevance_score=recommendation.relevance_score,
            )


async def _answer(question: _Question) -> AsyncGenerator[Recommendation]:
    prompt = compose(question.profile, question.candidates, question.asked)
    judge = Judge(question.candidates, asked=question.asked)
    async with open_client(question.endpoint, concurrency=1) as client:
        deltas = stream(client, question.endpoint, prompt, AnswerRecord())
        async with aclosing(validate(parse(deltas, judge.enough), judge)) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, Recommendation):
                    yield outcome
    judge.require_enough()


def _product(position: int, given: Mapping[str, Any] | object) -> Product:
    fields = given if isinstance(given, Mapping) else _Attributes(given)
    product_id, name = (
        fields.get("product_id", fields.get("id")),
        fields.get("product_name", fields.get("name")),
    )
    if isinstance(product_id, bool) or not isinstance(product_id, (int, str)) or product_id == "":
        raise InputError(f"product {position} of the list has no product_id (an integer or a text)")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"product {product_id!r} has no product_name (a text that is not empty)")
    return Product(ProductId(str(product_id)), name, fields.get("brand"), fields.get("category"), fields.get("price"))


class _Attributes:
    """Reads an object's attributes the way a mapping's keys are read."""

    def __init__(self, given: object) -> None:
        self._given = given

    def get(self, name: str, otherwise: Any = None) -> Any:
        return getattr(self._given, name, otherwise)


def _checked(candidates: list[Product]) -> list[Product]:
    if not candidates:
        raise InputError("the list of products is empty: give at least one product to rank")
    if len(candidates) > MAX_PRODUCTS:
        raise InputError(f"{len(candidates):,} products are too many for one prompt: give at most {MAX_PRODUCTS:,}")
    seen: set[ProductId] = set()
    for product in candidates:
        if product.product_id in seen:
            raise InputError(f"product_id {product.product_id!r} stands twice in the list of products")
        seen.add(product.product_id)
    return candidates


def _asked(limit: int | None, products: int) -> int:
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}: ask for at least one recommendation")
    return products if limit is None else min(limit, products)


def _profile_text(profile_data: str | Profile) -> str:
    text = profile_data.as_text() if isinstance(profile_data, Profile) else profile_data
    if not isinstance(text, str):
        raise InputError(f"profile_data is a {type(text).__name__}: give a text or a Profile")
    if len(text) > MAX_PROFILE_CHARACTERS:
        raise InputError(f"profile_data has {len(text):,} characters: give at most {MAX_PROFILE_CHARACTERS:,}")
    return text
