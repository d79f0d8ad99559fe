"""`recstream init` says what it is going to do, does that, and says who has yet to be granted what."""

from pathlib import Path

import pytest

from pipeline.database import address
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.schema import migrate
from tests.fixtures.command_line import CommandLine
from tests.fixtures.releases import administer, as_superuser, tables_of

HEAD = "0018"


@pytest.fixture
def recstream(tmp_path: Path, empty_database_url: str) -> CommandLine:
    """The command line on a database without tables."""
    return CommandLine(tmp_path, {"DATABASE_URL": empty_database_url})


def test_it_names_each_step_before_and_the_version_after(recstream: CommandLine, empty_database_url: str) -> None:
    told = recstream("init")

    assert (told.status, told.stderr) == (0, "")
    first, *steps = told.stdout.splitlines()
    assert first.startswith(f"{address(empty_database_url)} is without recstream's tables; to bring it to {HEAD}")
    assert "schema public, login recstream" in first
    assert steps[0].startswith("  0001  The first tables: ")
    assert f"{address(empty_database_url)} is now at schema version {HEAD}." in steps
    assert "GRANT recstream_writer TO" in told.stdout
    assert "GRANT recstream_reader TO" in told.stdout


def test_it_goes_on_from_a_released_version(recstream: CommandLine, empty_database_url: str) -> None:
    migrate(empty_database_url, "0002")
    told = recstream("init")

    assert f"is at schema version 0002; to bring it to {HEAD}" in told.stdout
    assert [line.split()[0] for line in told.stdout.splitlines() if line.startswith("  0")] == [
        f"{number:04}" for number in range(3, int(HEAD) + 1)
    ]


def test_a_dry_run_only_says_so(recstream: CommandLine, empty_database_url: str) -> None:
    told = recstream("init", "--dry-run")

    assert told.status == 0
    assert f"to bring it to {HEAD}" in told.stdout
    assert "is now at" not in told.stdout
    assert tables_of(empty_database_url) == set()


def test_the_second_time_there_is_nothing_to_do(recstream: CommandLine, empty_database_url: str) -> None:
    migrate(empty_database_url)

    assert recstream("init").stdout == f"{address(empty_database_url)} is already at schema version {HEAD}.\n"
    assert recstream("init", "--dry-run").stdout == (
        f"{address(empty_database_url)} is already at schema version {HEAD}.\n"
    )


def test_programs_read_the_same(recstream: CommandLine, empty_database_url: str) -> None:
    tried = recstream("init", "--dry-run", "--json").document
    assert (tried["version_before"], tried["version"], tried["version_needed"]) == (None, None, HEAD)
    assert tables_of(empty_database_url) == set()

    made = recstream("init", "--json").document
    assert (made["version_before"], made["version"], made["version_needed"]) == (None, HEAD, HEAD)
    assert made["database"] == address(empty_database_url)
    assert made["steps"][0]["version"] == "0001"
    assert (made["schema"], made["login"], made["to_be_run_by_an_administrator"]) == ("public", "recstream", [])
    assert recstream("init", "--json").document["steps"] == []


def test_a_login_without_the_rights_is_told_what_an_administrator_runs(
    recstream: CommandLine, empty_database_url: str, postgres: EmbeddedPostgres
) -> None:
    administer(empty_database_url, "DROP ROLE IF EXISTS poor", "CREATE ROLE poor LOGIN")
    url = empty_database_url.replace(f"{postgres.superuser}@", "poor@", 1)

    dry = recstream("init", "--dry-run", DATABASE_URL=url)
    assert dry.status == 0
    assert "GRANT USAGE, CREATE ON SCHEMA public TO recstream_owner;" in dry.stderr

    told = recstream("init", DATABASE_URL=url)
    assert told.status == 2
    assert told.stderr.splitlines()[-1].startswith("recstream: the login poor may not make recstream's tables")
    assert tables_of(empty_database_url) == set()


def test_a_newer_database_is_refused(recstream: CommandLine, empty_database_url: str) -> None:
    migrate(empty_database_url)
    with as_superuser(empty_database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    assert "install a newer recstream" in recstream("init").complaint
    assert "install a newer recstream" in recstream("init", "--dry-run").complaint
