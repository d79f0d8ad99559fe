"""Bad input: one clear line on stderr, the right exit status, and nothing half-done."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from flows.cli.app import run_command
from pipeline.database import open_connection
from pipeline.night_lock import hold_the_night
from pipeline.offline_ranker.faults import Fault
from pipeline.offline_ranker.process import offline_ranker
from tests.fixtures.command_line import CommandLine, Told
from tests.fixtures.misbehaving_ranker import MisbehavingRanker

NOBODY = "127.0.0.1:9"
ROOT_WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


@pytest.fixture
def recstream(database_url: str, prefect_api_url: str, ranker: MisbehavingRanker, tmp_path: Path) -> CommandLine:
    """The command line on a database of its own without rows, with every server that it needs in reach."""
    settings = {"DATABASE_URL": database_url, "PREFECT_API_URL": prefect_api_url, **ranker.settings}
    return CommandLine(tmp_path, settings)


Typed = Callable[..., Told]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """Run a command in this process: for what is refused before anything is opened."""

    def type_it(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["recstream", *arguments])
        return Told(run_command(), *capfd.readouterr())

    return type_it


@pytest.fixture
def _shop(database_url: str) -> None:
    with open_connection(database_url) as connection:
        connection.execute("INSERT INTO products SELECT n, 'Product ' || n FROM generate_series(1, 12) AS n")
        connection.execute("INSERT INTO customers (customer_id) VALUES ('a'), ('b'), ('c')")


shop = pytest.mark.usefixtures("_shop")


def rows(url: str, statement: str) -> Sequence[psycopg.rows.TupleRow]:
    with open_connection(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def runs(url: str) -> int:
    return len(rows(url, "SELECT FROM runs"))


@shop
def test_an_unknown_customer(recstream: CommandLine, database_url: str) -> None:
    told = recstream("recommend", "nobody")
    assert told.status == 2
    assert told.complaint == "recstream: customer 'nobody' is not in the customers table: check the id, or load him"
    assert runs(database_url) == 0
    shown = recstream("show", "nobody", "--json")
    assert (shown.status, shown.complaint) == (
        2,
        "recstream: customer 'nobody' is not in the customers table: check the id",
    )


def test_an_empty_catalog(recstream: CommandLine, database_url: str) -> None:
    told = recstream("run", "--quiet")
    assert told.status == 2
    assert told.complaint == (
        "recstream: the catalog has no product that is available and not hidden: "
        "load some with `recstream load products FILE`"
    )
    assert runs(database_url) == 0


@shop
def test_a_base_url_where_nobody_listens(recstream: CommandLine, database_url: str) -> None:
    told = recstream("recommend", "a", "--base-url", f"http://{NOBODY}/v1")
    assert told.status == 2
    assert told.complaint.startswith(f"recstream: no answer from http://{NOBODY}/v1: ")
    assert told.complaint.endswith("check OPENAI_BASE_URL, and that it runs")
    assert runs(database_url) == 0


@shop
def test_a_wrong_key(recstream: CommandLine, database_url: str) -> None:
    with offline_ranker(tokens_per_second=0, api_key="right") as ranker:
        told = recstream("recommend", "a", OPENAI_BASE_URL=ranker.base_url, OPENAI_API_KEY="wrong-key-of-mine")
    assert told.status == 2
    assert "API key" in told.complaint
    assert "wrong-key-of-mine" not in told.complaint
    assert runs(database_url) == 0


@shop
def test_a_model_that_does_not_exist(recstream: CommandLine, database_url: str) -> None:
    told = recstream("recommend", "a", "--model", "no-such-model")
    assert told.status == 2
    assert "no-such-model" in told.complaint
    assert rows(database_url, "SELECT state FROM runs") == [("failed",)]
    assert rows(database_url, "SELECT run_id FROM recommendations UNION ALL SELECT run_id FROM published") == []


def test_a_key_without_a_model(recstream: CommandLine, database_url: str) -> None:
    told = recstream("recommend", "a", RECSTREAM_MODEL="", OPENAI_API_KEY="key")
    assert told.status == 2
    assert told.complaint.startswith("recstream: no model is named: set RECSTREAM_MODEL")
    assert runs(database_url) == 0


@pytest.mark.parametrize("command", [["init"], ["recommend", "a"], ["run", "--quiet"]], ids=lambda command: command[0])
def test_a_database_that_is_down(recstream: CommandLine, command: list[str]) -> None:
    told = recstream(*command, DATABASE_URL=f"postgresql://me:secret@{NOBODY}/shop")
    assert told.status == 2
    assert f"the database at postgresql://me@{NOBODY}/shop cannot be reached" in told.complaint.replace(":***", "")
    assert "secret" not in told.complaint


def test_a_database_without_tables(recstream: CommandLine, empty_database_url: str) -> None:
    told = recstream("run", "--quiet", DATABASE_URL=empty_database_url)
    assert told.status == 2
    assert told.complaint.startswith("recstream: the database at postgresql://")
    assert told.complaint.endswith(" has no recstream tables: run `recstream init`")


def test_a_prefect_server_that_is_down(recstream: CommandLine) -> None:
    told = recstream("run", "--quiet", PREFECT_API_URL=f"http://{NOBODY}/api")
    assert told.status == 2
    assert told.complaint.startswith(
        f"recstream: no Prefect server answers at PREFECT_API_URL http://{NOBODY}/api: start it"
    )


def test_a_port_that_is_taken(recstream: CommandLine, ranker: MisbehavingRanker) -> None:
    port = ranker.process.base_url.removesuffix("/v1").rpartition(":")[2]
    told = recstream("offline-ranker", "--port", port)
    assert told.status == 2
    assert f"cannot listen on 127.0.0.1:{port}" in told.complaint


def test_a_read_only_folder(recstream: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    before: Sequence[str] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root writes everywhere, and there is no setpriv to take that from it")
        os.chown(folder, 65534, 65534)
        before = ROOT_WITHOUT_PRIVILEGES
    told = CommandLine(folder)("init", before=before)
    assert told.status == 2
    assert told.complaint.startswith("recstream: the embedded PostgreSQL cannot use .recstream (Permission denied)")
    assert list(folder.iterdir()) == []


@shop
async def test_a_second_run_while_one_is_going(recstream: CommandLine, database_url: str) -> None:
    async with hold_the_night(database_url):
        told = recstream("run", "--quiet")
    assert told.status == 2
    assert told.complaint.startswith("recstream: another nightly run is going on (")
    assert "wait for it (`recstream status` shows it)" in told.complaint
    assert runs(database_url) == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("slate_sise = 5", "recstream: unknown setting 'slate_sise' in recstream.toml: remove it or mend its spelling"),
        ("slate_size = 0", "recstream: setting 'slate_size': Input should be greater than or equal to 1"),
        ("slate_size = ", "recstream: recstream.toml is not valid TOML"),
    ],
)
def test_a_wrong_settings_file(typed: Typed, text: str, complaint: str) -> None:
    Path("recstream.toml").write_text(text, encoding="utf-8")
    told = typed("status")
    assert told.status == 2
    assert told.complaint.startswith(complaint)


def test_a_wrong_setting_in_the_environment(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSTREAM_TIME_ZONE", "Mars/Olympus")
    told = typed("status")
    assert told.status == 2
    assert told.complaint.startswith("recstream: setting 'time_zone': 'Mars/Olympus' is not a time zone name")


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/shop", "postgresql://host:port/shop"])
def test_a_database_url_that_is_none(typed: Typed, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    told = typed("status")
    assert told.status == 2
    assert "database_url" in told.complaint.lower()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "--limit", "0"], "recstream run: Invalid value for '--limit'"),
        (["run", "--limt", "3"], "recstream run: No such option: --limt"),
        (["run", "--concurrency", "0"], "recstream: setting 'concurrency': Input should be greater than"),
        (["status", "yesterday"], "recstream status: Invalid value for"),
        (["show"], "recstream show: Missing argument"),
        (["shwo"], "recstream: No such command 'shwo'"),
        (["load", "things", "file.csv"], "recstream load: Invalid value for"),
        (["offline-ranker", "--tokens-per-second", "-1"], "recstream offline-ranker: --tokens-per-second -1"),
    ],
    ids=" ".join,
)
def test_wrong_use(typed: Typed, arguments: list[str], complaint: str) -> None:
    told = typed(*arguments)
    assert told.status == 2
    assert told.complaint.startswith(complaint)


def test_a_file_that_is_not_there_and_a_mapping_that_is_none(recstream: CommandLine) -> None:
    missing = recstream("load", "products", "file.csv")
    assert missing.status == 2
    assert missing.complaint.startswith("recstream: file.csv")
    told = recstream("load", "products", "file.csv", "--map", "name")
    assert told.status == 2
    assert told.complaint.startswith("recstream: --map 'name' is not of the form OURS=THEIRS")


def test_a_run_that_is_not_there(recstream: CommandLine) -> None:
    unknown = str(UUID(int=0))
    for command in ("status", "resume"):
        told = recstream(command, unknown)
        assert told.status == 2
        assert told.complaint == f"recstream: there is no run {unknown}: start one with `recstream run`"
    assert recstream("status").complaint == "recstream: there is no nightly run yet: start one with `recstream run`"


@shop
def test_a_customer_who_fails_does_not_stop_the_night_and_resume_takes_only_him(
    recstream: CommandLine, database_url: str, ranker: MisbehavingRanker
) -> None:
    ranker.misbehave_at(Fault.REFUSED_500, [False, True, False])
    told = recstream("run", "--quiet", "--json", "--concurrency", "1", RECSTREAM_ATTEMPTS="1")
    assert told.status == 1
    assert (told.document["complete"], told.document["failed"]) == (2, 1)
    run_id = told.document["run_id"]
    (line,) = told.stderr.splitlines()
    assert line.startswith(
        f"recstream: run {run_id} failed: 1 customer has no complete slate; not published: served 66.7% of 3 "
        "customers, the gate wants 90%; readers keep what they had: "
    )
    ((customer, reason),) = rows(database_url, "SELECT customer_id, reason FROM slates WHERE state = 'failed'")
    assert customer == "b"
    assert "500" in reason

    ranker.behave()
    resumed = recstream("resume", "--quiet", "--json")
    assert resumed.status == 0
    assert (resumed.document["run_id"], resumed.document["complete"]) == (run_id, 3)
    asked = rows(database_url, "SELECT customer_id FROM llm_calls ORDER BY started_at")
    assert asked == [("a",), ("b",), ("c",), ("b",)]


@shop
def test_a_profile_of_5_mb_gives_a_bounded_prompt(recstream: CommandLine, database_url: str) -> None:
    with open_connection(database_url) as connection:
        connection.execute(
            "UPDATE customers SET attributes = jsonb_build_object("
            "'preferred_brands', (SELECT jsonb_agg(repeat('brand ', 50)) FROM generate_series(1, 15000)),"
            "'loyalty_status', repeat('gold ', 100000)) WHERE customer_id = 'a'"
        )
    told = recstream("recommend", "a", "--json")
    assert told.status == 0, told.stderr
    assert len(told.document["recommendations"]) == 10
    ((tokens,),) = rows(database_url, "SELECT tokens_in FROM llm_calls")
    assert tokens < 3000
