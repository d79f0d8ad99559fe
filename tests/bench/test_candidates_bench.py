"""The bench of candidates: its shop is what it says, its judge counts by hand, and a tiny one comes to its end."""

import json
from math import log2
from threading import Event

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv, parquet

from bench.candidates.contending import question
from bench.candidates.filling import customer_id, fill, product_id
from bench.candidates.generating import UNTIL, ShopSize, draw
from bench.candidates.held_out import SEP, VAL, HeldOut, Purchase, read_held_out
from bench.candidates.judging import ndcg, recall, without
from bench.candidates.plan import THOROUGH, Plan
from bench.candidates.sections import generated_figures
from bench.candidates.targets import TARGETS
from bench.candidates.usage import cpu_seconds, memory, postmaster_of, watched_memory
from bench.limits.real_shop import DATA
from bench.targets import last_line, table
from pipeline.database import open_connection
from pipeline.domain import CustomerId, ProductId
from pipeline.embedded_postgres import EmbeddedPostgres

TINY = Plan(
    shop=ShopSize(products=200, customers=1_000, purchases=20_000, heavy=1, heavy_purchases=500),
    parts=4,
    rounds=1,
    lookups=1_000,
    whole_grid=False,
)
ANN, BOB = CustomerId("ann"), CustomerId("bob")
A, B, C, D = (ProductId(name) for name in "abcd")


def copy_real_purchases(connection: psycopg.Connection) -> None:
    """Without the loader's checks, and in a tenth of its time."""
    events = parquet.read_table(DATA / "events.parquet")
    events = events.filter(pc.equal(events["kind"], pa.scalar("purchase")))
    keys = pc.utf8_lpad(pa.array(range(len(events))).cast(pa.string()), 32, "0")
    lines = pa.BufferOutputStream()
    csv.write_csv(
        events.select(["customer_id", "product_id", "occurred_at"]).add_column(0, "event_key", keys),
        lines,
        csv.WriteOptions(include_header=False),
    )
    connection.execute("SET LOCAL timezone = 'Europe/London'")
    connection.execute("ALTER TABLE events ALTER COLUMN kind SET DEFAULT 'purchase'")
    with connection.cursor().copy(
        "COPY events (event_key, customer_id, product_id, occurred_at) FROM STDIN (FORMAT csv)"
    ) as copy:
        copy.write(lines.getvalue().to_pybytes())


# The shop that is drawn


def test_a_shop_has_exactly_the_purchases_that_are_asked_for_and_all_before_its_end() -> None:
    purchases = draw(TINY.shop, seed=1)
    assert len(purchases.customers) == len(purchases.products) == len(purchases.seconds) == 20_000
    assert purchases.seconds.max() < UNTIL.timestamp()
    assert (np.diff(purchases.seconds) >= 0).all()


def test_the_same_seed_draws_the_same_shop_and_another_one_does_not() -> None:
    one, same, other = (draw(TINY.shop, seed) for seed in (1, 1, 2))
    assert (one.products == same.products).all()
    assert (one.products != other.products).any()


