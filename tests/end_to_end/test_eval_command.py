"""`eval` and `candidates tune` as they are typed, on a small shop in which neighbours foretell what is purchased."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_connection
from tests.fixtures.command_line import CommandLine
from tests.fixtures.shop import change, scalar

LAST = datetime(2024, 6, 30, 23, 0, tzinfo=UTC)
# Forty customers of four tastes, twenty products each: who began with a product of a taste goes on with its next ones.
SHOP = """
INSERT INTO customers (customer_id) SELECT 'c' || n FROM generate_series(0, 39) AS n;
INSERT INTO products (product_id, name) SELECT 'p' || n, 'Product ' || n FROM generate_series(0, 79) AS n;
"""
PURCHASES = """
INSERT INTO events (event_key, customer_id, product_id, kind, occurred_at)
SELECT gen_random_uuid(), 'c' || c, 'p' || ((c % 4) * 20 + (c / 4 + step) % 20), 'purchase',
       CAST(:last AS timestamptz) - make_interval(days => 10 * (11 - step), hours => c)
FROM generate_series(0, 39) AS c, generate_series(0, 11) AS step
"""
NOTHING_LEFT = "SELECT count(*) FROM candidate_builds WHERE state IN ('ready', 'building')"


@pytest.fixture
async def recstream(engine: AsyncEngine, database_url: str, tmp_path: Path) -> CommandLine:
    """The command line on a shop of its own."""
    for statement in SHOP.strip().splitlines():
        await change(engine, statement)
    await change(engine, PURCHASES, last=LAST)
    return CommandLine(tmp_path, {"DATABASE_URL": database_url})


async def test_people_read_what_the_candidates_foretold_beside_popularity(
    recstream: CommandLine, engine: AsyncEngine
) -> None:
    told = recstream("eval", "--days", "20", "--segments")

    assert told.status == 0, told.stderr
    lines = [" ".join(line.replace("│", " ").split()) for line in told.stdout.splitlines()]
    assert any(line.startswith("Purchases of 20 days from 2024-06-11 00:00 UTC, by 40 of the 40") for line in lines)
    assert any(line.startswith("found@100, all ") for line in lines)
    assert any(line.startswith("NDCG@10, new (heavy) ") for line in lines)
    assert max(len(line) for line in told.stdout.splitlines() if line.startswith("│")) <= 100
    assert max(map(len, told.stdout.splitlines())) <= 100, "prose is as wide as the tables"
    assert "Note: out of stock, hidden and banned" in told.stdout
    assert any(line.startswith("our candidates, in order: found@100 of all purchases") for line in lines)
    assert "recall" not in told.stdout
    assert "looking up 100 candidates" in told.stderr
    assert await scalar(engine, NOTHING_LEFT) == 0


async def test_a_program_gets_figures_by_name_and_the_same_ones_again(recstream: CommandLine) -> None:
    told = recstream("eval", "--days", "20", "--json", "--quiet", "--as-of", "2024-06-01")

    assert (told.status, told.stderr) == (0, "")
    document = told.document
    assert document["begins"] == "2024-06-01T00:00:00+00:00"
    assert [listed["list"] for listed in document["lists"]] == ["candidates", "candidates_new_only", "popularity"]
    (found,) = [
        figure
        for figure in document["figures"]
        if (figure["list"], figure["scope"], figure["segment"], figure["measure"], figure["places"])
        == ("candidates_new_only", "new", "all", "ndcg", 10)
    ]
    assert found["less"]["popularity"]["low"] > 0
    assert found["value"]["low"] <= found["value"]["mean"] <= found["value"]["high"]
    again = recstream("eval", "--days", "20", "--json", "--quiet", "--as-of", "2024-06-01")
    assert json.loads(again.stdout)["figures"] == document["figures"]


async def test_a_split_that_leaks_is_one_line_and_builds_nothing(recstream: CommandLine, engine: AsyncEngine) -> None:
    told = recstream("eval", "--as-of", "2024-06-20", "--days", "20")
    assert told.status == 2
    assert told.complaint.startswith("recstream: 20 days from 2024-06-20 00:00 UTC end after the last purchase")
    assert await scalar(engine, "SELECT count(*) FROM candidate_builds") == 0


async def test_what_is_no_date_or_no_run_is_one_line(recstream: CommandLine) -> None:
    assert "'yesterday' is no date" in recstream("eval", "--as-of", "yesterday").complaint
    assert "'last' is no id of a run" in recstream("eval", "--run", "last").complaint
    assert "leave it out, or --run" in recstream("eval", "--candidates-only", "--run", "a").complaint
    assert "give either" in recstream("eval", "--run", "a", "--runs", "b", "c").complaint


async def test_tuning_writes_a_recipe_that_surely_finds_more(
    recstream: CommandLine, engine: AsyncEngine, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("repeat_share = 1.0\nnewcomer_share = 0.0\n")  # in a shop where nobody purchases anything again
    settings = {"RECSTREAM_CANDIDATE_RECIPE": str(recipe), "RECSTREAM_CANDIDATE_COUNT": "4"}
    budget = ("--days", "20", "--trials", "4")

    told = recstream("candidates", "tune", *budget, "--output", recipe, "--json", "--quiet", **settings)

    assert told.status == 0, told.stderr
    tuned = told.document
    assert (tuned["trials"], tuned["is_better"]) == (4, True)
    assert tuned["chosen_on"]["until"] <= tuned["confirmed_on"]["begins"]
    assert tuned["confirmed_on"]["until"] == "2024-06-11T00:00:00+00:00"
    assert tuned["gain"]["low"] > 0
    written = recipe.read_text()
    for gain, whose in (
        ("gain", "Of all purchases it finds"),
        ("gain_new", "of those of products new to the customer"),
    ):
        assert f"# {whose} {100 * tuned[gain]['mean']:+.2f} points (95% between" in written
    assert tomllib.loads(written)["repeat_share"] == tuned["found"]["repeat_share"] < 1
    assert await scalar(engine, NOTHING_LEFT) == 0


async def test_a_recipe_that_nothing_improves_on_stays_and_no_file_is_written(
    recstream: CommandLine, tmp_path: Path
) -> None:
    # There are more places than products: every recipe finds all there is.
    told = recstream("candidates", "tune", "--days", "20", "--trials", "3")
    assert told.stdout == "none of 3 recipes was better: the one in force stays\n"
    assert not (tmp_path / "candidates.toml").exists()


async def test_ctrl_c_leaves_no_build_and_no_file(recstream: CommandLine, engine: AsyncEngine, tmp_path: Path) -> None:
    with recstream.started("candidates", "tune", "--days", "20", "--trials", "1000") as tuning:
        tuning.wait_for("trial 3")
        tuning.interrupt()
        assert tuning.end().status == 130
    assert await scalar(engine, NOTHING_LEFT) == 0
    assert not (tmp_path / "candidates.toml").exists()


async def test_a_file_that_is_not_the_recipe_in_force_is_not_overwritten(
    recstream: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "candidates.toml").write_text("neighbours = 40\n")
    assert "is there already, and is not the recipe in force" in recstream("candidates", "tune").complaint
    assert (tmp_path / "candidates.toml").read_text() == "neighbours = 40\n"


async def test_a_history_too_short_for_three_windows_is_one_line(recstream: CommandLine) -> None:
    told = recstream("candidates", "tune", "--days", "45")
    assert told.status == 2
    assert told.complaint.startswith("recstream: three windows of 45 days need purchases before them")


async def test_a_place_that_takes_no_file_is_refused_before_the_work(
    recstream: CommandLine, engine: AsyncEngine
) -> None:
    told = recstream("candidates", "tune", "--days", "20", "--output", "/proc/candidates.toml")
    assert told.status == 2
    assert told.complaint.startswith("recstream: nothing can be written in /proc (")
    assert await scalar(engine, "SELECT count(*) FROM candidate_builds") == 0


async def test_tuning_waits_for_a_build_of_another_and_goes_on(recstream: CommandLine, database_url: str) -> None:
    with open_connection(database_url, autocommit=True) as builder:
        builder.execute("SELECT pg_advisory_lock(hashtext('recstream: one build of candidates at a time'))")
        with recstream.started("candidates", "tune", "--days", "20", "--trials", "2") as tuning:
            tuning.wait_for("waiting until that is done")
            builder.execute("SELECT pg_advisory_unlock_all()")
            assert tuning.end().status == 0
