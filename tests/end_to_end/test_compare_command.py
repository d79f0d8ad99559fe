"""`compare` as it is typed: two runs side by side, for people and for programs, and what it says of the impossible."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.runs import Run
from tests.fixtures.command_line import CommandLine
from tests.fixtures.readers import PURCHASABLE, add_slates
from tests.fixtures.shop import NOW, add_event, change

NOBODY = UUID(int=0)


@pytest.fixture
def recstream(database_url: str, tmp_path: Path) -> CommandLine:
    """The command line on a database of its own."""
    return CommandLine(tmp_path, {"DATABASE_URL": database_url})


async def add_two_nights(engine: AsyncEngine, url: str) -> tuple[Run, Run]:
    """Two nights of the same slates; one of the customers bought what both have recommended."""
    await add_event(engine, "a", "view", product_id=PURCHASABLE[0], at=NOW)
    first = await add_slates(engine, url, a="complete", b="complete", c="short")
    second = await add_slates(engine, url, a="complete", b="complete", c="complete")
    await add_event(engine, "a", "purchase", product_id=PURCHASABLE[0], at=NOW + timedelta(days=1))
    await change(
        engine,
        "UPDATE slates SET attempts = 1, cost = 0.001, tokens_in = 1500, tokens_out = 85, tokens_cached = 1024"
        " WHERE run_id = :run_id",
        run_id=second.run_id,
    )
    return first, second


async def test_two_runs_are_shown_side_by_side(recstream: CommandLine, engine: AsyncEngine, database_url: str) -> None:
    first, second = await add_two_nights(engine, database_url)

    told = recstream("compare", str(first.run_id), str(second.run_id))

    assert (told.status, told.stderr) == (0, "")
    lines = [" ".join(line.replace("│", " ").split()) for line in told.stdout.splitlines()]
    for line in (
        f"run {first.run_id} {second.run_id}",
        "what all of it, nightly, failed all of it, nightly, finished",
        "customers 2 of 3 complete, 1 short 3 of 3 complete",
        "rows ranked by 9 test-model 9 test-model",
        "tokens a slate none 1,500 in (1,024 cached), 85 out",
        "cost none 0.003000",
        "cost a slate none 0.001000",
        "customers in both 2, 2 identical",
        "overlap@10 100.0% of the products (Jaccard 100.0%)",
        "same order 1.000 (Kendall's tau-b, 2 customers)",
        "both, top first 1.000 (rank-biased overlap, p = 0.9)",
        "A 1 of 2: 50.00%, 95% between 9.45% and 90.55%",
        "B less A +0.00 points, 95% between -57.34 and +57.34",
    ):
        assert line in lines
    assert max(map(len, told.stdout.splitlines())) <= 100


async def test_a_program_gets_one_document(recstream: CommandLine, engine: AsyncEngine, database_url: str) -> None:
    first, second = await add_two_nights(engine, database_url)

    told = recstream("compare", str(first.run_id), str(second.run_id), "--json", "--days", "3")

    assert (told.status, told.stderr) == (0, "")
    document = told.document
    assert (document["first"]["side"], document["second"]["side"]) == (str(first.run_id), str(second.run_id))
    assert (document["likeness"]["customers"], document["likeness"]["overlap"]) == (2, 1)
    assert document["hits"]["until"] == (NOW + timedelta(days=3)).isoformat()
    assert document["second"]["cost"] == 0.003
    assert document["notes"] == []


async def test_what_cannot_be_compared_is_one_line(
    recstream: CommandLine, engine: AsyncEngine, database_url: str
) -> None:
    run = str((await add_two_nights(engine, database_url))[0].run_id)
    for names, words in (
        ((run, run), "both are the same run"),
        ((run, str(NOBODY)), f"there is no run {NOBODY}"),
        ((run, f"{run}:brief"), "one is a part of the other"),
        ((run, "last"), "'last' is no id of a run"),
    ):
        told = recstream("compare", *names)
        assert told.status == 2
        assert words in told.complaint
