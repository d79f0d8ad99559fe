"""`publish` and `rollback` as they are typed: what they print, how they end, and what readers see then."""

from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import RunState
from pipeline.gates import Gates
from pipeline.publishing import publish_night
from pipeline.run_states import end_run
from pipeline.runs import Run
from tests.fixtures.command_line import CommandLine
from tests.fixtures.readers import add_slates, runs_that_readers_see
from tests.fixtures.shop import change

NOBODY = UUID(int=0)


@pytest.fixture
def recstream(database_url: str, tmp_path: Path) -> CommandLine:
    """The command line on a database of its own."""
    return CommandLine(tmp_path, {"DATABASE_URL": database_url})


async def add_poor_night(engine: AsyncEngine, url: str) -> Run:
    """A night that its gates kept back."""
    run = await add_slates(engine, url, ended=False, a="complete", b="short")
    refusal = (await publish_night(engine, run.run_id, Gates())).refusal
    await end_run(engine, run.run_id, RunState.FAILED, refusal)
    return run


async def test_a_night_is_rolled_back_and_published_again(
    recstream: CommandLine, engine: AsyncEngine, database_url: str
) -> None:
    former, newer = [await add_slates(engine, database_url, a="complete", b="complete") for _ in range(2)]
    for run in (former, newer):
        await publish_night(engine, run.run_id, Gates())

    back = recstream("rollback")
    assert (back.status, back.stderr) == (0, "")
    assert back.stdout == (
        f"Run {newer.run_id} is rolled back. "
        f"Readers see run {former.run_id} now, which served 100.0% of its customers.\n"
    )
    assert set((await runs_that_readers_see(engine)).values()) == {former.run_id}

    again = recstream("rollback", str(newer.run_id))
    assert (again.status, again.stdout.startswith(f"Run {newer.run_id} was rolled back already. ")) == (0, True)
    status = recstream("status", str(newer.run_id))
    assert "none of it, since it was rolled back" in status.stdout

    forth = recstream("publish", str(newer.run_id))
    assert (forth.status, forth.stderr) == (0, "")
    assert forth.stdout == f"Run {newer.run_id} is published: readers see 2 slates of 2 customers, 3.0 rows each.\n"
    assert set((await runs_that_readers_see(engine)).values()) == {newer.run_id}
    once_more = recstream("publish", str(newer.run_id), "--json")
    assert (once_more.status, once_more.document["changed"]) == (0, False)


async def test_what_the_gates_refuse_is_said_and_published_by_force(
    recstream: CommandLine, engine: AsyncEngine, database_url: str
) -> None:
    run = await add_poor_night(engine, database_url)

    refused = recstream("publish", str(run.run_id))
    assert refused.status == 1
    assert refused.complaint.startswith(
        f"recstream: run {run.run_id} not published: served 50% of 2 customers, the gate wants 90%; readers keep what"
    )
    assert "none of it: it is not published" in recstream("status").stdout

    lenient = recstream("publish", str(run.run_id), "--json", RECSTREAM_GATE_SERVED_SHARE="0.5")
    assert (lenient.status, lenient.document["refusal"], lenient.document["changed"]) == (0, None, True)
    assert recstream("rollback", "--json").document["shown"] is None
    forced = recstream("publish", str(run.run_id), "--force")
    assert (forced.status, forced.stdout) == (
        0,
        f"Run {run.run_id} is published: readers see 1 slate of 2 customers, 3.0 rows each.\n",
    )
    assert "1 slate, published" in recstream("status").stdout


async def test_rolling_back_to_a_pruned_night_says_that_not_all_of_it_is_there(
    recstream: CommandLine, engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    former, newer = [await add_slates(engine, database_url, a="complete") for _ in range(2)]
    for run in (former, newer):
        await publish_night(engine, run.run_id, Gates())
    await change(admin, "UPDATE runs SET pruned_at = '2024-03-12' WHERE run_id = :run_id", run_id=former.run_id)

    told = recstream("rollback").stdout
    assert told.endswith("; of its rows, those that readers did not see were pruned on 2024-03-12.\n")
    assert "when the run was pruned on 2024-03-12" in recstream("status", str(former.run_id)).stdout


def test_a_run_that_is_not_there_is_refused(recstream: CommandLine) -> None:
    for command in ("publish", "rollback"):
        told = recstream(command, str(NOBODY))
        assert told.status == 2
        assert told.complaint == f"recstream: there is no run {NOBODY}: `recstream runs` shows the last ones"
    nothing = recstream("rollback")
    assert (nothing.status, nothing.complaint) == (
        2,
        "recstream: no night is published: there is nothing to roll back",
    )


async def test_resuming_a_whole_run_that_its_gates_kept_back_says_so_again(
    recstream: CommandLine, engine: AsyncEngine, database_url: str
) -> None:
    run = await add_slates(engine, database_url, ended=False, a="complete")
    refusal = (await publish_night(engine, run.run_id, Gates(rows_per_slate=4))).refusal
    await end_run(engine, run.run_id, RunState.FINISHED, refusal)

    told = recstream("resume", "--quiet")

    assert told.status == 1
    nothing_to_do, why = told.stderr.splitlines()
    assert nothing_to_do == "recstream: nothing to resume, every customer of this run has a complete slate"
    assert why == (
        f"recstream: run {run.run_id} finished: not published: 3 rows per slate, the gate wants 4; "
        f"readers keep what they had: `recstream publish {run.run_id} --force` publishes it all the same"
    )
