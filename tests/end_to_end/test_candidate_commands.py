"""`recstream candidates build`, `list` and `use`, as they are typed."""

import json
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.building import build_candidates
from pipeline.candidates.recipe import CandidateRecipe
from tests.fixtures.command_line import CommandLine
from tests.fixtures.shop import add_event, add_product, change


@pytest.fixture
async def recstream(tmp_path: Path, database_url: str, engine: AsyncEngine) -> CommandLine:
    """The command line in a shop with three customers, who all purchased the same two products."""
    for product_id in ("a", "b", "c"):
        await add_product(engine, product_id)
    for customer_id in ("x", "y", "z"):
        await add_event(engine, customer_id, "purchase", product_id="a")
        await add_event(engine, customer_id, "purchase", product_id="b")
    return CommandLine(tmp_path, {"DATABASE_URL": database_url})


def test_a_build_says_what_it_does_and_what_is_in_service(recstream: CommandLine) -> None:
    told = recstream("candidates", "build")
    assert told.status == 0
    assert told.stdout == "build 1 is in service: 3 customers, 3 products, 2 pairs, up to 2024-03-09 20:30 UTC\n"
    assert "neighbours: part 1 of 1, 2 products have some" in told.stderr
    assert recstream("candidates", "build", "--quiet").stderr == ""


def test_builds_are_listed_and_a_former_one_is_taken_back(recstream: CommandLine) -> None:
    assert "no candidates have been built yet" in recstream("candidates", "list").stdout
    recstream("candidates", "build")
    recstream("candidates", "build", "--as-of", "2024-01-01")

    listed = json.loads(recstream("candidates", "list", "--json").stdout)
    assert listed["in_service"] == 2
    assert [(build["build_id"], build["customers"]) for build in listed["builds"]] == [(2, 0), (1, 3)]
    assert recstream("candidates", "use", "1").stdout.startswith("build 1 is in service: 3 customers")
    table = recstream("candidates", "list", COLUMNS="80").stdout
    assert "│ 1 │ in service │ 2024-03-09 20:30 │ 3 │ 3 │ 2 │" in " ".join(table.split())


async def test_the_list_says_why_one_failed_and_leaves_trials_out(
    recstream: CommandLine, database_url: str, engine: AsyncEngine
) -> None:
    trial = build_candidates(database_url, CandidateRecipe(), trial=True)
    recstream("candidates", "build")
    await change(engine, "UPDATE candidate_builds SET state = 'failed', reason = 'no room' WHERE NOT trial")

    told = recstream("candidates", "list").stdout
    assert "build 2: no room" in told
    assert "trial" not in told
    assert f"build {trial.build_id}: made on trial" in recstream("candidates", "list", "--trials").stdout


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("use", "9"), "there is no build 9: `recstream candidates list` shows them"),
        (
            ("build", "--as-of", "2099-01-01T00:00Z"),
            "candidates cannot be built as of 2099-01-01 00:00 UTC: that is in the future",
        ),
        (
            ("build", "--as-of", "soon"),
            "--as-of 'soon' is no date or moment like 2026-03-01 or 2026-03-01T06:00:00+01:00",
        ),
    ],
)
def test_wrong_use_is_one_line(recstream: CommandLine, typed: tuple[str, ...], said: str) -> None:
    told = recstream("candidates", *typed)
    assert (told.status, told.stdout, told.stderr) == (2, "", f"recstream: {said}\n")
