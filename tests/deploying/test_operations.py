"""The operations guide: its commands run in their order, on an installation in a network that leads nowhere."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from bench.flows.capacity_table import Measured, lines
from flows.cli.app import app
from pipeline.database import open_connection
from pipeline.embedded_postgres.waiting import attempts
from tests.fixtures.closed_room import PATIENCE_S, can_be_shut
from tests.fixtures.deploying import compose_file
from tests.fixtures.guide import GUIDE, NOT_RUN, commands, named_commands, section, statements, why_not_run
from tests.fixtures.installation import Installation, installation

pytestmark = pytest.mark.timeout(400)
BY_HAND = "By hand, on one machine"
OBEYED = ("The first night", "Upgrading", "Backup and restoring")
CUSTOMERS = ["ann", "bob", "cat", "dan", "eve"]
FILES = {
    "customers.csv": "\n".join(["customer_id", *CUSTOMERS, ""]),
    "products.csv": "product_id,name\n" + "".join(f"{n},Product {n}\n" for n in range(1, 13)),
    "events.csv": "customer_id,product_id,kind,occurred_at\nann,1,view,2026-01-02T20:00:00Z\n",
}


@pytest.fixture(scope="module")
def installed(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Everything that the compose file starts, and a shop's files beside it."""
    folder = tmp_path_factory.mktemp("installed")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    with open_connection(module_database_url) as connection:  # each test may be run alone
        connection.execute("INSERT INTO customers (customer_id) SELECT unnest(%s::text[])", [CUSTOMERS])
        connection.execute(
            "INSERT INTO products (product_id, name) SELECT n, 'Product ' || n FROM generate_series(1, 12) AS n"
        )
    with installation(folder, module_database_url.replace("postgresql+psycopg:", "postgresql:")) as found:
        yield found


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with open_connection(url) as connection:
        return list(connection.execute(statement))


def obeyed(installed: Installation, heading: str, **settings: str) -> dict[str, str]:
    """Run what can be run of a section's commands; what each of them said."""
    said = {}
    for command in commands(heading):
        if why_not_run(command) is None:
            told = installed.shell(command, **settings)
            assert told.status == 0, (command, told, installed.room.log("worker"))
            said[command] = told.stdout + told.stderr
    assert said, heading
    return said


def test_every_reason_for_not_running_a_command_has_one() -> None:
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in commands())] == []


@pytest.mark.parametrize("typed", sorted(set(named_commands())))
def test_every_command_that_is_named_exists_with_its_flags(typed: str) -> None:
    command = get_command(app)
    words = [word.strip("[]") for word in typed.split()[1:]]
    while isinstance(command, TyperGroup):
        assert words[0] in command.commands, typed
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_command_is_run_or_has_a_reason() -> None:
    """By hand is typed what the containers do: their services are run, and the test below compares."""
    run = [*OBEYED, BY_HAND]
    assert {command for command in commands() if why_not_run(command) is None} == {
        command for heading in run for command in commands(heading) if why_not_run(command) is None
    }


def test_what_is_started_by_hand_is_what_the_containers_start() -> None:
    by_hand = [command.split() for command in commands(BY_HAND)]
    services = compose_file()["services"]
    assert services["prefect-server"]["command"] in by_hand
    assert [word for word in services["worker"]["command"] if word != "--with-healthcheck"] in by_hand
    assert services["migrate"]["command"] in by_hand
    assert services["deploy"]["command"] in by_hand


def test_every_link_within_the_guide_leads_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", GUIDE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([\w-]+)\)", GUIDE)) <= anchors


def test_the_capacity_table_is_what_its_formulas_come_to() -> None:
    told = section("Capacity")
    figures = re.search(r"^```json\n(.*?)^```$", told, re.MULTILINE | re.DOTALL)
    assert figures
    measured = Measured(**json.loads(figures[1]))
    assert "\n".join(lines(measured)) in told
    assert f"at most {measured.connections} connections" in section("Connections")


