"""Responses come in by file, by call and by hand: once each, tied to run and rank, also of what nobody knows."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.database import open_connection, open_engine
from pipeline.domain import CustomerId, ProductId, RunId
from pipeline.erasing import erase_from_tables, verify_tables
from pipeline.errors import DatabaseError, InputError
from pipeline.loading import LoadReport, load_file
from pipeline.responses import record_response
from pipeline.schema import migrate
from pipeline.schema_version import require_current
from tests.fixtures.releases import administer
from tests.fixtures.shop import add_customer, add_product, add_run, change, read, scalar

WHEN = datetime(2026, 1, 31, 18, 30, tzinfo=UTC)
RUN = "6f1c2f9e-0d0a-4c3e-9a53-0f6f6a1d2b11"
CUSTOMER = CustomerId("7")
PRODUCT = ProductId("8")


def load_events(url: str, path: Path) -> LoadReport:
    with open_connection(url) as connection:
        rejects = path.with_name("rejects.jsonl")
        return load_file(connection, "events", path, mapping={}, time_zone="UTC", rejects=rejects)


async def test_files_bring_responses_with_run_and_rank_and_bad_ones_are_refused_by_line(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    await add_customer(engine, CUSTOMER)
    await add_product(engine, PRODUCT)
    run = await add_run(engine, CUSTOMER)
    head = "customer_id,product_id,kind,occurred_at,response,run_id,rank,value\n"
    good = (
        f"7,8,response,{WHEN.isoformat()},shown,{run.run_id},3,\n"
        f"7,8,response,{WHEN.isoformat()},clicked,{RUN},3,\n"
        f"7,8,response,{WHEN.isoformat()},,,,interested\n"
        f"7,8,purchase,{WHEN.isoformat()},,,,9.5\n"
    )
    bad = (
        f"7,8,response,{WHEN.isoformat()},loved,{RUN},3,\n"
        f"7,8,response,{WHEN.isoformat()},shown,the newest,3,\n"
        f"7,8,response,{WHEN.isoformat()},shown,{RUN},first,\n"
    )
    path = tmp_path / "events.csv"
    path.write_text(head + good + bad + good, encoding="utf-8")

    report = load_events(database_url, path)

    assert (report.read, report.inserted, report.unchanged, report.refused) == (11, 4, 4, 3)
    assert set(report.refused_by_reason) == {"unknown_response", "not_a_run", "not_a_number"}
    assert "2 events name a run that is not here: eval --live does not count them" in report.notes
    stored = await read(engine, "SELECT response, CAST(run_id AS text), rank, value FROM events ORDER BY 1, 4")
    assert stored == [
        ("clicked", RUN, 3, 1),
        ("shown", str(run.run_id), 3, None),
        (None, None, None, 1),
        (None, None, None, 9.5),
    ]
    assert load_events(database_url, path).inserted == 0


async def test_a_response_sent_twice_is_there_once(engine: AsyncEngine) -> None:
    for is_new in (True, False):
        recorded = await record_response(engine, CUSTOMER, PRODUCT, "clicked", rank=2, occurred_at=WHEN)
        assert recorded.is_new is is_new
    assert (await record_response(engine, CUSTOMER, PRODUCT, "clicked", rank=3, occurred_at=WHEN)).is_new
    for is_new in (True, False):  # by the shop's own name of it the moment does not matter
        assert (await record_response(engine, CUSTOMER, PRODUCT, "shown", event_id="s-1")).is_new is is_new

    assert await scalar(engine, "SELECT count(*) FROM events") == 3


async def test_a_response_without_a_moment_is_the_same_for_a_minute(engine: AsyncEngine) -> None:
    run = RunId(uuid4())
    at_once = await asyncio.gather(*(record_response(engine, CUSTOMER, PRODUCT, "refused", rank=2) for _ in range(4)))
    of_another_run = await record_response(engine, CUSTOMER, PRODUCT, "refused", rank=2, run_id=run)
    again = await record_response(engine, CUSTOMER, PRODUCT, "refused", rank=2, run_id=run)
    of_another_kind = await record_response(engine, CUSTOMER, PRODUCT, "clicked", rank=2, run_id=run)
    await change(engine, "UPDATE events SET occurred_at = occurred_at - interval '61 seconds'")
    later = await record_response(engine, CUSTOMER, PRODUCT, "refused", rank=2)

    assert sorted(it.is_new for it in at_once) == [False, False, False, True]
    assert [it.is_new for it in (of_another_run, again, of_another_kind, later)] == [True, False, True, True]
    assert await scalar(engine, "SELECT count(*) FROM events") == 4


async def test_a_response_in_the_future_is_refused_but_for_a_clock_that_is_fast(engine: AsyncEngine) -> None:
    now = datetime.now(UTC)
    with pytest.raises(InputError, match="2130-01-01 00:00:00 UTC is in the future"):
        await record_response(engine, CUSTOMER, PRODUCT, "clicked", occurred_at=datetime(2130, 1, 1, tzinfo=UTC))
    with pytest.raises(InputError, match="in the future"):
        await record_response(engine, CUSTOMER, PRODUCT, "clicked", occurred_at=now + timedelta(minutes=10))
    soon = await record_response(engine, CUSTOMER, PRODUCT, "clicked", occurred_at=now + timedelta(seconds=50))
    assert soon.is_new


async def test_a_response_to_what_nobody_knows_is_taken_and_said(engine: AsyncEngine) -> None:
    strange = await record_response(engine, CUSTOMER, PRODUCT, "refused", run_id=RunId(uuid4()))
    await add_customer(engine, CUSTOMER)
    await add_product(engine, PRODUCT)
    run = await add_run(engine, CUSTOMER)

    known = await record_response(engine, CUSTOMER, PRODUCT, "refused", run_id=run.run_id, rank=1)

    assert (strange.is_new, strange.unknown) == (True, ("customer", "product", "run"))
    assert (known.is_new, known.unknown) == (True, ())
    assert await scalar(engine, "SELECT count(*) FROM events WHERE value = 0") == 2


async def test_a_response_that_cannot_be_one_is_refused_in_one_line(engine: AsyncEngine) -> None:
    with pytest.raises(InputError, match="the response cannot be recorded: rank 0 is not a rank") as refused:
        await record_response(engine, CUSTOMER, PRODUCT, "clicked", rank=0)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="customer_id"):
        await record_response(engine, CustomerId(" "), PRODUCT, "clicked")


async def test_a_customer_who_is_erased_leaves_no_response(engine: AsyncEngine, database_url: str) -> None:
    customer = CustomerId("erase-me-4711")
    await record_response(engine, customer, PRODUCT, "clicked", run_id=RunId(uuid4()), rank=1)
    assert verify_tables(database_url, customer).found == {"events.customer_id": 1}

    assert erase_from_tables(database_url, customer).rows == {"events": 1}
    assert verify_tables(database_url, customer).found == {}


OWN_EVENTS = """
    CREATE SCHEMA own;
    CREATE TABLE own.log (key uuid, customer text, product text, what text, amount double precision, words text,
                          moment timestamptz, run uuid, place integer, answer text);
    ALTER TABLE events RENAME TO events_unused;
    CREATE VIEW events AS SELECT key AS event_key, customer AS customer_id, product AS product_id, what AS kind,
        amount AS value, words AS text, moment AS occurred_at FROM own.log;
    GRANT SELECT ON events TO recstream_owner, recstream_writer;
    SELECT recstream_bind_views();
