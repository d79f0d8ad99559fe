"""The Python API: one customer's profile and a list of products in, recommendations out while the answer streams.

It needs no database. With neither a key nor a base URL it starts the offline ranker for the life of the process.
"""

import asyncio
import atexit
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import BaseModel, ConfigDict, Field

from pipeline.api_input import read_limit, read_listener, read_products, read_profile
from pipeline.domain import AnswerRecord, Product, Profile, Recommendation, Rejection
from pipeline.handover import handed_over
from pipeline.parsing import parse
from pipeline.prompts import Templates, compose, load_templates
from pipeline.provisioning import endpoint_for_this_process
from pipeline.settings import load_settings
from pipeline.streaming import Endpoint, open_client, stream
from pipeline.validation import Judge, validate

_log = logging.getLogger("recstream")


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
    templates: Templates
    endpoint: Endpoint
    on_rejection: Callable[[Rejection], None]


def _log_rejection(rejection: Rejection) -> None:
    _log.warning("an object of the answer was refused (%s): %s", rejection.reason, rejection.detail)


def stream_recommendations(
    profile_data: str | Profile,
    products: Iterable[Mapping[str, Any] | object],
    *,
    limit: int | None = None,
    model: str | None = None,
    temperature: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    on_rejection: Callable[[Rejection], None] = _log_rejection,
) -> Generator[ProductRecommendation]:
    """Yield the products most relevant for the customer, best first, each as soon as its last byte is here.

    Nothing is requested before the first `next`; leaving the loop closes the connection at once.

    Args:
        profile_data: the customer as free text, or a `Profile`.
        products: dicts or objects with `product_id` (int or text) and `product_name` or `name`; optional `brand`,
            `category`, `price`. At most 1,000.
        limit: how many to ask for; all of them by default.
        model, temperature, base_url, api_key: go before RECSTREAM_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY.
        on_rejection: told of each object of the answer that is no recommendation, and why; by default a warning is
            logged. It is called in the thread that reads the answer. An answer that ends well with fewer than were
            asked for is no error: that is logged, too.

    Raises:
        InputError: the profile, a product, the limit or `on_rejection` cannot be used.
        ConfigurationError: a setting is wrong or missing.
        AnswerError: the answer did not end well, or held nothing; raised after the last recommendation that was whole.
    """
    flags = _flags(model, temperature, base_url, api_key)
    with _reading(_recommendations(profile_data, products, limit, flags, on_rejection)) as following:
        while (recommendation := following()) is not None:
            yield recommendation


async def astream_recommendations(
    profile_data: str | Profile,
    products: Iterable[Mapping[str, Any] | object],
    *,
    limit: int | None = None,
    model: str | None = None,
    temperature: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    on_rejection: Callable[[Rejection], None] = _log_rejection,
) -> AsyncGenerator[ProductRecommendation]:
    """As `stream_recommendations`, for an event loop.

    Leaving the loop early closes the connection at the event loop's next turn; `contextlib.aclosing` waits for that.
    """
    flags = _flags(model, temperature, base_url, api_key)
    async with handed_over(_recommendations(profile_data, products, limit, flags, on_rejection)) as following:
        while (recommendation := await following()) is not None:
            yield recommendation


def _flags(
    model: str | None, temperature: float | None, base_url: str | None, api_key: str | None
) -> dict[str, str | float | None]:
    return {"model": model, "temperature": temperature, "openai_base_url": base_url, "openai_api_key": api_key}


async def _recommendations(
    profile_data: str | Profile,
    products: Iterable[Mapping[str, Any] | object],
    limit: int | None,
    flags: Mapping[str, str | float | None],
    on_rejection: Callable[[Rejection], None],
) -> AsyncGenerator[ProductRecommendation]:
    settings = load_settings(**flags)
    profile, candidates = read_profile(profile_data), read_products(products)
    question = _Question(
        profile=profile,
        candidates=candidates,
        asked=read_limit(limit, len(candidates)),
        templates=load_templates(settings.prompt),
        on_rejection=read_listener(on_rejection),
        endpoint=await asyncio.to_thread(endpoint_for_this_process, settings),  # it may have to start a process
    )
    async with aclosing(_answer(question)) as recommendations:
        async for recommendation in recommendations:
            yield ProductRecommendation(
                product_id=recommendation.product_id,
                product_name=recommendation.product_name,
                relevance_score=recommendation.relevance_score,
            )


async def _answer(question: _Question) -> AsyncGenerator[Recommendation]:
    prompt = compose(question.templates, question.profile, question.candidates, question.asked)
    judge = Judge(question.candidates, asked=question.asked)
    async with open_client(question.endpoint, concurrency=1) as client:
        texts = stream(client, question.endpoint, prompt, AnswerRecord())
        async with aclosing(validate(parse(texts, judge.enough), judge)) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, Rejection):
                    question.on_rejection(outcome)
                else:
                    yield outcome
    judge.require_any()
    if not judge.enough():
        _log.warning("%s", judge.shortfall())


@contextmanager
def _reading(
    recommendations: AsyncGenerator[ProductRecommendation],
) -> Iterator[Callable[[], ProductRecommendation | None]]:
    """Run an async generator in a thread of its own; each call gives what it yields next, None at its end.

    It is closed with the block, and at exit where a program keeps an unfinished loop's generator until then: later its
    thread would no longer run, and waiting for it would have no end.
    """
    with ExitStack() as leaving:
        reader = _Reader(recommendations, leaving.enter_context(start_blocking_portal()))
        leaving.callback(reader.close)
        atexit.register(leaving.close)
        leaving.callback(atexit.unregister, leaving.close)
        yield reader.following


class _Reader:
    def __init__(self, recommendations: AsyncGenerator[ProductRecommendation], portal: BlockingPortal) -> None:
        self._recommendations = recommendations
        self._portal = portal
        self._waiting = False

    def following(self) -> ProductRecommendation | None:
        """Wait for the next one. An interrupt leaves the wait marked: the generator still runs in its thread."""
        self._waiting = True
        recommendation = self._portal.call(self._step)
        self._waiting = False
        return recommendation

    def close(self) -> None:
        """Close the generator, whether it waits at a yield or for the endpoint."""
        if self._waiting:
            self._portal.call(self._portal.stop, True)  # noqa: FBT003 - cancels; the method takes it by place only
        else:
            self._portal.call(self._recommendations.aclose)

    async def _step(self) -> ProductRecommendation | None:
        return await anext(self._recommendations, None)
