"""`plan`: what tonight's run would come to, before anybody is asked."""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flows.cli.options import AsJson, BaseUrl, DatabaseUrl, Model, settings_from
from flows.cli.output import console, print_json
from pipeline.provided_database import provided_database
from pipeline.schema_version import require_current

if TYPE_CHECKING:
    from pipeline.planning import BudgetCheck, NightPlan

_SUMS = ("requests", "tokens_in", "tokens_cached", "tokens_out", "cost", "suffices")


def plan(
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many customers.")] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Every slate anew, also where nothing has changed.")
    ] = False,
    concurrency: Annotated[int | None, typer.Option(help="How many answers may stream at a time.")] = None,
    slate_size: Annotated[int | None, typer.Option(help="How many recommendations for each customer.")] = None,
    database_url: DatabaseUrl = None,
    base_url: BaseUrl = None,
    model: Model = None,
    as_json: AsJson = False,
) -> int:
    """Say what a run would come to, and ask nobody.

    Customers and who would be skipped, requests, tokens, cost, duration, and whether the budget suffices. Some
    thousands of customers are looked at one by one; of more, a random sample. Nothing is written.
    Where the night builds candidates anew nobody is counted as unchanged: it may come to less.

    Example: recstream plan --limit 1000
    """
    from pipeline.planning import plan_night, wish_of  # noqa: PLC0415 - imports the HTTP client: a second of every command

    settings = settings_from(
        concurrency=concurrency,
        slate_size=slate_size,
        database_url=database_url,
        openai_base_url=base_url,
        model=model,
    )
    wish = wish_of(settings, most=limit, refresh=refresh)
    with provided_database(settings) as url:
        require_current(url)
        planned = asyncio.run(plan_night(url, wish))
    if as_json:
        print_json(_document(planned))
    else:
        console().print(_table(planned))
    return 0


def _document(planned: "NightPlan") -> dict[str, Any]:
    """The plan for programs, its sums included."""
    document = asdict(planned) | {name: getattr(planned, name) for name in _SUMS}
    for check, told in zip(planned.budgets, document["budgets"], strict=True):
        told["suffices"] = check.suffices
    return document


def _table(planned: "NightPlan") -> Table:
    """The plan for people."""
    table = Table(title="A run that began now", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="left", overflow="fold")
    for name, value in _lines(planned):
        table.add_row(name, Text(value))
    return table


def _lines(planned: "NightPlan") -> Iterable[tuple[str, str]]:
    yield "looks up to", f"{planned.as_of:%Y-%m-%d %H:%M} UTC"
    yield "customers", _customers(planned)
    yield "skipped", _skipped(planned)
    if planned.unchanged_unknown:
        yield "unchanged", "not known: the night builds candidates anew; all are counted as asked for"
    yield "asked for", f"{planned.asked:,} customers, {_about(planned)}{planned.requests:,} requests"
    yield (
        "input tokens",
        f"{_about(planned)}{planned.tokens_in:,}, {_share(planned.tokens_cached, planned.tokens_in)} cached",
    )
    yield "output tokens", f"{_about(planned)}{planned.tokens_out:,}"
    yield "cost", _cost(planned)
    if len(planned.models) > 1:
        for it in planned.models:
            yield f"  {it.model}", f"{it.customers:,} customers, {_money(it.cost)} {planned.currency}"
    yield "duration", _duration(planned)
    for check in planned.budgets:
        yield f"budget of the {check.scope}", _budget(check)
    yield "based on", _basis(planned)


def _customers(planned: "NightPlan") -> str:
    others = f", {planned.not_active:,} more are not active" if planned.not_active else ""
    return f"{planned.customers:,}{others}"


def _skipped(planned: "NightPlan") -> str:
    skipped = {"unchanged": planned.unchanged, "without candidates": planned.no_candidates}
    told = ", ".join(f"{_about(planned)}{number:,} {why}" for why, number in skipped.items() if number)
    return told or "nobody"


def _cost(planned: "NightPlan") -> str:
    remark = f"; {planned.prices_remark}" if planned.prices_remark else ""
    return (
        f"{_about(planned)}{_money(planned.cost)} {planned.currency} "
        f"(prices of {planned.prices_as_of}, {planned.prices_from}){remark}"
    )


def _duration(planned: "NightPlan") -> str:
    seconds = planned.duration.seconds
    told = "unknown" if seconds is None else f"about {_time(seconds)}"
    return f"{told}: {planned.duration.because}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _budget(check: "BudgetCheck") -> str:
    spent = f"{_amount(check.spent, check)} of it spent, " if check.scope == "day" else ""
    verdict = "suffices" if check.suffices else "does not suffice: the run would stop before it is passed"
    return f"{_amount(check.cap, check)} {check.unit}, {spent}{verdict}"


def _amount(amount: Decimal, check: "BudgetCheck") -> str:
    return f"{amount:,.0f}" if check.unit == "tokens" else _money(amount)


def _money(amount: Decimal) -> str:
    """With cents, or with as many digits as it takes to see something of it."""
    return (
        f"{amount:,.2f}"
        if not amount or amount >= 1
        else f"{amount:.2g}"
        if amount < Decimal("0.01")
        else f"{amount:.3f}"
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"


def _about(planned: "NightPlan") -> str:
    return "" if planned.sample is None else "about "


def _basis(planned: "NightPlan") -> str:
    looked = "every customer"
    if planned.sample is not None:
        looked = (
            f"{planned.sample.customers:,} customers drawn at random (±{planned.sample.margin:.1%} in tokens and cost)"
        )
    return "; ".join([looked, *_lessons(planned)])


def _lessons(planned: "NightPlan") -> Iterable[str]:
    for it in planned.models:
        if it.runs:
            nights = "night" if it.runs == 1 else f"{it.runs} nights"
            yield f"the last {nights} of {it.model} ({it.input_ratio:.2f} tokens reported for one estimated)"
        else:
            yield f"no night of {it.model} with this prompt: tokens as estimated, nothing cached, no request made again"
