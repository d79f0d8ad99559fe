"""What the command line tells of runs that are over, and how it goes on with them."""

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import CustomerId, RunKind, RunState
from pipeline.offline_ranker.faults import Fault
from pipeline.run_states import begin_run, end_dead_runs, end_run
from pipeline.slates import SlateLedger
from tests.fixtures.command_line import CommandLine
from tests.fixtures.misbehaving_ranker import MisbehavingRanker
from tests.fixtures.shop import add_customer, add_product, add_run, change, end_slates, read


@pytest.fixture
def recstream(tmp_path: Path, database_url: str) -> CommandLine:
    """The command line on a database of its own."""
    return CommandLine(tmp_path, {"DATABASE_URL": database_url})


async def test_the_last_runs_fit_on_a_screen_and_their_ids_can_be_copied(
    recstream: CommandLine, engine: AsyncEngine
) -> None:
    night = await add_run(engine, "a", "b")
    one = await add_run(engine, "a", kind=RunKind.ON_DEMAND)
    await begin_run(engine, night.run_id)
    await end_run(engine, night.run_id, RunState.FAILED, "the endpoint was gone")

    told, newest = recstream("runs"), recstream("runs", "--limit", "1", "--json")

    assert (told.status, told.stderr) == (0, "")
    heading, first, second, why = told.stdout.splitlines()
    assert heading.split() == ["run", "planned", "kind", "state", "customers", "cost"]
    assert re.fullmatch(rf"{one.run_id}  \d{{4}}-\d\d-\d\d \d\d:\d\d UTC  on demand  planned +1", first)
    assert re.fullmatch(rf"{night.run_id}  \d{{4}}-\d\d-\d\d \d\d:\d\d UTC  nightly    failed +2", second)
    assert why == "    the endpoint was gone"
    assert [(line["run_id"], line["state"], line["customers"]) for line in newest.document] == [
        (str(one.run_id), "planned", 1)
    ]


async def test_the_last_runs_are_told_by_the_clock_of_the_shop(
    database_url: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    run = await add_run(engine, "a")
    in_berlin = CommandLine(tmp_path, {"DATABASE_URL": database_url, "RECSTREAM_TIME_ZONE": "Europe/Berlin"})
    assert run.created_at is not None
    assert f"{run.created_at.astimezone(ZoneInfo('Europe/Berlin')):%Y-%m-%d %H:%M %Z}" in in_berlin("runs").stdout


def test_without_a_run_there_is_nothing_to_list(recstream: CommandLine) -> None:
    told = recstream("runs")
    assert (told.status, told.complaint) == (0, "recstream: there is no run yet: start one with `recstream run`")


async def test_attempts_whose_process_died_are_told(recstream: CommandLine, engine: AsyncEngine) -> None:
    run = await add_run(engine, "a")
    await begin_run(engine, run.run_id)
    ledger = SlateLedger(engine, run.run_id, run.day)
    await ledger.begin_attempt(await ledger.open(CustomerId("a"), None, 3), "hash")
    await end_dead_runs(engine)

    assert "died" in recstream("status").stdout
    assert recstream("status", "--json").document["died"] == 1


async def test_a_run_without_failed_slates_has_nothing_to_retry(recstream: CommandLine, engine: AsyncEngine) -> None:
    run = await add_run(engine, "a", "b")
    await end_slates(engine, run, {"a": "short"})

    told = recstream("retry-failed", "--json")

    assert told.status == 0
    assert told.stderr == f"recstream: nothing to retry, no slate of run {run.run_id} has failed\n"
    assert (told.document["short"], told.document["failed"]) == (1, 0)


@pytest.mark.parametrize("command", ["resume", "retry-failed"])
async def test_a_pruned_run_is_not_gone_on_with(
    recstream: CommandLine, engine: AsyncEngine, admin: AsyncEngine, command: str
) -> None:
    run = await add_run(engine, "a")
    await change(admin, "UPDATE runs SET pruned_at = '2024-03-12 12:00Z'")

    told = recstream(command, str(run.run_id))

    assert told.status == 2
    assert told.complaint == (
        f"recstream: the rows of run {run.run_id} were pruned on 2024-03-12: start another with `recstream run`"
    )


async def test_who_got_nothing_is_tried_again_and_who_got_something_is_not(
    recstream: CommandLine, engine: AsyncEngine, ranker: MisbehavingRanker, prefect_api_url: str
) -> None:
    for number in range(1, 4):
        await add_product(engine, str(number))
    for customer in ("a", "b"):
        await add_customer(engine, customer)
    settings = {**ranker.settings, "PREFECT_API_URL": prefect_api_url, "RECSTREAM_ATTEMPTS": "1"}
    ranker.misbehave(Fault.REFUSED_500)
    assert recstream("run", "--quiet", **settings).status == 1
    await change(engine, "UPDATE slates SET state = 'streaming' WHERE customer_id = 'a'")
    await change(engine, "UPDATE slates SET state = 'short' WHERE customer_id = 'a'")
    ranker.behave()

    told = recstream("retry-failed", "--quiet", "--json", **settings)

    assert told.status == 1, "one customer has no complete slate"
    assert (told.document["complete"], told.document["short"], told.document["failed"]) == (1, 1, 0)
    assert await read(engine, "SELECT customer_id, attempts FROM slates ORDER BY 1") == [("a", 1), ("b", 2)]
