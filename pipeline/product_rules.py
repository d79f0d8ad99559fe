"""What the shop rules for all customers: a product is banned or pinned, by whom, why and until when."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pipeline.database import statement
from pipeline.domain import ProductId
from pipeline.errors import InputError
from pipeline.order_book import this_login
from pipeline.tables import product_rules, products


class ShopRule(StrEnum):
    """BAN: nobody is recommended it, from now on. PIN: it is among everybody's candidates in the runs to come."""

    BAN = "ban"
    PIN = "pin"


@dataclass(frozen=True, slots=True)
class StandingRule:
    """One rule that is in force; without `until` it is until somebody ends it. `name` is None of a product unknown."""

    product_id: ProductId
    name: str | None
    rule: ShopRule
    reason: str
    since: datetime
    until: datetime | None
    ordered_by: str


async def order_rule(
    engine: AsyncEngine, product_id: ProductId, rule: ShopRule, *, reason: str, until: datetime | None = None
) -> str | None:
    """Put a rule in force; one of the same kind that is in force for this product ends with it: its reason is told.

    Raises:
        InputError: there is no such product, no reason, the time is over, or a pin is for what is banned.
    """
    if not reason.strip():
        raise InputError(f"say why {product_id!r} is to have a {rule}: those who come after you want to know")
    async with engine.begin() as connection:
        await _require_product(connection, product_id)
        if until is not None and until <= await _now(connection):
            raise InputError(f"a {rule} until {until.isoformat()} would never be in force: that is over")
        if rule is ShopRule.PIN and await _is_in_force(connection, product_id, ShopRule.BAN):
            raise InputError(f"{product_id!r} is banned: `recstream unban {product_id}` first, then pin it")
        former = await _end(connection, product_id, rule)
        values = {"product_id": product_id, "rule": rule, "reason": reason.strip(), "until": until}
        await connection.execute(insert(product_rules).values(**values, ordered_by=this_login()))
    return former


async def end_rule(engine: AsyncEngine, product_id: ProductId, rule: ShopRule) -> None:
    """End a rule before its time.

    Raises:
        InputError: no such rule is in force.
    """
    async with engine.begin() as connection:
        if await _end(connection, product_id, rule) is None:
            raise InputError(f"no {rule} is in force for {product_id!r}: `recstream rules` shows what is")


async def standing_rules(engine: AsyncEngine) -> list[StandingRule]:
    """The rules in force, the newest first."""
    async with engine.connect() as connection:
        return [
            StandingRule(
                ProductId(row.product_id),
                row.name,
                ShopRule(row.rule),
                row.reason,
                row.since,
                row.until,
                row.ordered_by,
            )
            for row in await connection.execute(statement("standing_rules"))
        ]


async def _require_product(connection: AsyncConnection, product_id: ProductId) -> None:
    if await connection.scalar(select(products.c.product_id).where(products.c.product_id == product_id)) is None:
        raise InputError(f"there is no product {product_id!r}: check the id")


async def _now(connection: AsyncConnection) -> datetime:
    now: datetime = (await connection.execute(select(func.now()))).scalar_one()
    return now


async def _is_in_force(connection: AsyncConnection, product_id: ProductId, rule: ShopRule) -> bool:
    there = select(product_rules.c.rule_id).where(_in_force(product_id, rule)).limit(1)
    return await connection.scalar(there) is not None


async def _end(connection: AsyncConnection, product_id: ProductId, rule: ShopRule) -> str | None:
    """The reason of the rule that was in force, and is not from now on; None where there was none."""
    ended = update(product_rules).where(_in_force(product_id, rule))
    ended = ended.values(until=func.clock_timestamp(), ended_by=this_login())
    return (await connection.scalars(ended.returning(product_rules.c.reason))).first()


def _in_force(product_id: ProductId, rule: ShopRule) -> ColumnElement[bool]:
    return (
        (product_rules.c.product_id == product_id)
        & (product_rules.c.rule == rule)
        & (product_rules.c.until.is_(None) | (product_rules.c.until > func.clock_timestamp()))
    )
