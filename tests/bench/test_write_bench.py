"""The bench of the writer: its ways to write do write, its readers notice what is torn, and its figures are sane."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from bench.targets import last_line, table
from bench.write.__main__ import measure
from bench.write.acknowledging import acknowledge
from bench.write.contenders import CONTENDERS, Commit, Contender
from bench.write.database import require_room, temporary_database
from bench.write.plan import Plan
from bench.write.producing import take_turn
from bench.write.rows import OpenedRun
from bench.write.shop import Shop
from bench.write.slates import SeenRow, night_of
from bench.write.targets import scale_name, targets
from bench.write.watching import watching
from pipeline.database import open_connection
from pipeline.domain import RunId
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.errors import ConfigurationError, DatabaseError
from pipeline.group_commit import Row

TINY = Plan(
    rounds=1,
    window_s=0.05,
    offered=200,
    offered_s=0.2,
    customers=120,
    products=1_000,
    reads=20,
    switches=1,
    reads_between=5,
)
SHOP = Shop(customers=120, products=1_000)
NIGHTS = [RunId(uuid4()), RunId(uuid4())]


@asynccontextmanager
async def acknowledges_and_writes_nothing(url: str, run: OpenedRun) -> AsyncIterator[Commit]:
    async def commit(row: Row) -> None:
        pass

    yield commit


FORGETFUL = Contender("forgetful", acknowledges_and_writes_nothing, producers=1)


def slate(customer: int, night: int) -> list[SeenRow]:
    return [(NIGHTS[night], rank, product_id) for rank, product_id in SHOP.seen(customer, night)]


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
async def test_each_way_to_write_leaves_as_many_rows_as_it_acknowledged(
    database_url: str, contender: Contender
) -> None:
    turn = await take_turn(contender, database_url, 0.05)  # raises where they differ
    assert turn.rows >= contender.producers
    assert turn.cpu_us_per_row > 0


async def test_rows_that_were_acknowledged_and_are_not_there_stop_the_bench(database_url: str) -> None:
    with pytest.raises(DatabaseError, match=r"forgetful: .* rows were acknowledged and 0 are there"):
        await take_turn(FORGETFUL, database_url, 0.01)


async def test_a_row_that_others_cannot_see_when_it_is_acknowledged_stops_the_bench(database_url: str) -> None:
    with pytest.raises(DatabaseError, match="rank 1 of c00000001 was acknowledged and cannot be seen"):
        await acknowledge(FORGETFUL, database_url, per_second=1_000, seconds=0.01)


def test_a_whole_slate_is_of_its_night() -> None:
    assert [night_of(SHOP, NIGHTS, 7, slate(7, night)) for night in (0, 1)] == [0, 1]


@pytest.mark.parametrize(
    "torn",
    [
        [],
        slate(7, 0)[:3] + slate(7, 1)[3:],
        slate(7, 0)[:-1],
        slate(7, 0)[:4] + slate(7, 0)[5:],
        slate(8, 0),
        [(uuid4(), rank, product_id) for rank, product_id in SHOP.seen(7, 0)],
    ],
    ids=["empty", "of two nights", "cut", "with a hole", "somebody else's", "of no night"],
)
def test_a_torn_slate_is_of_no_night(torn: list[SeenRow]) -> None:
    assert night_of(SHOP, NIGHTS, 7, torn) is None


async def test_readers_count_every_slate_that_is_torn(database_url: str) -> None:
    async with watching(database_url, SHOP, NIGHTS) as watch:
        await watch.see_more(3)  # nothing is published: they find no row
    assert watch.torn == len(watch.read_ms) >= 3


async def test_what_ends_a_reader_ends_the_bench(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="no_such_database"):
        async with watching(postgres.url("no_such_database"), SHOP, NIGHTS) as watch:
            await watch.see_more(1)


def test_no_two_nights_place_the_same_product_at_one_rank() -> None:
    ranks = range(1, 11)
    for customer in range(1, SHOP.customers + 1):
        assert all(len({SHOP.product(customer, night, rank) for night in range(3)}) == 3 for rank in ranks)


async def test_a_tiny_bench_fills_publishes_and_reads_what_it_must(database_url: str) -> None:
    figures = await measure(database_url, TINY)
    assert figures["torn_reads"] == 0
    assert figures["reads_while_switching"] >= 15
    assert figures["bytes_per_row"] > figures["raw_bytes_per_row"] > 44
    times = ("ack_ms_p50_200", "point_read_ms_p99", "publish_s_120", "rollback_s_120", "cpu_us_per_row")
    assert all(figures[key] > 0 for key in times)
    with open_connection(database_url) as connection:
        nights = connection.execute("SELECT count(*) FROM published_runs WHERE withdrawn_at IS NULL").fetchone()
        rows = connection.execute("SELECT count(*) FROM current_recommendations").fetchone()
    assert nights == (3,)
    assert rows == (sum(len(SHOP.seen(customer, 2)) for customer in range(1, SHOP.customers + 1)),)
    assert len(list(table(targets(TINY.customers), figures))) == 9
    assert json.loads(last_line(targets(TINY.customers), figures))["customers"] == 120


def test_the_shop_hides_something_from_readers() -> None:
    seen = sum(len(SHOP.seen(customer, 2)) for customer in range(1, SHOP.customers + 1))
    assert 0 < SHOP.customers * 10 - seen < SHOP.customers * 2


def test_the_keys_say_how_many_customers_there_are() -> None:
    assert [scale_name(customers) for customers in (1_000_000, 100_000, 120)] == ["1m", "100k", "120"]
    assert "publish_s_1m" in {target.key for target in targets(1_000_000)}


def test_a_disk_without_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="make room, or measure fewer with `--scale 100000`"):
        require_room(tmp_path, 10**12)


def test_nothing_is_left_of_a_bench_that_was_interrupted(tmp_path: Path) -> None:
    running: list[EmbeddedPostgres] = []
    with pytest.raises(KeyboardInterrupt), temporary_database(tmp_path) as server:
        running.append(server)
        raise KeyboardInterrupt
    assert not running[0].data_folder.exists()