def test_the_first_night_is_served_as_the_guide_says(installed: Installation, module_database_url: str) -> None:
    said = obeyed(installed, "The first night")

    assert "Product" in said["recstream show ann"]
    shards = (
        "SELECT s.state, s.machine IS NOT NULL FROM run_shards AS s JOIN runs USING (run_id) WHERE kind = 'nightly'"
    )
    assert rows(module_database_url, shards) == [("served", True)]
    found = rows(module_database_url, "SELECT count(DISTINCT customer_id), count(*) FROM current_recommendations")
    assert found == [(5, 50)]


def test_the_statements_of_the_guide_are_understood(module_database_url: str) -> None:
    assert statements()
    for statement in statements():
        rows(module_database_url, statement.replace("'…'", "gen_random_uuid()"))


def test_an_upgrade_goes_as_the_guide_says(installed: Installation) -> None:
    said = obeyed(installed, "Upgrading")
    assert "is already at schema version" in said["recstream init"]
    assert "made" not in said["recstream deploy"]


def test_a_night_in_flight_is_gone_on_with_after_restoring(installed: Installation, module_database_url: str) -> None:
    installed.start_beside(
        "broken night", "recstream", "run", "--refresh", RECSTREAM_PLACEMENT="here", RECSTREAM_CONCURRENCY="1"
    )
    in_flight = "SELECT count(*) FROM live_recommendations"
    for _ in attempts(PATIENCE_S):
        if rows(module_database_url, in_flight) != [(0,)]:
            break
    installed.room.kill("broken night")

    restored = re.sub(r"/[^/?]*\?", "/restored?", module_database_url).replace("postgresql+psycopg:", "postgresql:")
    try:
        said = obeyed(installed, "Backup and restoring", RESTORED_URL=restored, RECSTREAM_PLACEMENT="here")
        finished = "SELECT state FROM runs WHERE kind = 'nightly' ORDER BY created_at DESC LIMIT 1"
        assert rows(restored, finished) == [("finished",)], said
        assert rows(restored, "SELECT count(*) FROM current_recommendations") == [(50,)]
    finally:
        installed.shell('dropdb --if-exists --force --maintenance-db="$DATABASE_URL" restored')


def test_prefects_page_loads_nothing_from_elsewhere(installed: Installation) -> None:
    ask = "import sys; from urllib.request import urlopen; print(urlopen(sys.argv[1], timeout=9).read().decode())"
    page = installed.run("worker", "python", "-c", ask, "http://127.0.0.1:4200/").stdout
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    assert [address for address in loaded if urlsplit(address).netloc] == []


def test_who_has_no_key_is_refused(installed: Installation) -> None:
    ask = "import sys; from urllib.request import urlopen; urlopen(sys.argv[1], timeout=9)"
    told = installed.run("worker", "python", "-c", ask, "http://127.0.0.1:4200/api/work_pools/recstream")
    assert "401" in told.stderr.splitlines()[-1]


def test_a_worker_that_is_told_to_stop_ends_by_itself(installed: Installation) -> None:
    """In time: compose would kill it after two minutes."""
    assert installed.room.end("worker", within_s=60) == 0, installed.room.log("worker")


def test_nothing_was_looked_for_elsewhere(installed: Installation) -> None:
    """Comes last: whatever the services and commands before it wanted to reach stands in the list."""
    assert installed.looked_elsewhere.read_text(encoding="utf-8") == ""


@pytest.mark.skipif(not can_be_shut(), reason="no network can be made here: what was watched ran in an open one")
def test_nothing_could_have_been_reached(installed: Installation) -> None:
    ask = "import socket; socket.create_connection(('192.0.2.1', 443), timeout=5)"
    told = installed.room.run([sys.executable, "-c", ask], {})
    assert "Network is unreachable" in told.stderr
    assert "192.0.2.1" in installed.looked_elsewhere.read_text(encoding="utf-8")
