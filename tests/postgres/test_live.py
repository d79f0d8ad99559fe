"""What was bought of published slates, on a real database: which slate a purchase counts for, and which none."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.domain import CustomerId, ProductId, RunId, RunKind
from pipeline.errors import InputError
from pipeline.evaluating.live import evaluate_live
from pipeline.evaluating.live_report import LiveReport
from pipeline.group_commit import open_group_commit
from pipeline.responses import record_response
from pipeline.run_states import begin_run
from pipeline.runs import Run
from tests.fixtures.shop import RANKER, add_event, add_run, change, end_slates, row_of

DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)


async def add_published(
    admin: AsyncEngine,
    url: str,
    slates: Mapping[str, str],
    *,
    days_ago: float,
    states: Mapping[str, str] | None = None,
    variants: Mapping[str, str] | None = None,
    kind: RunKind = RunKind.NIGHTLY,
) -> Run:
    """A run whose slates have these products in order, a letter each, published so many days before now."""
    run = await add_run(admin, *slates, kind=kind)
    await begin_run(admin, run.run_id)
    async with open_group_commit(url, run.run_id, run.day, RANKER.provenance) as writer:
        for customer_id, products in slates.items():
            for rank, product_id in enumerate(products, start=1):
                await writer.commit(row_of(customer_id, rank, product_id=product_id))
    await end_slates(admin, run, {**dict.fromkeys(slates, "complete"), **(states or {})})
    for customer_id, variant in (variants or {}).items():
        await change(
            admin,
            "UPDATE slates SET variant = :variant WHERE run_id = :run_id AND customer_id = :customer_id",
            variant=variant,
            run_id=run.run_id,
            customer_id=customer_id,
        )
    await publish(admin, run, days_ago)
    return run


async def publish(admin: AsyncEngine, run: Run, days_ago: float) -> None:
    at = NOW - days_ago * DAY
    await change(
        admin,
        "UPDATE runs SET as_of = :as_of, created_at = :as_of WHERE run_id = :run_id",
        run_id=run.run_id,
        as_of=at - DAY / 24,
    )
    if run.kind is RunKind.NIGHTLY:
        await change(
            admin,
            "INSERT INTO published_runs (run_id, day, precedence, published_at, served_share, rows_per_slate,"
            " refused_share) SELECT run_id, day, created_at, :at, 1, 10, 0 FROM runs WHERE run_id = :run_id",
            run_id=run.run_id,
            at=at,
        )
    else:
        await change(
            admin,
            "INSERT INTO published (customer_id, run_id, day, published_at)"
            " SELECT customer_id, run_id, day, :at FROM slates WHERE run_id = :run_id",
            run_id=run.run_id,
            at=at,
        )


async def buys(engine: AsyncEngine, customer_id: str, products: str, *, days_ago: float) -> None:
    for product_id in products:
        await add_event(engine, customer_id, "purchase", product_id=product_id, at=NOW - days_ago * DAY)


def means(report: LiveReport) -> dict[int, tuple[float | None, ...]]:
    """By places: the shares of customers (ours, popular) and of products (ours, popular)."""
    return {
        hit.places: (
            hit.customers.ours.mean,
            hit.customers.popularity.mean,
            hit.products.ours.mean,
            hit.products.popularity.mean,
        )
        for hit in report.hits
    }


async def test_an_empty_shop_is_told_in_one_line_that_nothing_can_be_said(engine: AsyncEngine) -> None:
    report = await evaluate_live(engine)

    assert (report.nights, report.customers, report.hits, report.responses) == ((), 0, (), ())
    (note,) = report.notes
    assert note.startswith("no night was published in the last 14 days: nothing can be said yet; ")


async def test_hits_are_counted_by_rank_beside_what_was_popular_as_of_the_same_moment(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    for buyer in range(3):
        await buys(admin, f"early {buyer}", "y", days_ago=5)
    await buys(admin, "early 0", "z", days_ago=30)  # too long ago to be popular
    await add_published(admin, database_url, {"1": "abcdefg", "2": "abcdefg", "3": "abc", "4": "abc"}, days_ago=3)
    await buys(admin, "1", "ay", days_ago=2)  # the first place of the slate, and the popular one
    await buys(admin, "2", "gz", days_ago=2)  # the seventh place
    await buys(admin, "3", "y", days_ago=2)
    await buys(admin, "9", "a", days_ago=2)  # without a slate

    report = await evaluate_live(engine)

    assert (report.customers, report.buyers, report.bought) == (4, 3, 5)
    assert means(report) == {5: (1 / 4, 2 / 4, 1 / 5, 2 / 5), 10: (2 / 4, 2 / 4, 2 / 5, 2 / 5)}
    assert any(note.startswith("4 more customers bought something, but saw no slate") for note in report.notes)


async def test_a_purchase_counts_for_the_slate_that_was_seen_at_that_moment(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    await add_published(admin, database_url, {"1": "a"}, days_ago=6)
    await add_published(admin, database_url, {"1": "b", "2": "b"}, days_ago=3)
    await buys(admin, "1", "b", days_ago=5)  # a is seen
    await buys(admin, "1", "a", days_ago=2)  # b is seen
    await buys(admin, "2", "b", days_ago=4)  # nothing is seen
    before = await evaluate_live(engine)
    await buys(admin, "1", "b", days_ago=1)

    after = await evaluate_live(engine)

    assert (before.customers, before.bought, means(before)[5][0]) == (2, 2, 0)
    assert (after.customers, after.bought, means(after)[5][0]) == (2, 2, 1 / 2)


async def test_a_night_that_was_rolled_back_counts_while_it_was_seen(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    await add_published(admin, database_url, {"1": "a", "2": "a"}, days_ago=6)
    gone = await add_published(admin, database_url, {"1": "b", "2": "b"}, days_ago=4)
    await change(
        admin,
        "UPDATE published_runs SET withdrawn_at = :at WHERE run_id = :run_id",
        at=NOW - 2 * DAY,
        run_id=gone.run_id,
    )
    await buys(admin, "1", "b", days_ago=3)
    await buys(admin, "2", "b", days_ago=1)

    report = await evaluate_live(engine)

    assert (report.bought, means(report)[5][0]) == (2, 1 / 2)


async def test_a_kept_slate_counts_with_its_rows_and_an_unfinished_one_does_not(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    first = await add_published(admin, database_url, {"1": "a", "2": "a"}, days_ago=20)
    kept = await add_run(admin, "1", "2")
    await change(
        admin,
        "UPDATE slates SET state = 'unchanged', kept_run_id = :kept WHERE run_id = :run_id AND customer_id = '1'",
        kept=first.run_id,
        run_id=kept.run_id,
    )
    await publish(admin, kept, 3)
    await buys(admin, "1", "a", days_ago=2)
    await buys(admin, "2", "a", days_ago=2)

    report = await evaluate_live(engine)

    assert [night.run_id for night in report.nights] == [kept.run_id]
    assert (report.customers, report.bought, means(report)[5][0]) == (1, 1, 1)


async def test_who_saw_a_slate_made_for_him_alone_did_not_see_the_nights(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    await add_published(admin, database_url, {"1": "a", "2": "a"}, days_ago=6)
    alone = await add_published(admin, database_url, {"1": "b"}, days_ago=4, kind=RunKind.ON_DEMAND)
    await buys(admin, "1", "a", days_ago=5)
    await buys(admin, "1", "b", days_ago=3)
    await buys(admin, "2", "a", days_ago=3)

    nights = await evaluate_live(engine)
    of_him = await evaluate_live(engine, run_id=alone.run_id)

    assert (nights.bought, means(nights)[5][0]) == (2, 1)
    assert (of_him.customers, of_him.bought, means(of_him)[5][0]) == (1, 1, 1)


async def test_of_one_run_all_counts_that_was_bought_within_the_days_after_it(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    run = await add_published(admin, database_url, {"1": "a", "2": "b"}, days_ago=40)
    await add_published(admin, database_url, {"1": "x", "2": "x"}, days_ago=39)
    await buys(admin, "1", "a", days_ago=38)
    await buys(admin, "2", "b", days_ago=30)

    over = await evaluate_live(engine, run_id=run.run_id, days=5)
    going_on = await evaluate_live(engine, run_id=run.run_id, days=60)

    assert (over.until - over.since, over.bought, means(over)[5][0]) == (5 * DAY, 1, 1 / 2)
    assert (going_on.bought, means(going_on)[5][0]) == (2, 1)
    assert not any("are not over" in note for note in over.notes)
    assert any(note.startswith("the 60 days are not over") for note in going_on.notes)


async def test_a_run_that_readers_never_saw_is_refused_in_one_line(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    pruned = await add_published(admin, database_url, {"1": "a"}, days_ago=3)
    await change(admin, "UPDATE runs SET pruned_at = now() WHERE run_id = :run_id", run_id=pruned.run_id)

    with pytest.raises(InputError, match="readers never saw run"):
        await evaluate_live(engine, run_id=RunId(uuid4()))
    with pytest.raises(InputError, match="were pruned: it can be judged no more"):
        await evaluate_live(engine, run_id=pruned.run_id)
    (note,) = (await evaluate_live(engine)).notes
    assert note.startswith("no night that was not pruned since (1 were) was published")


async def test_variants_are_held_against_the_control(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    slates = {f"c{number}": "a" for number in range(40)}
    variants = {name: "brief" if place < 20 else "control" for place, name in enumerate(slates)}
    await add_published(admin, database_url, slates, days_ago=3, variants=variants)
    for name in [*list(slates)[:15], *list(slates)[20:22]]:
        await buys(admin, name, "a", days_ago=2)

    report = await evaluate_live(engine)

    told = {(hit.variant, hit.places): hit for hit in report.variants}
    control, brief = told["control", 5], told["brief", 5]
    assert (control.customers, control.share.mean, control.less_control) == (20, 2 / 20, None)
    assert (brief.customers, brief.share.mean) == (20, 15 / 20)
    assert brief.less_control is not None
    assert brief.less_control.mean == pytest.approx(13 / 20)
    assert brief.less_control.is_sure


async def test_responses_are_counted_once_by_the_rank_at_which_the_product_was_shown(
    engine: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    run = await add_published(admin, database_url, {"1": "ab", "2": "ab"}, days_ago=3)
    one, two, a, b = CustomerId("1"), CustomerId("2"), ProductId("a"), ProductId("b")
    for minutes in range(3):
        at = NOW - DAY + timedelta(minutes=minutes)
        await record_response(engine, one, a, "shown", rank=1, occurred_at=at, run_id=run.run_id)
        await record_response(engine, one, a, "clicked", rank=1, occurred_at=at, run_id=run.run_id)
    await record_response(engine, two, a, "shown", run_id=run.run_id)  # its rank is the slate's
    await record_response(engine, two, b, "refused", rank=2, run_id=run.run_id)
    await record_response(engine, two, b, "clicked", rank=2, run_id=RunId(uuid4()))  # a run that nobody knows
    await record_response(engine, two, ProductId("never recommended"), "clicked", rank=2, run_id=run.run_id)
    early = await record_response(engine, one, b, "clicked", occurred_at=NOW - 4 * DAY, run_id=run.run_id)
    assert early.is_early  # before the run was there

    report = await evaluate_live(engine)

    told = [(it.rank, it.shown, it.clicked, it.refused, it.click_rate.mean) for it in report.responses]
    assert told == [(1, 2, 1, 0, 1 / 2), (2, 1, 0, 1, 0)]
    assert not any("no response names" in note for note in report.notes)
