"""The night as the command line runs it: the flow in a thread of its own, and its story as it happens."""

import re

import pytest

from flows.cli.night_run import run_night
from flows.parameters import NightlyParameters
from pipeline.database import open_connection
from pipeline.domain import CustomerId, RunState
from pipeline.errors import EndpointFatalError, EndpointUnreachableError, InputError
from pipeline.offline_ranker.faults import Fault
from pipeline.settings import load_settings
from tests.fixtures.misbehaving_ranker import MisbehavingRanker
from tests.fixtures.prefect_runs import LEAVES_SOCKETS

pytestmark = [pytest.mark.usefixtures("_settings_of_the_flows"), LEAVES_SOCKETS]
EVERYONE = NightlyParameters()


@pytest.fixture
def _two_customers(database_url: str) -> None:
    with open_connection(database_url) as connection:
        connection.execute("INSERT INTO customers (customer_id) VALUES ('a'), ('b')")
        connection.execute("INSERT INTO products SELECT n, 'Product ' || n FROM generate_series(1, 12) AS n")


@pytest.mark.usefixtures("_two_customers")
def test_one_customer_s_rows_are_told_in_order_and_then_his_times(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = run_night(load_settings(), database_url, EVERYONE, spotlight=CustomerId("b"))

    assert (summary.complete, summary.rows, summary.published) == (2, 20, 2)
    told = capsys.readouterr().err.splitlines()
    begin = told.index("Customer b, each row as it is committed:")
    assert [int(line.split()[0]) for line in told[begin + 1 : begin + 11]] == list(range(1, 11))
    assert re.fullmatch(
        r"  first recommendation committed after \d+\.\d\d s, the whole slate after \d+\.\d\d s", told[begin + 11]
    )
    assert "" not in told


@pytest.mark.usefixtures("_two_customers")
def test_quiet_is_quiet(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_night(load_settings(), database_url, EVERYONE, quiet=True).left == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("_two_customers")
def test_a_run_that_leaves_customers_is_summed_up_all_the_same(
    database_url: str, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_ATTEMPTS", "1")
    ranker.misbehave(Fault.CUT, cut_after_objects=2)
    summary = run_night(load_settings(), database_url, EVERYONE, quiet=True, spotlight=CustomerId("a"))
    assert (summary.state, summary.short, summary.left, summary.rows) == (RunState.FAILED, 2, 2, 4)


@pytest.mark.usefixtures("_two_customers")
def test_an_endpoint_that_refuses_everyone_ends_the_run_with_its_reason_in_the_ledger(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_MODEL", "no-such-model")
    with pytest.raises(EndpointFatalError, match="no-such-model") as refused:
        run_night(load_settings(), database_url, EVERYONE, quiet=True)
    with open_connection(database_url) as connection:
        ledger = connection.execute("SELECT state, reason FROM runs").fetchall()
    assert ledger == [("failed", str(refused.value))]


@pytest.mark.usefixtures("_two_customers")
def test_a_run_that_cannot_begin_raises_what_hinders_it_and_is_in_no_ledger(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_connection(database_url) as connection:
        connection.execute("UPDATE customers SET active = false")
    with pytest.raises(InputError, match="no active customers"):
        run_night(load_settings(), database_url, EVERYONE, quiet=True)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(EndpointUnreachableError, match=r"no answer from http://127\.0\.0\.1:9/v1"):
        run_night(load_settings(), database_url, EVERYONE, quiet=True)
    with open_connection(database_url) as connection:
        assert connection.execute("SELECT FROM runs").fetchall() == []
