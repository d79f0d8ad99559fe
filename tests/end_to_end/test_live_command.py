"""`respond` and `eval --live` as they are typed: what became of a published night, for people and for programs."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.runs import Run
from tests.fixtures.command_line import CommandLine
from tests.fixtures.readers import PURCHASABLE, add_slates
from tests.fixtures.shop import add_event, change, read, scalar

NOBODY = UUID(int=0)


@pytest.fixture
def recstream(database_url: str, tmp_path: Path) -> CommandLine:
    """The command line on a database of its own."""
    return CommandLine(tmp_path, {"DATABASE_URL": database_url})


def test_an_empty_shop_is_told_one_line(recstream: CommandLine) -> None:
    told = recstream("eval", "--live")

    assert (told.status, told.stderr) == (0, "")
    assert " ".join(told.stdout.split()).startswith("no night was published in the last 14 days: nothing can be said")


async def published(engine: AsyncEngine, admin: AsyncEngine, night: Run) -> None:
    """Readers see it since an hour ago."""
    await change(
        engine,
        "INSERT INTO published_runs (run_id, day, precedence, published_at, served_share, rows_per_slate,"
        " refused_share) SELECT run_id, day, created_at, now() - interval '1 hour', 1, 10, 0 FROM runs"
        " WHERE run_id = :run_id",
        run_id=night.run_id,
    )
    await change(admin, "UPDATE runs SET as_of = now() - interval '2 hours'")


async def test_of_a_night_of_which_nobody_bought_anything_that_is_said(
    recstream: CommandLine, engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    await published(engine, admin, await add_slates(engine, database_url, a="complete", b="complete"))

    told = " ".join(recstream("eval", "--live").stdout.split())

    assert "UTC: 2 customers had a slate. None of them has bought anything while he saw it. Note: " in told
    assert "there are no hits to judge yet" in told
    assert "Popular:" not in told


async def test_what_became_of_a_night_is_recorded_and_judged(
    recstream: CommandLine, engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    night = await add_slates(engine, database_url, a="complete", b="complete")
    await published(engine, admin, night)
    bought = PURCHASABLE[0]
    await add_event(engine, "a", "purchase", product_id=bought, at=night.as_of)
    await change(engine, "UPDATE events SET occurred_at = now() - interval '1 minute'")

    responded = [
        recstream("respond", "a", bought, response, "--run", str(night.run_id), "--rank", "1")
        for response in ("shown", "clicked")
    ]
    told = recstream("eval", "--live")
    document = json.loads(recstream("eval", "--live", "--run", str(night.run_id), "--json").stdout)

    assert [(it.status, it.stdout, it.stderr) for it in responded] == [
        (0, "shown, recorded\n", ""),
        (0, "clicked, recorded\n", ""),
    ]
    assert (told.status, told.stderr) == (0, "")
    lines = [" ".join(line.replace("│", " ").split()) for line in told.stdout.splitlines()]
    assert any(line.startswith("customers@5 50.00% 0.00% +50.00 (") for line in lines)
    assert any(line.startswith("1 1 1 0 0 100.00%") for line in lines)
    assert "Note: nobody was left out at random" in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 100
    assert document["nights"][0]["run_id"] == str(night.run_id)
    assert (document["customers"], document["buyers"], document["bought"]) == (2, 1, 1)
    assert document["hits"][0]["customers"]["ours"]["mean"] == 0.5
    assert document["responses"][0]["clicked"] == 1


async def test_a_response_that_does_not_fit_the_run_is_kept_and_said(
    recstream: CommandLine, engine: AsyncEngine, database_url: str
) -> None:
    night = await add_slates(engine, database_url, a="complete")
    run = str(night.run_id)
    stood = str(await scalar(engine, "SELECT product_id FROM recommendations WHERE rank = 1 AND customer_id = 'a'"))
    await change(engine, "INSERT INTO products (product_id, name) VALUES ('elsewhere', 'Elsewhere')")

    told = recstream("respond", "a", stood, "clicked", "--run", run, "--rank", "3")
    of_no_slate = recstream("respond", "a", "elsewhere", "clicked", "--run", run)
    right = recstream("respond", "a", stood, "clicked", "--run", run, "--rank", "1")
    early = recstream("respond", "a", stood, "clicked", "--run", run, "--at", "2020-01-31")

    assert (told.status, told.stdout) == (0, "clicked, recorded\n")
    assert told.stderr == f"recstream: run {run} recommended it at rank 1, not 3: it is kept and counted as you say\n"
    assert of_no_slate.stdout == "clicked, recorded\n"
    assert of_no_slate.stderr == (
        f"recstream: run {run} has no row that recommends this product to this customer: it is kept, and not counted\n"
    )
    assert (right.stdout, right.stderr) == ("clicked, recorded\n", "")
    assert early.stderr == f"recstream: run {run} was not there yet at that moment: it is kept, and not counted\n"


async def test_a_moment_may_be_a_date_and_is_the_shops_own(recstream: CommandLine, engine: AsyncEngine) -> None:
    zone = {"RECSTREAM_TIME_ZONE": "America/New_York"}
    for at in ("2026-01-20", "2026-01-20T06:30", "2026-01-20T06:30:00+01:00"):
        assert recstream("respond", "a", "p", "clicked", "--at", at, **zone).stdout == "clicked, recorded\n"
    moments = await read(engine, "SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'DD HH24:MI') FROM events ORDER BY 1")
    assert [moment for (moment,) in moments] == ["20 05:00", "20 05:30", "20 11:30"]


async def test_a_response_to_what_nobody_knows_is_kept_and_said(recstream: CommandLine, engine: AsyncEngine) -> None:
    told = recstream("respond", "nobody", "nothing", "refused", "--run", str(NOBODY), "--at", "2026-01-31T18:30:00")
    again = recstream("respond", "nobody", "nothing", "refused", "--run", str(NOBODY), "--at", "2026-01-31T18:30:00")

    assert (told.status, told.stdout) == (0, "refused, recorded\n")
    assert [line.split(":")[1] for line in told.stderr.splitlines()] == [
        f" no {what} of this id is here" for what in ("customer", "product", "run")
    ]
    assert (again.status, again.stdout) == (0, "refused: it was recorded already\n")
    assert await scalar(engine, "SELECT count(*) FROM events") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("eval", "--live", "--candidates-only"), "--live goes with --days, --run and --seed alone"),
        (("eval", "--live", "--run", "17"), "'17' is not the id of a run"),
        (("eval", "--live", "--run", str(NOBODY)), f"readers never saw run {NOBODY}"),
        (("respond", "a", "p", "loved"), "loved"),
        (("respond", "a", "p", "clicked", "--rank", "10001"), "10001 is not a rank"),
        (("respond", "a", "p", "clicked", "--at", "2130-01-01"), "2130-01-01 00:00:00 UTC is in the future"),
        (("respond", "a", "p", "clicked", "--at", "soon"), "--at 'soon' is no date or moment like 2026-03-01 or"),
        (
            ("eval", "--runs", "abc"),
            "recstream eval: Option '--runs' requires 2 arguments: see `recstream eval --help`",
        ),
        (("candidates", "use"), "recstream candidates use: Missing argument 'build': see `recstream candidates use"),
        (("candidates", "tune", "--days"), "recstream candidates tune: Option '--days' requires an argument: see"),
        (("--database-url",), "recstream: No such option: --database-url: see `recstream --help`"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(recstream: CommandLine, flags: tuple[str, ...], said: str) -> None:
    told = recstream(*flags)

    assert told.status != 0
    assert said in told.stderr
    assert len(told.stderr.splitlines()) == 1
