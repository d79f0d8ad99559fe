"""The demo in one folder: from nothing, interrupted at every stage, killed and resumed, and once more."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pipeline.database import open_connection
from pipeline.embedded_postgres import discard_embedded_postgres, embedded_postgres
from pipeline.embedded_postgres.waiting import attempts
from tests.fixtures.command_line import PATIENCE_S, CommandLine, all_processes_can_be_seen

FAST = ("demo", "--tokens-per-second", "0")
CUSTOMERS = 201
SLATE_SIZE = 10
PREFECT_STARTS = "Prefect: "
MIDDLE_OF_THE_RUN = "first recommendation committed after"
ROWS_OF_THE_NEWEST_RUN = """
    SELECT customer_id, rank, committed_at FROM recommendations
    WHERE run_id = (SELECT run_id FROM runs ORDER BY created_at DESC LIMIT 1)
"""

pytestmark = [
    pytest.mark.skipif(not all_processes_can_be_seen(), reason="looks for what is left behind in /proc"),
    pytest.mark.timeout(300),  # two whole nights in one test, on a machine that may be busy
]


@pytest.fixture(scope="module")
def recstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """One folder for the file: every test takes up what the one before has left there."""
    folder = tmp_path_factory.mktemp("demo")
    yield CommandLine(folder)
    discard_embedded_postgres(folder / ".recstream")


def query(recstream: CommandLine, statement: str, *values: object) -> list[psycopg.rows.TupleRow]:
    """What the folder's database answers, which proves that it opens."""
    with embedded_postgres(recstream.folder / ".recstream") as server, open_connection(server.url()) as connection:
        return connection.execute(statement.encode(), values).fetchall()


def test_in_an_empty_folder_it_makes_a_shop_and_a_slate_for_everyone(recstream: CommandLine) -> None:
    told = recstream(*FAST)
    assert told.status == 0, told.stderr
    assert "201 customers, 2,010 products" in told.stderr
    assert "(made now)" in told.stderr
    assert "a temporary one starts" in told.stderr or "using the server at" in told.stderr
    assert "the offline ranker answers" in told.stderr
    lines = told.stderr.splitlines()
    begin = lines.index("Customer 12345, each row as it is committed:")
    assert [line.split()[0] for line in lines if re.match(" {3,4}[0-9]+  ", line)] == [str(n) for n in range(1, 11)]
    assert lines[begin + 1].startswith("    1  ")
    assert MIDDLE_OF_THE_RUN in told.stderr
    assert "" not in lines
    assert "201 of 201 complete" in told.stdout
    assert "no language model" in told.stdout
    assert "Apple MacBook Air (2023)" in told.stdout
    assert told.stdout.split("Next, try:")[1].split() == [
        *("recstream", "recommend", "12345"),
        *("recstream", "show", "12345", "--json"),
        *("recstream", "status"),
    ]
    assert recstream.processes() == []


def test_ctrl_c_while_the_database_starts_leaves_nothing_running(recstream: CommandLine) -> None:
    with recstream.started(*FAST) as demo:
        for _ in attempts(PATIENCE_S):
            if any("postgres -D" in line for line in recstream.processes()):
                break
        demo.interrupt()
        told = demo.end()
    assert (told.status, told.stdout) == (130, ""), told.stderr
    assert told.stderr.splitlines()[-1].startswith("recstream: interrupted")
    assert "Traceback" not in told.stderr
    assert recstream.processes() == []


@pytest.mark.parametrize("moment", [PREFECT_STARTS, MIDDLE_OF_THE_RUN])
def test_ctrl_c_leaves_nothing_running_and_no_run_that_pretends_to(recstream: CommandLine, moment: str) -> None:
    with recstream.started("demo") as demo:
        demo.wait_for(moment)
        demo.interrupt()
        told = demo.end()
    assert (told.status, told.stdout) == (130, ""), told.stderr
    assert told.stderr.splitlines()[-1].startswith("recstream: interrupted")
    assert "Traceback" not in told.stderr
    assert recstream.processes() == []
    ended = query(recstream, "SELECT state, split_part(reason, ';', 1) FROM runs WHERE state <> 'finished'")
    assert ended == ([] if moment == PREFECT_STARTS else [("cancelled", "interrupted")])


def test_after_kill_9_resume_asks_only_for_the_rows_that_are_missing(recstream: CommandLine) -> None:
    with recstream.started("demo") as demo:
        demo.wait_for(MIDDLE_OF_THE_RUN)
        demo.process.kill()
        assert demo.end().status == -signal.SIGKILL
    assert recstream.processes_after_a_kill() == []
    before = set(query(recstream, ROWS_OF_THE_NEWEST_RUN))
    full = {customer for (customer, rank, _) in before if rank == SLATE_SIZE}
    ((killed_at,),) = query(recstream, "SELECT now()")
    assert full

    resumed = recstream("resume", "--json", RECSTREAM_OFFLINE_TOKENS_PER_SECOND="0")

    assert resumed.status == 0, resumed.stderr
    assert (resumed.document["complete"], resumed.document["rows"]) == (CUSTOMERS, CUSTOMERS * SLATE_SIZE)
    assert before < set(query(recstream, ROWS_OF_THE_NEWEST_RUN))
    asked = [
        customer
        for (customer,) in query(recstream, "SELECT customer_id FROM llm_calls WHERE started_at > %s", killed_at)
    ]
    assert len(asked) == len(set(asked)) == CUSTOMERS - len(full)
    assert full.isdisjoint(asked)


def test_another_demo_reuses_the_shop_and_makes_a_new_run(recstream: CommandLine) -> None:
    before = query(recstream, "SELECT count(*) FROM runs")
    told = recstream(*FAST, "--json")
    assert told.status == 0, told.stderr
    assert "(there already)" in told.stderr
    assert told.document["summary"]["complete"] == CUSTOMERS
    assert [row["rank"] for row in told.document["slate"]["recommendations"]] == list(range(1, SLATE_SIZE + 1))
    assert query(recstream, "SELECT count(*) FROM runs")[0][0] == before[0][0] + 1
    assert recstream.processes() == []


def test_the_folder_holds_only_what_is_recstream_s(recstream: CommandLine) -> None:
    assert [path.name for path in Path(recstream.folder).iterdir()] == [".recstream"]