"""
THREE_MORE = """
    CREATE OR REPLACE VIEW events AS SELECT key AS event_key, customer AS customer_id, product AS product_id,
        what AS kind, amount AS value, words AS text, moment AS occurred_at, run AS run_id, place AS rank,
        answer AS response FROM own.log;
"""


async def test_a_view_of_the_shops_without_the_columns_is_told_which_to_add_and_readers_go_on(
    empty_database_url: str,
) -> None:
    migrate(empty_database_url, "0013")
    administer(empty_database_url, OWN_EVENTS)

    with pytest.raises(DatabaseError, match="add run_id uuid, rank integer, response text to it") as refused:
        migrate(empty_database_url)
    assert "\n" not in str(refused.value)
    async with open_engine(empty_database_url, connections=1) as engine:
        assert await scalar(engine, "SELECT count(*) FROM current_recommendations") == 0, "readers go on"

    administer(empty_database_url, THREE_MORE)
    migrate(empty_database_url)
    require_current(empty_database_url)
    migrate(empty_database_url, "0014")
    migrate(empty_database_url)


def test_a_view_that_lacks_a_column_is_refused_when_the_views_are_made_again(database_url: str) -> None:
    with pytest.raises(DatabaseError, match="columns that are not there: ") as refused:
        administer(database_url, OWN_EVENTS)
    for column in ("events.run_id of type uuid", "events.rank of type integer", "events.response of type text"):
        assert column in str(refused.value)
