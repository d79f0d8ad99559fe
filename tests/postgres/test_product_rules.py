"""What the shop bans and pins: in force at once, told with who and why, and ended by its time or by a person."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import ProductId
from pipeline.errors import InputError
from pipeline.product_rules import ShopRule, end_rule, order_rule, standing_rules
from tests.fixtures.shop import add_product, change, read

LAMP = ProductId("lamp")
TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
async def shop(engine: AsyncEngine) -> AsyncEngine:
    await add_product(engine, LAMP, "Lamp")
    return engine


async def in_force(engine: AsyncEngine) -> list[tuple[str, str, str]]:
    return [(it.rule, it.product_id, it.reason) for it in await standing_rules(engine)]


async def test_a_rule_is_told_with_the_product_and_who_wanted_it(shop: AsyncEngine) -> None:
    await order_rule(shop, LAMP, ShopRule.BAN, reason=" recalled ", until=TOMORROW)

    (rule,) = await standing_rules(shop)

    assert (rule.product_id, rule.name, rule.rule, rule.reason) == (LAMP, "Lamp", ShopRule.BAN, "recalled")
    assert rule.until == TOMORROW
    assert "@" in rule.ordered_by


async def test_a_rule_that_is_given_again_takes_the_place_of_the_former_one(shop: AsyncEngine) -> None:
    assert await order_rule(shop, LAMP, ShopRule.BAN, reason="first") is None
    assert await order_rule(shop, LAMP, ShopRule.BAN, reason="second") == "first"

    assert await in_force(shop) == [("ban", LAMP, "second")]
    assert await read(shop, "SELECT reason, ended_by IS NOT NULL FROM product_rules ORDER BY rule_id") == [
        ("first", True),
        ("second", False),
    ]


async def test_a_rule_ends_by_its_time_or_by_a_person(shop: AsyncEngine) -> None:
    await order_rule(shop, LAMP, ShopRule.PIN, reason="r")
    await end_rule(shop, LAMP, ShopRule.PIN)
    assert await in_force(shop) == []

    await order_rule(shop, LAMP, ShopRule.PIN, reason="r", until=TOMORROW)
    assert await in_force(shop) == [("pin", LAMP, "r")]
    await change(shop, "UPDATE product_rules SET until = now() - interval '1 second'")
    assert await in_force(shop) == []


async def test_what_makes_no_sense_is_refused_in_one_line(shop: AsyncEngine) -> None:
    with pytest.raises(InputError, match="no product 'ghost'"):
        await order_rule(shop, ProductId("ghost"), ShopRule.BAN, reason="r")
    with pytest.raises(InputError, match="say why"):
        await order_rule(shop, LAMP, ShopRule.BAN, reason="  ")
    with pytest.raises(InputError, match="never be in force"):
        await order_rule(shop, LAMP, ShopRule.BAN, reason="r", until=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(InputError, match="no ban is in force"):
        await end_rule(shop, LAMP, ShopRule.BAN)
    await order_rule(shop, LAMP, ShopRule.BAN, reason="r")
    with pytest.raises(InputError, match="is banned"):
        await order_rule(shop, LAMP, ShopRule.PIN, reason="r")
    assert await in_force(shop) == [("ban", LAMP, "r")]


async def test_two_who_ban_at_the_same_time_both_get_their_way(shop: AsyncEngine) -> None:
    await asyncio.gather(*(order_rule(shop, LAMP, ShopRule.BAN, reason=f"r{number}") for number in range(4)))

    assert {rule for rule, *_ in await in_force(shop)} == {"ban"}
    await end_rule(shop, LAMP, ShopRule.BAN)
    assert await in_force(shop) == []
