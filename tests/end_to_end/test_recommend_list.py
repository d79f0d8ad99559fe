"""`recstream recommend A B C`: several customers in one run, and who is not known is named."""

from pathlib import Path

import pytest

from pipeline.database import open_connection
from tests.fixtures.command_line import CommandLine
from tests.fixtures.misbehaving_ranker import MisbehavingRanker


@pytest.fixture
def recstream(tmp_path: Path, database_url: str, ranker: MisbehavingRanker) -> CommandLine:
    """The command line on a shop with two customers."""
    with open_connection(database_url) as connection:
        connection.execute("INSERT INTO products SELECT n, 'Product ' || n FROM generate_series(1, 3) AS n")
        connection.execute("INSERT INTO customers (customer_id) VALUES ('ann'), ('bob')")
    return CommandLine(tmp_path, {"DATABASE_URL": database_url, **ranker.settings, "RECSTREAM_SLATE_SIZE": "3"})


def test_several_are_served_in_one_run_with_a_line_each(recstream: CommandLine, database_url: str) -> None:
    told = recstream("recommend", "bob", "ann")

    assert (told.status, told.stdout.splitlines()) == (
        0,
        ["customer bob: 3 rows, complete", "customer ann: 3 rows, complete"],
    )
    with open_connection(database_url) as connection:
        assert connection.execute("SELECT kind, state FROM runs").fetchall() == [("on_demand", "finished")]
        assert connection.execute("SELECT count(*) FROM published").fetchone() == (2,)


def test_who_is_not_known_is_named_beside_the_slates_of_the_others(recstream: CommandLine) -> None:
    told = recstream("recommend", "ann", "nobody", "--json")

    assert told.status == 1
    assert told.stderr == "recstream: not in the customers table, or not active: 'nobody'\n"
    assert told.document["unknown"] == ["nobody"]
    assert [len(slate["recommendations"]) for slate in told.document["slates"]] == [3]
