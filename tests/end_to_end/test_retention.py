"""`prune` and `erase` from a shell: what they print, and that nothing of an erased customer is left in any file."""

from pathlib import Path

import pytest

from pipeline.database import open_connection
from tests.fixtures.command_line import CommandLine
from tests.fixtures.misbehaving_ranker import MisbehavingRanker

HIM = "c-erased-4711"
CUSTOMERS = f"customer_id,active\n{HIM},true\nbob,true\n"
EVENTS = (
    f'{{"customer_id": "{HIM}", "kind": "search", "text": "tea", "occurred_at": "2024-01-02T20:00:00"}}\n'
    f'{{"customer_id": "{HIM}", "kind": "search", "text": "tea", "occurred_at": "yesterday"}}\n'
    '{"customer_id": "bob", "kind": "search", "text": "tea", "occurred_at": "yesterday"}\n'
)


@pytest.fixture
def recstream(
    tmp_path: Path, database_url: str, prefect_api_url: str, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """The command line on a database of its own, where the customer was loaded and served."""
    (tmp_path / "customers.csv").write_text(CUSTOMERS, encoding="utf-8")
    (tmp_path / "events.jsonl").write_text(EVENTS, encoding="utf-8")
    with open_connection(database_url) as connection:
        connection.execute("INSERT INTO products (product_id, name) SELECT n, 'Tea ' || n FROM generate_series(1, 3) n")
    command = CommandLine(
        tmp_path, {"DATABASE_URL": database_url, "PREFECT_API_URL": prefect_api_url, **ranker.settings}
    )
    assert command("load", "customers", "customers.csv").status == 0
    assert command("load", "events", "events.jsonl").status == 1
    assert command("recommend", HIM, "--json").status == 0
    return command


def test_an_erased_customer_is_found_nowhere_and_everything_that_went_is_told(
    recstream: CommandLine, database_url: str
) -> None:
    found = recstream("erase", HIM, "--dry-run", "--verify", "--json")
    assert found.status == 1
    assert found.document["verified"]["places"]["customers.customer_id"] == 1

    told = recstream("erase", HIM, "--verify")

    assert told.status == 0, told
    assert "  customers: 1 removed" in told.stdout
    assert "  events: 1 removed" in told.stdout
    assert f"  {recstream.folder}/events.jsonl.rejects.jsonl: 1 removed" in told.stdout
    assert "verified: no match in any of them" in told.stdout
    assert "the shop's files must be clean" in told.stderr
    shops_own = {recstream.folder / "customers.csv", recstream.folder / "events.jsonl"}
    for path in recstream.folder.rglob("*"):
        if path.is_file() and path not in shops_own:
            assert HIM.encode() not in path.read_bytes(), path
    with open_connection(database_url) as connection:
        assert connection.execute("SELECT customer_id FROM customers").fetchall() == [("bob",)]

    again = recstream("erase", HIM, "--verify", "--json")
    assert (again.status, again.document["erased"]["places"]) == (0, {})
    assert f"customer '{HIM}' is not in the customers table" in again.document["erased"]["remarks"][0]


def test_old_days_are_dropped_and_what_went_is_told(recstream: CommandLine, database_url: str) -> None:
    with open_connection(database_url, role=None) as connection:
        connection.execute("SELECT recstream_prepare_day('2024-03-12')")

    foreseen = recstream("prune", "--keep", "1", "--dry-run", "--json")
    told = recstream("prune", "--keep", "1")

    assert (foreseen.status, told.status) == (0, 0), told
    assert [day["day"] for day in foreseen.document["dropped"]] == ["2024-03-12"]
    assert told.stdout.startswith("2024-03-12 dropped: 4 tables, about 0 rows, ")
    assert "slates_20240312: dropping it" in told.stderr
    assert recstream("prune", "--keep", "0").complaint.startswith("recstream prune: Invalid value for '--keep'")