def test_a_drawn_shop_is_as_dear_to_build_as_the_real_one() -> None:
    size = THOROUGH.shop.part(50)
    purchases = draw(size, seed=1)
    owned = np.unique(purchases.customers.astype(np.int64) * size.products + purchases.products)
    histories = np.bincount(owned // size.products)
    assert 0.6 < len(owned) / size.purchases < 0.8  # the real shop: 0.71
    assert (histories**2.0).mean() / histories.mean() ** 2 > 3  # the real shop: 2.9
    assert histories.max() > 3_000
    buyers = np.sort(np.bincount(owned % size.products))[::-1]
    assert 0.3 < buyers[: size.products // 10].sum() / buyers.sum() < 0.5  # the real shop: 0.40


def test_the_tables_hold_what_was_drawn(database_url: str) -> None:
    purchases = draw(TINY.shop, seed=1)
    with open_connection(database_url, autocommit=True, role=None) as connection:
        indexes = connection.execute("SELECT indexdef FROM pg_indexes ORDER BY 1").fetchall()
        fill(connection, TINY.shop, purchases)
        assert connection.execute("SELECT indexdef FROM pg_indexes ORDER BY 1").fetchall() == indexes
        rows = connection.execute("SELECT customer_id, product_id FROM events ORDER BY event_key").fetchall()
    drawn = zip(purchases.customers.tolist(), purchases.products.tolist(), strict=True)
    assert rows == [(customer_id(customer), product_id(product)) for customer, product in drawn]


# What is to be foretold


def test_targets_are_products_known_before_of_customers_known_before(database_url: str) -> None:
    lines = [
        (ANN, A, "2011-10-01"),
        (BOB, B, "2011-08-01"),
        (ANN, A, "2011-10-12"),
        (ANN, B, "2011-10-13"),
        (ANN, C, "2011-10-13"),  # nobody had purchased it before
        (CustomerId("cid"), A, "2011-10-13"),  # he had purchased nothing before
        (BOB, A, "2011-11-20"),  # after the thirty days
    ]
    with open_connection(database_url) as connection:
        connection.cursor().executemany(
            "INSERT INTO events (event_key, customer_id, product_id, kind, occurred_at)"
            " VALUES (gen_random_uuid(), %s, %s, 'purchase', %s)",
            lines,
        )
        held_out = read_held_out(connection, VAL)
    assert held_out.new == {ANN: {B}}
    assert held_out.repeat == {ANN: {A}}
    assert held_out.all == {ANN: {A, B}}
    assert held_out.popular() == [A]
    assert held_out.purchased() == {ANN: {A}, BOB: {B}}


def test_figures_are_those_that_are_counted_by_hand() -> None:
    wanted = {ANN: frozenset({A, B}), BOB: frozenset({C})}
    lists = {ANN: [C, A, D, B], BOB: [A]}
    assert recall(wanted, lists, 2) == pytest.approx((1 / 2 + 0) / 2)
    assert recall(wanted, lists, 4) == pytest.approx((1 + 0) / 2)
    ideal = 1 + 1 / log2(3)
    assert ndcg(wanted, lists, 4) == pytest.approx((1 / log2(3) + 1 / log2(5)) / ideal / 2)
    assert recall(wanted, {}, 4) == 0
    assert without([A, B, C], {ANN: {B}, BOB: set()}) == {ANN: [A, C], BOB: [A, B, C]}


@pytest.mark.skipif(not DATA.exists(), reason="the real shop's files are not there")
def test_the_real_shops_splits_are_those_of_its_readme(database_url: str) -> None:
    with open_connection(database_url, role=None) as connection:
        copy_real_purchases(connection)
        sep, val = (read_held_out(connection, split) for split in (SEP, VAL))
    assert [len(sep.new), len(sep.repeat), len(sep.all)] == [907, 843, 970]
    assert [len(val.new), len(val.repeat), len(val.all)] == [1025, 1001, 1106]
    assert [sum(map(len, wanted.values())) for wanted in (val.new, val.repeat)] == [21_081, 13_264]
    assert recall(val.new, without(val.popular(), val.purchased()), 100) == pytest.approx(0.2156, abs=0.001)


# What a server takes


def test_memory_of_the_server_grows_with_what_a_statement_holds(postgres: EmbeddedPostgres, database_url: str) -> None:
    postmaster = postmaster_of(postgres.data_folder)
    before = memory(postmaster)
    with open_connection(database_url) as connection, watched_memory(postmaster) as peak:
        connection.execute("SELECT length(string_agg(repeat('x', 1000), '')) FROM generate_series(1, 100000)")
    assert peak.bytes > before + 50_000_000


def test_cpu_of_a_connection_that_has_ended_still_counts(postgres: EmbeddedPostgres, database_url: str) -> None:
    postmaster = postmaster_of(postgres.data_folder)
    before = cpu_seconds(postmaster)
    with open_connection(database_url) as connection:
        connection.execute("SELECT count(*) FROM generate_series(1, 3000000)")
    for _ in range(100):  # between its end and the server's notice of it, it counts nowhere
        if cpu_seconds(postmaster) > before + 0.05:
            return
        Event().wait(0.05)
    pytest.fail("what the connection took was never counted")


# The bench itself, very small


def test_a_tiny_bench_builds_and_looks_up_what_it_must(postgres: EmbeddedPostgres) -> None:
    figures = generated_figures(postgres, TINY)
    assert figures["lookup_per_core"] > 0
    assert figures["growth"] > 0
    assert 0 < figures["build_rss_gb_5m"] < 2


def test_every_target_has_its_figure_in_the_table() -> None:
    figures = dict.fromkeys((target.key for target in TARGETS), 0.0) | {"seconds": 1.0}
    assert len(list(table(TARGETS, figures))) == len(TARGETS) + 1
    assert json.loads(last_line(TARGETS, figures))["seconds"] == 1


def test_implicit_is_asked_in_numbers() -> None:
    known = (Purchase(ANN, A, 9.5), Purchase(BOB, B, 2), Purchase(BOB, A, 1))
    asked = json.loads(question(HeldOut(known, {ANN: frozenset({B})}, {BOB: frozenset({A})}), quick=True))
    assert asked == {
        "customers": [0, 1, 1],
        "products": [0, 1, 0],
        "days": [9.5, 2, 1],
        "wanted": {"0": [1]},
        "quick": True,
    }
