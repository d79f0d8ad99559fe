"""The ways on which a run's requests go: each one model at one endpoint, and what keeps us within its limits."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from openai import AsyncOpenAI

from pipeline.domain import Origin
from pipeline.limits.limiter import Limiter
from pipeline.limits.sharing import LimitKey, account_of
from pipeline.pricing.calibration import Calibration
from pipeline.pricing.price_list import Price
from pipeline.prompts import Templates
from pipeline.retrying.breaker import Breaker
from pipeline.streaming import Endpoint, open_client


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model's tokens cost, and what they cost at most in whatever tier they may be billed; None if unknown."""

    price: Price | None = None
    highest: Price | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One model at one endpoint. `origin` is what its rows say of themselves where it is not the run's own way."""

    endpoint: Endpoint
    client: AsyncOpenAI
    limiter: Limiter
    breaker: Breaker
    prices: Prices = field(default_factory=Prices)
    origin: Origin | None = None
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def name(self) -> str:
        """What messages and tries call it."""
        return self.breaker.name

    @property
    def limit_key(self) -> LimitKey:
        """Whose limit it keeps to, with all other processes."""
        return LimitKey(self.endpoint.address, self.endpoint.model, account_of(self.endpoint.api_key))


@dataclass(frozen=True, slots=True)
class Course:
    """How the customers of one variant are served: with which prompt, over which routes, its own one first.

    `variant` is None where the run tries no variants.
    """

    variant: str | None
    templates: Templates
    routes: Sequence[Route]


@asynccontextmanager
async def open_route(
    endpoint: Endpoint,
    *,
    concurrency: int,
    patience_s: float,
    prices: Prices,
    origin: Origin | None = None,
    names: Collection[str] = (),
    first_at_once: bool = False,
) -> AsyncIterator[Route]:
    """A way to this endpoint for so many requests at a time. `patience_s` is how long it may be away, however.

    `names` are those of the other ways: one that differs from them by its key alone says so in its name. With
    `first_at_once` the first request waits for no rate.

    Raises:
        ConfigurationError: certificates, a proxy or the base URL cannot be used.
    """
    name = f"{endpoint.model} at {endpoint.address}"
    if name in names:
        name = f"{name} by key {account_of(endpoint.api_key)}"
    async with open_client(endpoint, concurrency=concurrency) as client:
        limiter = Limiter(concurrency, name=name, patience_s=patience_s, first_at_once=first_at_once)
        yield Route(endpoint, client, limiter, Breaker(name, patience_s), prices, origin)
