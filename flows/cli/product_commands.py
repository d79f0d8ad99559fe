"""`ban`, `unban`, `pin`, `unpin` and `rules`: what the shop rules of a product for all its customers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Annotated, TypeVar
from zoneinfo import ZoneInfo

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from flows.cli.options import AsJson, DatabaseUrl, settings_from
from flows.cli.output import console, print_json
from flows.moments import read_moment
from pipeline.database import open_engine
from pipeline.domain import ProductId
from pipeline.product_rules import ShopRule, StandingRule, end_rule, order_rule, standing_rules
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current

Product = Annotated[str, typer.Argument(help="The product's id.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who come after you.")]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="DATE", help="When it ends by itself: 2026-12-24, or with a time of day."),
]

_T = TypeVar("_T")


def ban(product: Product, reason: Reason, until: Until = None, database_url: DatabaseUrl = None) -> int:
    """Recommend a product to nobody.

    Readers see it no more from this moment on, and it is nobody's candidate.

    Example: recstream ban 4711 --reason "recalled by the maker"
    """
    former = _order(product, ShopRule.BAN, reason, until, database_url)
    console().print(f"Product {product} is banned{_until(until)}: readers see it no more.{former}", markup=False)
    return 0


def pin(product: Product, reason: Reason, until: Until = None, database_url: DatabaseUrl = None) -> int:
    """Put a product among everybody's candidates, before all others.

    Whether it is recommended is still the model's judgement; a customer's own rules hold against it too.

    Example: recstream pin 4711 --until 2026-12-24 --reason "Christmas"
    """
    former = _order(product, ShopRule.PIN, reason, until, database_url)
    console().print(f"Product {product} is pinned{_until(until)}, from the next run on.{former}", markup=False)
    return 0


def unban(product: Product, database_url: DatabaseUrl = None) -> int:
    """End the ban of a product.

    Example: recstream unban 4711
    """
    _end(product, ShopRule.BAN, database_url)
    console().print(f"Product {product} is banned no more.", markup=False)
    return 0


def unpin(product: Product, database_url: DatabaseUrl = None) -> int:
    """End the pin of a product.

    Example: recstream unpin 4711
    """
    _end(product, ShopRule.PIN, database_url)
    console().print(f"Product {product} is pinned no more.", markup=False)
    return 0


def rules(database_url: DatabaseUrl = None, as_json: AsJson = False) -> int:
    """Show which products are banned and pinned, by whom and why.

    Example: recstream rules
    """
    found = _with_engine(database_url, standing_rules)
    if as_json:
        print_json(found)
    else:
        for line in _lines(found):
            console().print(line, markup=False)
    return 0


def _order(product: str, rule: ShopRule, reason: str, until: str | None, database_url: str | None) -> str:
    """What is to be said of the rule whose place this one takes."""
    zone = ZoneInfo(settings_from(database_url=database_url).time_zone)
    ends_at = None if until is None else read_moment(until, zone, "--until")
    former = _with_engine(
        database_url, lambda engine: order_rule(engine, ProductId(product), rule, reason=reason, until=ends_at)
    )
    return "" if former is None else f" This takes the place of the {rule} of before: {former}"


def _end(product: str, rule: ShopRule, database_url: str | None) -> None:
    _with_engine(database_url, lambda engine: end_rule(engine, ProductId(product), rule))


def _with_engine(database_url: str | None, deed: Callable[[AsyncEngine], Awaitable[_T]]) -> _T:
    with provided_database(settings_from(database_url=database_url)) as url:
        require_current(url)
        return asyncio.run(_done(url, deed))


async def _done(url: str, deed: Callable[[AsyncEngine], Awaitable[_T]]) -> _T:
    async with open_engine(url, connections=1) as engine:
        return await deed(engine)


def _until(until: str | None) -> str:
    return "" if until is None else f" until {until}"


def _lines(found: Sequence[StandingRule]) -> Iterator[str]:
    if not found:
        yield "No product is banned or pinned."
    for it in found:
        name = f" ({it.name})" if it.name else ""
        until = "" if it.until is None else f" until {it.until:%Y-%m-%d %H:%M} UTC"
        yield f"{it.rule:<3}  {it.product_id}{name}{until}: {it.reason}, by {it.ordered_by}"
