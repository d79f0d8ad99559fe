"""The command line from a shell: a shop's files in, slates out, and what programs read of it."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from flows.cli.app import app
from pipeline.database import open_connection
from pipeline.embedded_postgres import discard_embedded_postgres
from pipeline.embedded_postgres.waiting import attempts
from pipeline.offline_ranker.faults import Fault
from pipeline.version import code_version
from tests.fixtures.command_line import PATIENCE_S, CommandLine
from tests.fixtures.misbehaving_ranker import MisbehavingRanker

CUSTOMERS = "customer_id,name\nann,Ann\nbob,Bob\ncat,Cat\n"
PRODUCTS = "sku,title,category,price\n1,Green tea,Drinks,3\n2,Black coffee,Drinks,4.5\n3,Oat biscuits,Food,2\n"
EVENTS = (
    '{"customer_id": "ann", "kind": "search", "text": "green tea", "occurred_at": "2024-01-02T20:00:00"}\n'
    '{"customer_id": "ann", "kind": "view", "product_id": "1", "occurred_at": "yesterday"}\n'
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the three files of a shop."""
    for name, text in {"customers.csv": CUSTOMERS, "products.csv": PRODUCTS, "events.jsonl": EVENTS}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def recstream(files: Path, database_url: str, prefect_api_url: str, ranker: MisbehavingRanker) -> CommandLine:
    """The command line on a database of its own, with every server that it needs in reach."""
    settings = {"DATABASE_URL": database_url, "PREFECT_API_URL": prefect_api_url, **ranker.settings}
    return CommandLine(files, settings)


@pytest.fixture
def _small_shop(database_url: str) -> None:
    with open_connection(database_url) as connection:
        connection.execute("INSERT INTO products SELECT n, 'Product ' || n FROM generate_series(1, 3) AS n")
        connection.execute("INSERT INTO customers (customer_id) VALUES ('ann')")


