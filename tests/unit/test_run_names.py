"""What Prefect's runs are called."""

from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from flows.run_names import (
    coming_night_run_name,
    day_of,
    night_run_name,
    on_demand_run_name,
    run_tags,
    shard_run_name,
)
from pipeline.domain import RunId, RunKind, RunState, ShardState
from pipeline.runs import Run
from pipeline.shard_ledger import Shard

RUN_ID = RunId(UUID("0c0159c3-d96e-435b-acf6-d63649d8a9b8"))
LATE = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)


def a_run(created_at: datetime | None = LATE) -> Run:
    return Run(
        RUN_ID, date(2026, 11, 22), RunKind.NIGHTLY, RunState.RUNNING, 10, LATE, "m", "language_model", 0.1, "p", "c",
        created_at=created_at,
    )  # fmt: skip


def a_shard(shard: int, customers: int, before: int) -> Shard:
    return Shard(
        run_id=RUN_ID, shard=shard, customers=customers, customers_before=before, tokens=None, attempt=0,
        state=ShardState.WAITING, machine=None, offered_s=None, taken_s=None, reason=None, error=None, alive=False,
    )  # fmt: skip


def test_a_night_is_called_by_the_day_that_it_was_in_the_shop() -> None:
    assert night_run_name(a_run(), "UTC") == "nightly 2026-11-22"
    assert night_run_name(a_run(), "Europe/Berlin") == "nightly 2026-11-23"
    assert day_of(a_run(created_at=None), "Europe/Berlin") == date(2026, 11, 22)


def test_a_shard_says_which_it_is_and_which_customers_it_has() -> None:
    name = shard_run_name(a_run(), a_shard(2, 20_000, 40_000), 12, "Europe/Berlin")
    assert name == "nightly 2026-11-23 · 3 of 12 · customers 40,001-60,000"


def test_a_shard_of_one_customer_names_one_and_a_later_attempt_is_named() -> None:
    name = shard_run_name(a_run(), a_shard(0, 1, 0), 1, "UTC", attempt=2)
    assert name == "nightly 2026-11-22 · 1 of 1 · customer 1 · attempt 2"


def test_one_customer_on_demand_is_named_and_many_are_counted() -> None:
    assert on_demand_run_name(["12345"]) == "on-demand 12345"
    assert on_demand_run_name(["a"] * 1_200) == "on-demand 1,200 customers"


def test_tags_are_the_project_the_kind_the_run_and_the_day() -> None:
    assert run_tags(a_run(), "Europe/Berlin") == ["recstream", "nightly", str(RUN_ID), "2026-11-23"]


def test_settings_that_cannot_be_read_are_not_told_by_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSTREAM_TIME_ZONE", "Atlantis")
    assert coming_night_run_name() == "nightly"
    monkeypatch.setenv("RECSTREAM_TIME_ZONE", "Pacific/Kiritimati")
    before = datetime.now(UTC)
    assert coming_night_run_name() >= f"nightly {before.date()}"
