"""Which way a run and a slate may go is the database's to say, and a committed row goes nowhere."""

from collections.abc import Iterator
from itertools import permutations
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from pipeline.domain import RunState, SlateState
from tests.fixtures.releases import as_superuser

OF_RUNS = {
    "planned": {"running", "failed", "cancelled"},
    "running": {"draining", "finished", "failed", "cancelled"},
    "draining": {"running", "finished", "failed", "cancelled"},
    "finished": set(),
    "failed": {"running"},
    "cancelled": {"running"},
}
OF_SLATES = {
    "pending": {"streaming", "failed", "unchanged"},
    "streaming": {"pending", "complete", "short", "failed"},
    "complete": set(),
    "short": {"streaming"},
    "failed": {"streaming"},
    "unchanged": set(),
}
FILLING: LiteralString = """
    SELECT recstream_prepare_day('2026-11-23');
    INSERT INTO runs (run_id, kind, state, model, endpoint, provenance, slate_size, temperature, prompt_version,
                      code_version, as_of, day, shuffle_seed)
        VALUES (gen_random_uuid(), 'nightly', 'planned', 'm', 'e', 'language_model', 10, 0, 'v', 'v', now(),
                '2026-11-23', 1);
    INSERT INTO slates (run_id, customer_id, day, shard)
        SELECT run_id, 'c', place, 0 FROM runs, unnest(ARRAY[date '2026-11-23', '0001-01-01']) AS place;
    INSERT INTO recommendations (run_id, customer_id, rank, day, product_id, product_name, relevance_score,
                                 provenance, attempt)
        SELECT run_id, customer_id, 1, day, 'p', 'Name', 1, 'language_model', 1 FROM slates
"""


@pytest.fixture(scope="module")
def ledger(module_database_url: str) -> Iterator[psycopg.Connection]:
    """A database with one run, whose slate and row lie in its day and among the kept; every statement is its own."""
    with as_superuser(module_database_url) as connection:
        connection.execute(FILLING)
        yield connection


def put(ledger: psycopg.Connection, table: LiteralString, state: str) -> None:
    """Write the state past the triggers."""
    for switch in ("replica", "origin"):
        ledger.execute(sql.SQL("SET session_replication_role = {}").format(switch))
        if switch == "replica":
            ledger.execute(sql.SQL("UPDATE {} SET state = %s").format(sql.Identifier(table)), [state])


def move(ledger: psycopg.Connection, table: LiteralString, state: str) -> None:
    ledger.execute(sql.SQL("UPDATE {} SET state = %s").format(sql.Identifier(table)), [state])


def states_of(ledger: psycopg.Connection, table: LiteralString) -> set[str]:
    return {state for (state,) in ledger.execute(sql.SQL("SELECT state FROM {}").format(sql.Identifier(table)))}


def test_every_state_is_in_the_table_of_transitions() -> None:
    assert set(OF_RUNS) == set(RunState)
    assert set(OF_SLATES) == set(SlateState)


@pytest.mark.parametrize(("former", "state"), list(permutations(OF_RUNS, 2)))
def test_a_run_goes_only_where_it_may(ledger: psycopg.Connection, former: str, state: str) -> None:
    put(ledger, "runs", former)
    if state in OF_RUNS[former]:
        move(ledger, "runs", state)
        assert states_of(ledger, "runs") == {state}
    else:
        with pytest.raises(psycopg.errors.CheckViolation, match=f"the state of run .* from {former} to {state}"):
            move(ledger, "runs", state)
        assert states_of(ledger, "runs") == {former}


@pytest.mark.parametrize(("former", "state"), list(permutations(OF_SLATES, 2)))
def test_a_slate_goes_only_where_it_may(ledger: psycopg.Connection, former: str, state: str) -> None:
    put(ledger, "slates", former)
    if state in OF_SLATES[former]:
        move(ledger, "slates", state)
        assert states_of(ledger, "slates") == {state}
    else:
        with pytest.raises(psycopg.errors.CheckViolation, match=f"the slate of run .* from {former} to {state}"):
            move(ledger, "slates", state)
        assert states_of(ledger, "slates") == {former}


@pytest.mark.parametrize("state", list(SlateState))
def test_staying_where_it_is_is_no_transition(ledger: psycopg.Connection, state: str) -> None:
    put(ledger, "slates", state)
    move(ledger, "slates", state)


@pytest.mark.parametrize("table", ["recommendations", "recommendations_20261123", "recommendations_kept"])
@pytest.mark.parametrize("change", ["rank = 2", "product_id = 'q'", "relevance_score = relevance_score", "day = day"])
def test_a_committed_row_never_changes_whoever_asks(
    ledger: psycopg.Connection, table: LiteralString, change: LiteralString
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="a committed recommendation never changes"):
        ledger.execute(sql.SQL("UPDATE {} SET " + change).format(sql.Identifier(table)))