def test_from_three_files_to_the_published_slates(recstream: CommandLine, empty_database_url: str) -> None:
    told = recstream.shell(
        """
        recstream init && recstream load customers customers.csv &&
        recstream load products products.csv --map product_id=sku --map name=title
        echo "$?"; recstream load events events.jsonl; echo "$?"
        recstream run --limit 2 --quiet --json > run.json; echo "$?"
        recstream status --json > status.json; echo "$?"
        recstream show ann --json > show.json; echo "$?"
        recstream show cat; echo "$?"
        recstream recommend cat; echo "$?"
        recstream resume --json > resumed.json; echo "$?"
        """,
        DATABASE_URL=empty_database_url,
    )
    assert re.findall(r"^\d$", told.stdout, re.MULTILINE) == ["0", "1", "0", "0", "0", "2", "0", "0"], told
    assert "customers: 3 lines read, 3 inserted" in told.stdout
    assert "events: 2 lines read, 1 inserted, 0 updated, 0 unchanged, 1 refused" in told.stdout
    assert "events.jsonl.rejects.jsonl (not_a_time: 1)" in told.stderr
    assert "customer 'cat' has no published slate: make one with `recstream recommend cat`" in told.stderr
    assert [line.split()[2] for line in told.stdout.splitlines() if re.match(r" +\d+\.\d\d s ", line)] == [
        "1",
        "2",
        "3",
    ]
    assert "Traceback" not in told.stderr

    def document(name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads((recstream.folder / name).read_text(encoding="utf-8"))
        return found

    assert (document("run.json")["customers"], document("run.json")["rows"]) == (2, 6)
    assert document("run.json") == document("resumed.json")
    nothing_ordered = {"pause": None, "drain": None, "cancel": None, "limit": None}
    assert document("status.json") == {**document("run.json"), "standing_orders": nothing_ordered}
    assert document("show.json")["run_id"] == document("run.json")["run_id"]


@pytest.mark.usefixtures("_small_shop")
def test_show_prints_an_object_for_programs(recstream: CommandLine) -> None:
    made = recstream("recommend", "ann", "--json")
    shown = recstream("show", "ann", "--json")
    live = recstream("show", "ann", "--live", "--json")
    assert (made.status, shown.status, live.status) == (0, 0, 0)
    assert (made.stderr, shown.stderr, live.stderr) == ("", "", "")
    assert shown.document["customer_id"] == "ann"
    assert shown.document["run_id"] == made.document["run_id"] == live.document["run_id"]
    rows = shown.document["recommendations"]
    assert [list(row) for row in rows] == [
        ["rank", "product_id", "product_name", "relevance_score", "committed_at"]
    ] * 3
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert all(isinstance(row["product_id"], str) and 0 <= row["relevance_score"] <= 1 for row in rows)
    assert all(datetime.fromisoformat(row["committed_at"]).tzinfo is not None for row in rows)
    assert rows == made.document["recommendations"] == live.document["recommendations"]


@pytest.mark.usefixtures("_small_shop")
def test_an_interrupted_recommend_leaves_its_rows_to_be_seen_live(
    recstream: CommandLine, ranker: MisbehavingRanker, database_url: str
) -> None:
    ranker.misbehave(Fault.HELD, hold_after_objects=2)
    with recstream.started("recommend", "ann") as recommend:
        with open_connection(database_url, autocommit=True) as connection:
            for _ in attempts(PATIENCE_S):
                if len(connection.execute("SELECT FROM recommendations").fetchall()) == 2:
                    break
        live = recstream("show", "ann", "--live", "--json")
        recommend.interrupt()
        told = recommend.end()
    assert [row["rank"] for row in live.document["recommendations"]] == [1, 2]
    assert live.document["state"] == "streaming"
    assert live.document["published_at"] is None
    assert told.status == 130
    assert told.stderr == "recstream: interrupted; what was committed stays\n"
    assert [line.split()[2] for line in told.stdout.splitlines()] == ["1", "2"]
    with open_connection(database_url) as connection:
        ledger = connection.execute("SELECT state, (SELECT count(*) FROM recommendations) FROM runs").fetchall()
    assert ledger == [("cancelled", 2)]


@pytest.mark.usefixtures("_small_shop")
def test_sigterm_ends_a_command_that_a_script_put_into_the_background(
    recstream: CommandLine, ranker: MisbehavingRanker, database_url: str
) -> None:
    ranker.misbehave(Fault.HELD, hold_after_objects=1)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a shell does for `command &` in a script
    try:
        with recstream.started("recommend", "ann") as recommend:
            with open_connection(database_url, autocommit=True) as connection:
                for _ in attempts(PATIENCE_S):
                    if connection.execute("SELECT FROM recommendations").fetchall():
                        break
            recommend.process.terminate()
            told = recommend.end()
    finally:
        signal.signal(signal.SIGINT, before)
    assert told.status == 130
    assert told.stderr == "recstream: interrupted; what was committed stays\n"


@pytest.mark.usefixtures("_small_shop")
def test_a_slate_that_stays_short_is_exit_status_1_with_the_reason(
    recstream: CommandLine, ranker: MisbehavingRanker
) -> None:
    ranker.misbehave(Fault.CUT, cut_after_objects=1)
    told = recstream("recommend", "ann", "--json", RECSTREAM_ATTEMPTS="1")
    assert told.status == 1
    assert told.document["state"] == "short"
    assert len(told.document["recommendations"]) == 1
    assert told.stderr.startswith("recstream: the slate is short: the stream")
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.usefixtures("_small_shop")
def test_a_reader_that_leaves_is_no_error(recstream: CommandLine) -> None:
    told = recstream.shell(
        """
        { recstream recommend ann; echo $? > recommended; } | true
        { recstream show ann; echo $? > shown; } | true
        recstream show ann --json | head -1
        """
    )
    assert (told.status, told.stdout, told.stderr) == (0, "{\n", "")
    assert [(recstream.folder / name).read_text() for name in ("recommended", "shown")] == ["0\n", "0\n"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_disk_under_the_output_is_one_line(recstream: CommandLine) -> None:
    told = recstream.shell("recstream init --json > /dev/full")
    assert told.status == 2
    assert told.complaint.startswith("recstream: standard output cannot be written (No space left on device)")


@pytest.mark.usefixtures("_small_shop")
def test_a_terminal_sees_a_bar_and_a_pipe_sees_plain_lines(recstream: CommandLine) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", "--json"],
        cwd=recstream.folder,
        env=recstream.environment({"TERM": "xterm"}),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    seen = "".join(_what_comes(ours))
    with process:
        assert process.stdout is not None
        document = json.load(process.stdout)
    assert process.returncode == 0
    assert document["complete"] == 1
    assert re.search(r"Night .*1/1 customers · 3 rows", seen)

    piped = recstream("run", "--refresh", "--json")
    assert piped.document["complete"] == 1
    first, *others = piped.stderr.splitlines()
    assert first.startswith("Prefect: using the server at")
    assert all(re.fullmatch(r"night: \d/1 customers, \d rows", line) for line in others)


def _what_comes(terminal: int) -> Iterator[str]:
    try:
        while piece := os.read(terminal, 65536):
            yield piece.decode(errors="replace")
    except OSError:  # Linux's way to say that nobody writes to it any more
        pass
    finally:
        os.close(terminal)


def test_the_embedded_database_needs_no_setting(files: Path) -> None:
    recstream = CommandLine(files)
    try:
        told = recstream.shell(
            "recstream init && recstream load customers customers.csv && recstream load products products.csv "
            "--map product_id=sku --map name=title && recstream recommend ann"
        )
        assert told.status == 0, told.stderr
        assert "the offline ranker answers, by word overlap" in told.stderr
        assert len(re.findall(r"^ +\d+\.\d\d s ", told.stdout, re.MULTILINE)) == 3
        assert recstream.processes() == []
    finally:
        discard_embedded_postgres(files / ".recstream")


@pytest.mark.usefixtures("_small_shop")
def test_psql_opens_the_database_and_shows_the_password_to_nobody(recstream: CommandLine, database_url: str) -> None:
    url = database_url.replace("recstream@", "recstream:secret@")
    ask = ["psql", "-At", "-c", "SELECT count(*) FROM products", "-c", r"\! tr '\0' ' ' < /proc/$PPID/cmdline"]
    told = recstream(*ask, DATABASE_URL=url)
    assert (told.status, told.stderr) == (0, "")
    number, _, command = told.stdout.partition("\n")
    assert number == "3"
    assert "--dbname" in command
    assert "secret" not in command


def test_it_tells_its_version(recstream: CommandLine) -> None:
    told = recstream("--version")
    assert (told.status, told.stdout, told.stderr) == (0, f"recstream {code_version()}\n", "")


def test_the_offline_ranker_shows_its_own_help(recstream: CommandLine) -> None:
    told = recstream("offline-ranker", "--help")
    assert told.status == 0
    assert "example: recstream offline-ranker" in told.stdout


@pytest.mark.parametrize("name", [name for name in get_command(app).commands if name != "candidates"])  # type: ignore[attr-defined]  # the app is a group
def test_the_help_of_every_command_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    group = get_command(app)
    command = group.get_command(typer.Context(group), name)  # type: ignore[attr-defined]  # the app is a group
    assert f"Example: recstream {name}" in command.get_help(typer.Context(command))


def test_ctrl_c_while_a_command_is_imported_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n", encoding="utf-8")
    told = CommandLine(tmp_path)("status", before=["env"])  # in a process that imports it anew
    assert (told.status, told.stdout, told.stderr) == (130, "", "")


def test_help_tells_each_command_whole_and_candidates_beside_the_run(tmp_path: Path) -> None:
    recstream = CommandLine(tmp_path)
    for group in ((), ("candidates",)):
        listed = recstream(*group, "--help").stdout.partition("Commands:\n")[2]
        assert "..." not in listed
    names = [line.split()[0] for line in recstream("--help").stdout.partition("Commands:\n")[2].splitlines()]
    assert names[names.index("run") + 1] == "candidates"
