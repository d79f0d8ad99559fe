"""The composition root: opens what a run and its shards share, and puts the stages together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.admission import Admission
from pipeline.budgets import Caps, open_budget
from pipeline.candidates import CandidateSource
from pipeline.candidates.opening import CandidateWishes, open_candidates
from pipeline.candidates.recipe import load_recipe
from pipeline.database import open_engine
from pipeline.domain import CustomerId, Origin, RunKind, ShardLease
from pipeline.group_commit import Tell, open_group_commit, tell_nobody
from pipeline.limits.sharing import open_shared_limits_of_all
from pipeline.notifying import open_notifier
from pipeline.orders import Hands, open_hands
from pipeline.persistence import persistent
from pipeline.pricing.price_list import load_prices, require_price
from pipeline.provisioning import fallback_endpoint, varied_endpoint
from pipeline.recommending import SlateServices
from pipeline.resuming import require_same_prompts
from pipeline.retrying.refusal_streak import RefusalStreak
from pipeline.retrying.retry_budget import RetryBudget
from pipeline.routes import Course, Prices, Route, open_route
from pipeline.runs import Ranker, Run
from pipeline.segments import ShopHabits
from pipeline.settings import Settings
from pipeline.slates import SlateLedger, has_answers
from pipeline.streaming import Endpoint
from pipeline.unchanged import Unchanged, recipes
from pipeline.variants import Variant, definitions, load_variants, variant_of

MAX_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class RunServices:
    """What the customers of one run share in one process."""

    engine: AsyncEngine
    candidates: CandidateSource
    slate: SlateServices
    habits: ShopHabits
    unchanged: Unchanged
    hands: Hands
    concurrency: int
    places: asyncio.Semaphore  # one for each customer who is served at a time, over all shards

    def holding(self, lease: ShardLease) -> "RunServices":
        """The same, writing for as long as this lease is the newest of its shard."""
        ledger = SlateLedger(self.engine, lease.run_id, self.unchanged.run.day, lease)
        slate, unchanged = replace(self.slate, ledger=ledger), replace(self.unchanged, lease=lease)
        return replace(self, slate=slate, unchanged=unchanged)


@asynccontextmanager
async def open_run_services(settings: Settings, url: str, endpoint: Endpoint, run: Run) -> AsyncIterator[RunServices]:
    """Everything that a process needs to work on this run, closed at its end.

    Raises:
        ConfigurationError: prices, prompts, variants, the fallback or the recipe of candidates cannot be used.
        RunConflictError: the run was planned with other prompts or variants than this process has read.
        DatabaseUnavailableError: nobody answers at `url`.
    """
    ways = ways_of(settings, endpoint)
    require_same_prompts(run, ranker_of(endpoint, ways.variants))
    connections = min(settings.concurrency, MAX_CONNECTIONS)
    async with (
        open_engine(url, connections=connections) as engine,
        open_hands(engine, run.run_id) as hands,
        _open_courses(settings, url, ways, hands, run.kind) as course_of,
        open_budget(url, run.run_id, settings.time_zone, ways.caps) as budget,
        _telling(settings, url, run) as tell,
        open_group_commit(url, run.run_id, run.day, endpoint.provenance, tell=tell) as writer,
    ):
        source = await persistent(open_candidates)(
            engine, run.as_of, ways.candidates, seed=run.shuffle_seed, run_id=run.run_id
        )
        slate = SlateServices(
            course_of=course_of,
            admission=Admission(hands, budget),
            writer=writer,
            ledger=SlateLedger(engine, run.run_id, run.day),
            slate_size=run.slate_size,
            attempts=settings.attempts,
            patience_s=settings.outage_patience_s,
            fill_up=settings.last_resort == "retrieval_order",
            retry_budget=RetryBudget(settings.concurrency),
            refusals=RefusalStreak(answered=await has_answers(engine, run.run_id, run.day)),
        )
        habits = ShopHabits(settings.time_zone, settings.currency)
        unchanged = Unchanged(engine, run, recipes(run, ways.variants), ways.variants)
        places = asyncio.Semaphore(settings.concurrency)
        yield RunServices(engine, source, slate, habits, unchanged, hands, settings.concurrency, places)


@dataclass(frozen=True, slots=True)
class Ways:
    """Where the requests of a run may go, and what they may cost: all that the settings say of it, found to be usable.

    `own` are the endpoints of the variants, by name; `prices` are those of each model.
    """

    endpoint: Endpoint
    variants: Sequence[Variant]
    own: Mapping[str, Endpoint]
    fallback: Endpoint | None
    prices: Mapping[str, Prices]
    caps: Caps
    candidates: CandidateWishes


def ways_of(settings: Settings, endpoint: Endpoint) -> Ways:
    """The ways of a run whose own endpoint is this one.

    Raises:
        ConfigurationError: prices, prompts, variants, the fallback or the recipe of candidates cannot be used.
    """
    variants = load_variants(settings.prompt, settings.variants)
    listed, tier = load_prices(settings.price_list), settings.service_tier
    caps = caps_of(settings, listed.currency)
    own = {it.name: varied_endpoint(settings, endpoint, it.model, it.temperature) for it in variants}
    fallback = fallback_endpoint(settings, endpoint)
    models = {it.model for it in (*own.values(), *([fallback] if fallback else []))}
    if caps.on_cost:
        for model in models:
            require_price(listed, model, tier, "budget_per_run or budget_per_day")
    prices = {model: Prices(listed.price_of(model, tier), listed.highest_price_of(model, tier)) for model in models}
    return Ways(endpoint, variants, own, fallback, prices, caps, candidates_of(settings))


def candidates_of(settings: Settings) -> CandidateWishes:
    """How the settings want candidates to be found.

    Raises:
        ConfigurationError: the recipe cannot be used.
    """
    return CandidateWishes(
        most=settings.candidate_count,
        recipe=load_recipe(settings.candidate_recipe),
        rules=settings.rules,
        order=settings.candidate_order,
        popularity_days=settings.popularity_days,
        every_days=settings.candidates_every_days,
    )


def caps_of(settings: Settings, currency: str) -> Caps:
    """What the settings let a run and a day come to."""
    return Caps(
        run_cost=settings.budget_per_run,
        day_cost=settings.budget_per_day,
        run_tokens=settings.token_budget_per_run,
        day_tokens=settings.token_budget_per_day,
        currency=currency,
    )


@asynccontextmanager
async def _open_courses(
    settings: Settings, url: str, ways: Ways, hands: Hands, kind: RunKind
) -> AsyncIterator[Callable[[CustomerId], Course]]:
    """How each customer is served. Variants that ask one model share its limits, and all have the same fallback.

    What was asked for on demand goes before the nights: somebody waits for it.
    """
    precedence = kind is RunKind.ON_DEMAND
    async with AsyncExitStack() as opened:
        routes: dict[tuple[str, str, str], Route] = {}

        async def route_to(endpoint: Endpoint) -> Route:
            key = endpoint.base_url, endpoint.model, endpoint.api_key
            if key not in routes:
                way = open_route(
                    endpoint,
                    concurrency=settings.concurrency,
                    patience_s=settings.outage_patience_s,
                    prices=ways.prices[endpoint.model],
                    names=[route.name for route in routes.values()],
                    first_at_once=precedence,
                )
                routes[key] = await opened.enter_async_context(way)
            return replace(routes[key], endpoint=endpoint, origin=_origin(endpoint, ways.endpoint))

        fallbacks = [await route_to(ways.fallback)] if ways.fallback else []
        courses: dict[str, Course] = {}
        for variant in ways.variants:
            name = variant.name if len(ways.variants) > 1 else None
            routes_of_it = [await route_to(ways.own[variant.name]), *fallbacks]
            courses[variant.name] = Course(name, variant.templates, routes_of_it)
        limiters = {route.limit_key: route.limiter for route in routes.values()}
        for limiter in limiters.values():
            hands.tell(limiter.bound)  # for those that wait in it already when a limit is ordered
        await opened.enter_async_context(open_shared_limits_of_all(url, limiters, precedence=precedence))
        yield lambda customer_id: courses[variant_of(customer_id, ways.variants).name]


def _origin(endpoint: Endpoint, own: Endpoint) -> Origin | None:
    """What rows of this endpoint say of themselves; nothing where it is the run's own."""
    if (endpoint.base_url, endpoint.model) == (own.base_url, own.model):
        return None
    return Origin(endpoint.provenance, endpoint.model)


@asynccontextmanager
async def _telling(settings: Settings, url: str, run: Run) -> AsyncIterator[Tell]:
    """What tells listeners of committed rows, unless the settings turn it off."""
    if not settings.notify:
        yield tell_nobody
        return
    async with open_notifier(url, run.run_id) as notifier:
        yield notifier.tell


def ranker_of(endpoint: Endpoint, variants: Sequence[Variant]) -> Ranker:
    """What the ledger keeps of the endpoint and the variants: never its key, nor a password in its address."""
    control = variants[0]
    return Ranker(
        endpoint.model,
        endpoint.address,
        endpoint.provenance,
        endpoint.temperature,
        control.templates.version,
        definitions(variants),
    )
