"""`recstream plan`, as it is typed."""

from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fixtures.command_line import CommandLine
from tests.fixtures.shop import add_customer, add_product

ELSEWHERE = "http://127.0.0.1:1/v1"  # where nobody can be: a plan asks nobody


@pytest.fixture
async def recstream(tmp_path: Path, database_url: str, engine: AsyncEngine) -> CommandLine:
    """The command line in a shop with three customers, one of whom is not active."""
    for number in range(12):
        await add_product(engine, str(number), f"Product {number}")
    for customer_id in ("a", "b", "c"):
        await add_customer(engine, customer_id, active=customer_id != "c")
    return CommandLine(tmp_path, {"DATABASE_URL": database_url})


def test_a_plan_is_a_table_for_people(recstream: CommandLine) -> None:
    told = recstream("plan", RECSTREAM_TOKEN_BUDGET_PER_RUN="10")

    assert (told.status, told.stderr) == (0, "")
    for line in (
        "customers │ 2, 1 more are not active",
        "skipped │ nobody",
        "unchanged │ not known: the night builds candidates anew; all are counted as asked for",
        "asked for │ 2 customers, 2 requests",
        "cost │ 0.00 USD",
        "budget of the run │ 10 tokens, does not suffice: the run would stop before it is passed",
    ):
        assert line in " ".join(told.stdout.split()), told.stdout


def test_a_plan_is_a_document_for_programs(recstream: CommandLine) -> None:
    told = recstream("plan", "--limit", "1", "--refresh", "--json", "--slate-size", "2", RECSTREAM_BUDGET_PER_RUN="1")

    assert (told.status, told.stderr) == (0, "")
    plan = told.document
    assert (plan["customers"], plan["asked"], plan["requests"], plan["unchanged"]) == (1, 1, 1, 0)
    assert plan["unchanged_unknown"] is False, "with --refresh nobody stays unchanged"
    assert plan["tokens_in"] > 0
    assert plan["sample"] is None
    assert (plan["budgets"][0]["suffices"], plan["suffices"]) == (True, True)


def test_a_model_without_a_price_is_one_line_with_what_to_write(recstream: CommandLine) -> None:
    told = recstream("plan", "--base-url", ELSEWHERE, "--model", "new-model")

    assert told.status == 2
    assert told.complaint.startswith("recstream: `recstream plan` needs the price of 'new-model'")


def test_a_price_list_with_a_typo_is_one_line(recstream: CommandLine) -> None:
    (recstream.folder / "prices.toml").write_text(
        'currency = "USD"\nas_of = 2026-11-01\n[models.m]\ninptu = 1\noutput = 1'
    )

    told = recstream("plan", "--base-url", ELSEWHERE, "--model", "m")

    assert told.status == 2
    assert "prices.toml" in told.complaint
