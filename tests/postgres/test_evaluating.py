"""Lists measured on a real database: who counts, what a target is, and runs beside popularity and their candidates."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.comparing import SideName
from pipeline.database import open_connection
from pipeline.domain import RunId, RunState
from pipeline.errors import InputError
from pipeline.evaluating.evaluation import Wanted, measure
from pipeline.evaluating.findings import findings
from pipeline.evaluating.measuring_runs import measure_runs
from pipeline.evaluating.report import Evaluation
from pipeline.evaluating.splits import Split, read_span, split_of
from pipeline.evaluating.vocabulary import Scope, Segment
from pipeline.group_commit import open_group_commit
from pipeline.loading import load_file
from pipeline.run_states import begin_run, end_run
from pipeline.runs import Run
from tests.fixtures.shop import add_customer, add_event, add_product, add_run, change, end_slates, row_of

REAL_SHOP = Path(__file__).parents[3] / "shared" / "data"
UTC_ZONE = ZoneInfo("UTC")
BEGINS = datetime(2024, 3, 1, tzinfo=UTC_ZONE)
SPLIT = Split(BEGINS, BEGINS + timedelta(days=30))
WANTED = Wanted(SPLIT, UTC_ZONE, places=10, seed=1)


async def add_shop(engine: AsyncEngine, products: str) -> None:
    for product_id in products:
        await add_product(engine, product_id)


async def bought(engine: AsyncEngine, customer_id: str, products: str, *, days: float) -> None:
    """Purchases so many days after the split, a letter each; before it where that is negative."""
    for product_id in products:
        await add_event(engine, customer_id, "purchase", product_id=product_id, at=BEGINS + timedelta(days=days))


def mean(evaluation: Evaluation, name: str, scope: Scope, measure: str, places: int, **of: Segment) -> float | None:
    figure = evaluation.figure(name, scope, measure, places, **of)
    assert figure is not None
    return figure.value.mean


async def test_new_and_repeated_targets_are_told_apart(engine: AsyncEngine) -> None:
    await add_shop(engine, "abcd")
    for customer_id in ("ann", "ben"):
        await add_customer(engine, customer_id)
    await bought(engine, "ann", "ab", days=-3)
    await bought(engine, "ben", "a", days=-2)
    await bought(engine, "ben", "c", days=-200)
    await bought(engine, "ann", "bc", days=0)  # the first moment is a target already
    await bought(engine, "ann", "a", days=30)  # and the last one is none any more
    await bought(engine, "ben", "d", days=1)  # which nobody had purchased before

    done = await measure(engine, WANTED, [])

    counted = done.counted
    assert (counted.looked_up, counted.scored_new, counted.scored_repeat, counted.scored_all) == (2, 1, 1, 1)
    assert (counted.targets_new, counted.targets_repeat, counted.targets_never_sold) == (1, 1, 1)
    assert (counted.catalog, counted.sold_before) == (4, 3)
    # Popular are a (2 buyers), b, then c and d. New to ann are c and d: c is hers at place 1.
    assert mean(done, "popularity", Scope.NEW, "mrr", 5) == 1
    assert mean(done, "popularity", Scope.REPEAT, "mrr", 5) == 0.5
    assert mean(done, "popularity", Scope.ALL, "recall", 10) == 1
    assert mean(done, "popularity", Scope.ALL, "precision", 10) == pytest.approx(0.2)


async def test_a_purchase_before_and_in_the_window_is_a_repeat_however_long_ago(engine: AsyncEngine) -> None:
    await add_shop(engine, "a")
    await add_customer(engine, "ann")
    await bought(engine, "ann", "a", days=-3_000)
    await bought(engine, "ann", "aa", days=2)
    counted = (await measure(engine, WANTED, [])).counted
    assert (counted.targets_new, counted.targets_repeat) == (0, 1)


async def test_customers_are_apart_by_the_days_on_which_they_purchased(engine: AsyncEngine) -> None:
    await add_shop(engine, "ab")
    for customer_id, days in (("cold", 0), ("light", 4), ("heavy", 5)):
        await add_customer(engine, customer_id)
        for day in range(days):
            await bought(engine, customer_id, "aa", days=-1 - day)
        await bought(engine, customer_id, "a", days=1)

    done = await measure(engine, WANTED, [])

    counts = {}
    for segment in Segment:
        figure = done.figure("popularity", Scope.ALL, "hit", 5, segment)
        assert figure is not None
        counts[segment.value] = figure.customers
    assert counts == {"all": 2, "cold": 1, "light": 1, "heavy": 1}
    assert (done.counted.cold, done.counted.looked_up) == (1, 2)


async def test_other_kinds_of_events_and_strangers_are_no_targets(engine: AsyncEngine) -> None:
    await add_shop(engine, "ab")
    await add_customer(engine, "ann")
    await bought(engine, "ann", "a", days=-1)
    await bought(engine, "stranger", "ab", days=1)
    await add_event(engine, "ann", "view", product_id="b", at=BEGINS + timedelta(days=1))
    await add_event(engine, "ann", "return", product_id="a", at=BEGINS + timedelta(days=1))
    counted = (await measure(engine, WANTED, [])).counted
    assert (counted.scored_all, counted.looked_up) == (0, 1)


async def test_a_page_ends_and_another_begins_without_losing_anybody(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.evaluating.shoppers.PAGE", 3)
    await add_shop(engine, "a")
    for number in range(7):
        await add_customer(engine, f"c{number}")
        await bought(engine, f"c{number}", "a", days=-1)
        await bought(engine, f"c{number}", "a", days=1)
    assert (await measure(engine, WANTED, [])).counted.scored_repeat == 7


async def test_a_shop_that_has_sold_nothing_is_one_line(engine: AsyncEngine) -> None:
    with pytest.raises(InputError, match="nothing has been purchased up to now: load purchases"):
        await read_span(engine)


async def test_purchases_in_the_future_are_counted(engine: AsyncEngine) -> None:
    await bought(engine, "ann", "a", days=-1)
    await add_event(engine, "ann", "purchase", product_id="a", at=datetime(2999, 1, 1, tzinfo=UTC))
    span = await read_span(engine)
    assert (span.last, span.future) == (BEGINS - timedelta(days=1), 1)


async def add_measured_run(
    engine: AsyncEngine, url: str, slates: Mapping[str, str], provenance: str = "language_model"
) -> Run:
    """A finished run with these slates, a letter each place; its candidates were a, b, c and d."""
    run = await add_run(engine, *slates)
    await begin_run(engine, run.run_id)
    async with open_group_commit(url, run.run_id, run.day, provenance) as writer:
        for customer_id, products in slates.items():
            for rank, product_id in enumerate(products, start=1):
                await writer.commit(row_of(customer_id, rank, product_id=product_id))
    await end_slates(engine, run, dict.fromkeys(slates, "complete"))
    await change(engine, "UPDATE slates SET candidate_ids = :ids WHERE run_id = :run", ids=list("abcd"), run=run.run_id)
    await end_run(engine, run.run_id, RunState.FINISHED)
    return run


@pytest.fixture
async def two_runs(engine: AsyncEngine, admin: AsyncEngine, database_url: str) -> tuple[SideName, SideName]:
    """Ann and ben purchase c after two runs: the first one puts it third, the second one first, and leaves ben out."""
    await add_shop(engine, "abcd")
    for customer_id in ("ann", "ben"):
        await add_customer(engine, customer_id)
        await bought(engine, customer_id, "ab", days=-2)
        await bought(engine, customer_id, "c", days=3)
    await bought(engine, "other", "c", days=-2)
    await bought(engine, "other", "a", days=40)
    first = await add_measured_run(engine, database_url, {"ann": "abc", "ben": "abc"})
    second = await add_measured_run(engine, database_url, {"ann": "cab"})
    await change(admin, "UPDATE runs SET as_of = :as_of", as_of=BEGINS)
    return SideName(first.run_id), SideName(second.run_id)


async def measured_runs(engine: AsyncEngine, *names: SideName, begins: datetime | None = None) -> Evaluation:
    return await measure_runs(engine, names, begins=begins, days=30, zone=UTC_ZONE, places=10, seed=1)


async def test_two_runs_are_measured_on_the_customers_who_have_both(
    engine: AsyncEngine, two_runs: tuple[SideName, SideName]
) -> None:
    done = await measured_runs(engine, *two_runs)

    assert done.counted.scored_all == 1
    assert mean(done, "run_a", Scope.ALL, "mrr", 5) == pytest.approx(1 / 3)
    assert mean(done, "run_b", Scope.ALL, "mrr", 5) == 1
    better = done.figure("run_b", Scope.NEW, "mrr", 5)
    assert better is not None
    assert better.less["run_a"].mean == pytest.approx(2 / 3)
    assert better.less["retrieval_b"].mean == pytest.approx(2 / 3)
    assert better.less.keys() == {"popularity", "retrieval_b", "run_a"}
    assert done.begins == BEGINS + timedelta(microseconds=1)


@pytest.mark.usefixtures("two_runs")
async def test_two_variants_of_one_run_are_measured_each_on_its_own_customers(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    run_id = (await add_measured_run(engine, database_url, {"ann": "abc", "ben": "cab"})).run_id
    await change(
        admin,
        """UPDATE runs SET as_of = :as_of, parameters = parameters || CAST(:variants AS jsonb)""",
        as_of=BEGINS,
        variants='{"variants": [{"name": "control", "model": "one"}, {"name": "brief", "model": "other"}]}',
    )
    await change(
        admin,
        "UPDATE slates SET variant = CASE customer_id WHEN 'ann' THEN 'control' ELSE 'brief' END WHERE run_id = :run",
        run=run_id,
    )

    done = await measured_runs(engine, SideName(run_id, "control"), SideName(run_id, "brief"))

    assert done.counted.scored_all == 2
    for name, found in (("run_a", 1 / 3), ("run_b", 1.0), ("retrieval_a", 1 / 3), ("retrieval_b", 1 / 3)):
        figure = done.figure(name, Scope.ALL, "mrr", 5)
        assert figure is not None
        assert figure.customers == 1
        assert figure.value.mean == pytest.approx(found)
    better = done.figure("run_b", Scope.ALL, "mrr", 5)
    assert better is not None
    assert better.less.keys() == {"popularity_run_b", "retrieval_b", "run_a"}
    assert better.less["run_a"].mean == pytest.approx(2 / 3)
    assert better.less["retrieval_b"].mean == pytest.approx(2 / 3)
    assert "no customer is in both variants" in done.notes[-2]


async def test_of_runs_that_have_nobody_in_common_that_is_said(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str, two_runs: tuple[SideName, SideName]
) -> None:
    await add_customer(engine, "cy")
    await bought(engine, "cy", "a", days=-2)
    other = await add_measured_run(engine, database_url, {"cy": "cab"})
    await change(admin, "UPDATE runs SET as_of = :as_of", as_of=BEGINS)
    (told,) = findings(await measured_runs(engine, two_runs[0], SideName(other.run_id)))
    assert told.startswith("nobody who had purchased something before 2024-03-01 has a complete slate in both runs: ")


async def test_one_run_is_measured_on_all_who_have_its_slates(
    engine: AsyncEngine, two_runs: tuple[SideName, SideName]
) -> None:
    done = await measured_runs(engine, two_runs[0])
    assert done.counted.scored_all == 2
    (coverage,) = [it for it in done.coverage if (it.list, it.places) == ("run_a", 5)]
    assert (coverage.products, coverage.share) == (3, 0.6)
    (run,) = [it for it in done.lists if it.run is not None]
    assert (run.run, run.ranked_by) == (str(two_runs[0]), {"test-model": 6})


@pytest.mark.usefixtures("two_runs")
async def test_the_offline_rankers_slates_are_named_as_what_they_are(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    offline = await add_measured_run(engine, database_url, {"ann": "abc", "ben": "cba"}, "offline_ranker")
    await change(admin, "UPDATE runs SET as_of = :as_of", as_of=BEGINS)
    (run,) = [it for it in (await measured_runs(engine, SideName(offline.run_id))).lists if it.run is not None]
    assert run.told.endswith("(offline ranker: word overlap, no model)")
    assert run.ranked_by == {"offline_ranker": 6}


async def test_a_run_that_knew_a_part_of_the_targets_is_refused(
    engine: AsyncEngine, two_runs: tuple[SideName, SideName]
) -> None:
    with pytest.raises(InputError, match="it knew a part of them"):
        await measured_runs(engine, two_runs[0], begins=BEGINS)


async def test_a_run_that_is_not_there_is_one_line(engine: AsyncEngine, two_runs: tuple[SideName, SideName]) -> None:
    with pytest.raises(InputError, match="there is no run 00000000"):
        await measured_runs(engine, SideName(RunId(UUID(int=0))))


@pytest.mark.skipif(not REAL_SHOP.is_dir(), reason="the real shop's files are not beside this checkout")
@pytest.mark.timeout(300)
async def test_a_real_shops_splits_are_those_that_its_readme_counts(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    with open_connection(database_url) as connection:
        for table, name in (
            ("customers", "customers.jsonl"),
            ("products", "products.csv"),
            ("events", "events.parquet"),
        ):
            load_file(
                connection,
                table,  # type: ignore[arg-type] # mypy widens the literals of a tuple
                REAL_SHOP / name,
                mapping={},
                time_zone="Europe/London",
                rejects=tmp_path / "rejects.jsonl",
            )
        connection.execute("ANALYZE")
    zone = ZoneInfo("Europe/London")
    span = await read_span(engine)
    expected = {9: (907, 843, 970, 19_303, 10_850, 0.184), 10: (1_025, 1_001, 1_106, 21_081, 13_264, 0.215)}
    for month, (*counts, recall) in expected.items():
        split = split_of(span, begins=datetime(2011, month, 11, tzinfo=zone), days=30, zone=zone)
        done = await measure(engine, Wanted(split, zone, places=100, seed=1, slates=False), [])
        counted = done.counted
        scored = [counted.scored_new, counted.scored_repeat, counted.scored_all]
        assert [*scored, counted.targets_new, counted.targets_repeat] == counts
        assert mean(done, "popularity", Scope.NEW, "recall", 100) == pytest.approx(recall, abs=0.0005)
