"""Puts a plan together: the shop as it is, what the last nights teach, today's limits, prices and budgets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.builds import stays_in_service
from pipeline.candidates.opening import open_candidates
from pipeline.database import open_engine, statement
from pipeline.domain import Usage
from pipeline.errors import InputError
from pipeline.persistence import persistent
from pipeline.planning.duration import duration_of
from pipeline.planning.experience import Asked, Experience
from pipeline.planning.forecast import ModelTally, Tally
from pipeline.planning.looking import Shop, look_at_all
from pipeline.planning.night_plan import BudgetCheck, ModelPlan, NightPlan, Sample
from pipeline.planning.remembering import read_experience, read_limits
from pipeline.planning.wishing import Wish
from pipeline.pricing.price_list import Price, require_price
from pipeline.runs import NO_CUSTOMERS, require_catalog
from pipeline.tables import customers

_CONNECTIONS = 2


async def plan_night(url: str, wish: Wish) -> NightPlan:
    """Foretell the night that would begin now. Every transaction is read only; nobody but the database is asked.

    Raises:
        InputError: there are no customers, or no product that may be recommended.
        ConfigurationError: the price list lacks a model; the message has the lines to write.
    """
    prices = _prices(wish)
    async with open_engine(url, connections=_CONNECTIONS) as opened:
        engine = reading_only(opened)
        counted = await _count(engine, wish.most)
        shop = await _open_shop(engine, wish)
        learnt = await _experiences(shop)
        tally = await look_at_all(shop, counted.customers, learnt)
        experiences = _by_model(learnt)
        by = counted.customers / tally.looked_at if tally.looked_at else 0.0
        tallies = {model: it.scaled(by) for model, it in tally.models.items()}
        models = tuple(_model_plan(model, it, prices[model], experiences[model]) for model, it in tallies.items())
        limits = {model: await read_limits(engine, wish, model) for model in tallies}
        return NightPlan(
            as_of=shop.as_of,
            customers=counted.customers,
            not_active=counted.not_active,
            unchanged=round(tally.unchanged * by),
            unchanged_unknown=shop.builds_anew and wish.unchanged_max_age_days > 0,
            no_candidates=round(tally.no_candidates * by),
            asked=sum(it.customers for it in tallies.values()),
            models=models,
            currency=wish.prices.currency,
            prices_as_of=wish.prices.as_of,
            prices_from=wish.prices.source,
            prices_remark=wish.prices.remark(datetime.now(UTC).date()),
            duration=duration_of(tallies, experiences, limits, wish.concurrency),
            budgets=tuple(await _check_budgets(engine, wish, models)),
            sample=_sample(tally, counted.customers),
        )


def reading_only(engine: AsyncEngine) -> AsyncEngine:
    """The same engine, whose transactions can write nothing, whatever is executed in them."""
    return engine.execution_options(postgresql_readonly=True)


@dataclass(frozen=True, slots=True)
class _Counted:
    customers: int
    not_active: int


@persistent
async def _count(engine: AsyncEngine, most: int | None) -> _Counted:
    async with engine.connect() as connection:
        await require_catalog(connection)
        counts = select(func.count().filter(customers.c.active), func.count().filter(~customers.c.active))
        active, others = (await connection.execute(counts.select_from(customers))).one()
    if not active:
        raise InputError(NO_CUSTOMERS)
    return _Counted(active if most is None else min(active, most), others)


@persistent
async def _open_shop(engine: AsyncEngine, wish: Wish) -> Shop:
    async with engine.connect() as connection:
        as_of: datetime = (await connection.execute(statement("as_of"))).scalar_one()
    stays = await stays_in_service(engine, wish.candidates.recipe, wish.candidates.every_days)
    return Shop(engine, as_of, await open_candidates(engine, as_of, wish.candidates), wish, builds_anew=not stays)


async def _experiences(shop: Shop) -> dict[Asked, Experience]:
    """Of all that the run and its variants ask, its own first. A prompt that is new is taken to do as others."""
    learnt: dict[Asked, Experience] = {}
    for asked in shop.wish.all_asked():
        experience = await read_experience(shop, asked)
        learnt[asked] = experience if experience.runs else _by_model(learnt).get(asked.model, experience)
    return learnt


def _by_model(learnt: Mapping[Asked, Experience]) -> dict[str, Experience]:
    """Of each model what was learnt first."""
    found: dict[str, Experience] = {}
    for asked, experience in learnt.items():
        found.setdefault(asked.model, experience)
    return found


def _prices(wish: Wish) -> dict[str, Price]:
    models = {wish.own.model, *(variant.model for variant in wish.variants if variant.model is not None)}
    return {model: require_price(wish.prices, model, wish.tier, "`recstream plan`") for model in sorted(models)}


def _model_plan(model: str, tally: ModelTally, price: Price, experience: Experience) -> ModelPlan:
    usage = Usage(round(tally.tokens_in), round(tally.tokens_out), round(tally.tokens_cached))
    return ModelPlan(
        model=model,
        customers=tally.customers,
        requests=round(tally.requests),
        tokens_in=usage.tokens_in,
        tokens_cached=usage.tokens_cached,
        tokens_out=usage.tokens_out,
        cost=price.cost(usage),
        runs=experience.runs,
        input_ratio=experience.input_ratio,
    )


def _sample(tally: Tally, of: int) -> Sample | None:
    if tally.looked_at >= of:
        return None
    return Sample(tally.looked_at, tally.tokens.margin(tally.looked_at, of))


async def _check_budgets(engine: AsyncEngine, wish: Wish, models: tuple[ModelPlan, ...]) -> list[BudgetCheck]:
    if not wish.caps.any:
        return []
    async with engine.connect() as connection:
        spent = await connection.execute(statement("plan_spent"), {"time_zone": wish.habits.time_zone})
        of_today = spent.mappings().one()
    cost = sum((it.cost for it in models), Decimal(0))
    tokens = Decimal(sum(it.tokens_in + it.tokens_out for it in models))
    return list(
        _checks(wish, {"cost": cost, "tokens": tokens}, {what: Decimal(of_today[what]) for what in ("cost", "tokens")})
    )


def _checks(wish: Wish, planned: Mapping[str, Decimal], of_today: Mapping[str, Decimal]) -> Iterator[BudgetCheck]:
    caps, nothing = wish.caps, Decimal(0)
    for scope, what, cap in (
        ("run", "cost", caps.run_cost),
        ("day", "cost", caps.day_cost),
        ("run", "tokens", caps.run_tokens),
        ("day", "tokens", caps.day_tokens),
    ):
        if cap is not None:
            unit = caps.currency if what == "cost" else "tokens"
            spent = of_today[what] if scope == "day" else nothing
            yield BudgetCheck(scope, unit, Decimal(cap), spent, planned[what])
