"""A customer of whom nothing has changed keeps the slate that he sees, over real nights: nobody is asked for him."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.popular import PopularCandidates
from pipeline.database import open_engine
from pipeline.domain import CustomerId, RunId, RunKind, RunState, SlateState
from pipeline.gates import Figures, Gates, judge
from pipeline.night import open_night
from pipeline.one_customer import customer_run
from pipeline.profiles import read_profiles, unfinished_customers
from pipeline.publishing import read_figures, roll_back
from pipeline.run_list import last_runs
from pipeline.runs import Run, find_run, plan_run
from pipeline.segments import ShopHabits
from pipeline.settings import load_settings
from pipeline.slates import SlateLedger
from pipeline.unchanged import Input, Unchanged, recipes
from tests.fixtures.misbehaving_ranker import MisbehavingRanker
from tests.fixtures.nights import night
from tests.fixtures.readers import runs_that_readers_see, what_readers_see
from tests.fixtures.shop import NOW, RANKER, add_customer, add_event, add_product, change, read, scalar

CALLS = "SELECT count(*) FROM llm_calls"


@pytest.fixture
async def shop(
    engine: AsyncEngine, database_url: str, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch
) -> AsyncEngine:
    """Two customers, a and b, and twelve products; nights in it find their settings in the environment."""
    for name, value in {"DATABASE_URL": database_url, "RECSTREAM_SLATE_SIZE": "3", **ranker.settings}.items():
        monkeypatch.setenv(name, value)
    for number in range(12):
        await add_product(engine, f"p{number:02}", price=10)
    for customer_id in ("a", "b"):
        await add_customer(engine, customer_id)
        await add_event(engine, customer_id, "search", words="lamps", at=NOW)
    return engine


async def inputs_of(engine: AsyncEngine, run: Run) -> list[Input]:
    """What the slates of the run's first shard would be made from."""
    settings = load_settings()
    source = await PopularCandidates.open(engine, run.as_of, days=settings.popularity_days, most=50)
    async with aclosing(unfinished_customers(engine, run.run_id, run.day, 0)) as pages:
        customer_ids = [customer_id async for page in pages for customer_id in page]
    profiles = await read_profiles(engine, customer_ids, run.as_of, ShopHabits())
    candidates = await source.candidates(list(profiles.values()))
    return [(profile, candidates[customer_id]) for customer_id, profile in profiles.items()]


async def change_rows(admin: AsyncEngine, to: str, *, customer_id: str) -> None:
    """What is committed never changes, but by a superuser who means it."""
    for statement in (
        "ALTER TABLE recommendations DISABLE TRIGGER recommendations_stay",
        f"UPDATE recommendations SET {to} WHERE customer_id = '{customer_id}'",
        "ALTER TABLE recommendations ENABLE TRIGGER recommendations_stay",
    ):
        await change(admin, statement)


async def states(engine: AsyncEngine, run_id: UUID) -> dict[object, object]:
    found = await read(engine, "SELECT customer_id, state FROM slates WHERE run_id = :run_id", run_id=run_id)
    return {customer_id: state for customer_id, state in found}  # noqa: C416 - dict() of rows is untyped


async def test_who_has_not_changed_keeps_his_slate_and_nobody_is_asked_for_him(shop: AsyncEngine) -> None:
    first = await night()
    seen = await what_readers_see(shop, "a")
    calls = await scalar(shop, CALLS)

    second = await night()

    assert (second.complete, second.unchanged, second.left, second.rows) == (0, 2, 0, 0)
    assert (second.state, second.reason) == (RunState.FINISHED, None)
    assert second.published_at is not None
    assert await scalar(shop, CALLS) == calls
    assert seen
    assert await what_readers_see(shop, "a") == seen
    assert [line.unchanged for line in await last_runs(shop, 2)] == [2, 0]
    kept = await read(shop, "SELECT DISTINCT kept_run_id, kept_rows FROM slates WHERE state = 'unchanged'")
    assert kept == [(first.run_id, 3)]


@pytest.mark.parametrize(
    "event",
    [
        "UPDATE customers SET attributes = '{\"loyalty_status\": \"Gold\"}' WHERE customer_id = 'a'",
        "INSERT INTO events VALUES (gen_random_uuid(), 'a', null, 'search', null, 'chairs', '2024-03-01')",
    ],
)
async def test_only_who_has_changed_is_made_anew(shop: AsyncEngine, event: str) -> None:
    await night()
    await change(shop, event)

    second = await night()

    assert await states(shop, second.run_id) == {"a": "complete", "b": "unchanged"}


async def test_what_he_sees_and_has_purchased_since_is_replaced(shop: AsyncEngine) -> None:
    await night()
    ((_, product), *_) = await what_readers_see(shop, "a")
    await add_event(shop, "a", "purchase", product_id=str(product), at=NOW)

    second = await night()

    assert (await states(shop, second.run_id))["a"] == "complete"
    now_seen = await what_readers_see(shop, "a")
    assert len(now_seen) == 3
    assert product not in {row[1] for row in now_seen}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE products SET available = false WHERE product_id = 'p00'",
        "UPDATE products SET hidden = true WHERE product_id = 'p00'",
        "UPDATE products SET price = 11 WHERE product_id = 'p00'",
        "UPDATE products SET name = 'A lamp' WHERE product_id = 'p00'",
    ],
)
async def test_who_would_choose_from_other_candidates_is_made_anew(shop: AsyncEngine, statement: str) -> None:
    await night()
    await change(shop, statement)

    assert (await night()).unchanged == 0


@pytest.mark.parametrize(("name", "value"), [("TEMPERATURE", "0.7"), ("SLATE_SIZE", "4")])
async def test_other_settings_make_all_anew(
    shop: AsyncEngine, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    await night()
    monkeypatch.setenv(f"RECSTREAM_{name}", value)

    assert (await night()).unchanged == 0


async def test_refresh_makes_all_anew_and_a_resume_keeps_to_it(shop: AsyncEngine) -> None:
    await night()

    second = await night(refresh=True)

    assert (second.complete, second.unchanged) == (2, 0)
    async with open_night(load_settings()) as opened:
        for refresh, max_age in ((True, 0), (False, 7)):
            planned = await opened.plan(None, refresh=refresh)
            found = await find_run(shop, planned.run_id)
            assert found is not None
            assert found.unchanged_max_age_days == planned.unchanged_max_age_days == max_age


async def test_age_counts_from_when_the_rows_were_made_however_many_nights_kept_them(
    shop: AsyncEngine, admin: AsyncEngine
) -> None:
    first = await night()
    await night()
    third = await night()
    assert await read(shop, "SELECT DISTINCT kept_run_id FROM slates WHERE run_id = :run_id", run_id=third.run_id) == [
        (first.run_id,)
    ]

    await change_rows(admin, "committed_at = committed_at - interval '8 days'", customer_id="a")
    fourth = await night()

    assert await states(shop, fourth.run_id) == {"a": "complete", "b": "unchanged"}


async def test_no_age_is_allowed_where_the_setting_is_0(shop: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSTREAM_UNCHANGED_MAX_AGE_DAYS", "0")
    await night()

    assert (await night()).unchanged == 0


@pytest.mark.parametrize("how", ["provenance = 'retrieval_order'", "model = 'another'"])
async def test_a_slate_that_another_ranked_is_made_anew(shop: AsyncEngine, admin: AsyncEngine, how: str) -> None:
    await night()
    await change_rows(admin, how, customer_id="a")

    second = await night()

    assert await states(shop, second.run_id) == {"a": "complete", "b": "unchanged"}


async def test_what_readers_do_not_see_is_not_kept(shop: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as strict:
        strict.setenv("RECSTREAM_GATE_ROWS_PER_SLATE", "9")
        await night()

    assert (await night()).unchanged == 0


async def test_a_kept_slate_that_is_rolled_back_is_seen_no_more_and_made_anew(shop: AsyncEngine) -> None:
    first = await night()
    await night()

    await roll_back(shop, RunId(first.run_id))

    assert await runs_that_readers_see(shop) == {}
    assert (await night()).complete == 2


async def test_a_slate_that_was_made_on_demand_is_made_whatever_has_changed_and_kept_by_the_next_night(
    shop: AsyncEngine,
) -> None:
    await night()

    async with customer_run(CustomerId("a"), load_settings()) as on_demand:
        assert len([row async for row in on_demand.rows]) == 3
    third = await night()

    assert (await states(shop, third.run_id)) == {"a": "unchanged", "b": "unchanged"}
    assert (await runs_that_readers_see(shop))["a"] == on_demand.run_id


async def test_a_slate_that_was_begun_with_other_content_is_neither_kept_nor_kept_by_others(shop: AsyncEngine) -> None:
    await night()
    async with open_night(load_settings()) as opened:
        run = await opened.plan(None)
        await change(shop, "UPDATE slates SET attempts = 1, content_hash = 'old' WHERE state = 'pending'")
        assert await Unchanged(shop, run, recipes(run)).keep(await inputs_of(shop, run)) == set()
    assert await read(shop, "SELECT DISTINCT content_hash FROM slates WHERE state = 'pending'") == [("mixed",)]


async def test_two_processes_that_sort_out_the_same_page_agree_and_an_unchanged_slate_is_not_opened(
    shop: AsyncEngine, database_url: str
) -> None:
    await night()
    async with open_night(load_settings()) as opened, open_engine(database_url, connections=2) as other:
        run = await opened.plan(None)
        inputs = await inputs_of(shop, run)
        one, another = await asyncio.gather(
            Unchanged(shop, run, recipes(run)).keep(inputs), Unchanged(other, run, recipes(run)).keep(inputs[::-1])
        )
        assert one == another == {CustomerId("a"), CustomerId("b")}
    # as one would that had read his page before
    slate = await SlateLedger(shop, run.run_id, run.day).open(CustomerId("a"), inputs[0][1], 3)
    assert (slate.state, slate.missing) == (SlateState.COMPLETE, 0)
    assert await states(shop, run.run_id) == {"a": "unchanged", "b": "unchanged"}


async def test_gates_count_who_keeps_his_slate_as_served_with_the_rows_that_he_sees(shop: AsyncEngine) -> None:
    await night()
    await change(shop, "UPDATE customers SET attributes = '{\"loyalty_status\": \"Gold\"}' WHERE customer_id = 'a'")

    second = await night()

    figures = await read_figures(shop, RunId(second.run_id))
    assert figures == Figures(2, 1, 3, 3, 0, unchanged=1, kept_rows=3)
    assert (figures.left, figures.served_share, figures.rows_per_slate) == (0, 1.0, 3.0)
    assert judge(Figures(2, 0, 0, 0, 0, unchanged=2, kept_rows=6), None, Gates(rows_per_slate=3)) == ()
    assert judge(Figures(2, 0, 0, 0, 0), None, Gates()) == ("none of 2 customers has a complete slate",)


async def test_a_run_without_an_age_keeps_nothing(shop: AsyncEngine) -> None:
    await night()
    run = await plan_run(shop, RunKind.NIGHTLY, RANKER, slate_size=3, shard_size=9)

    assert run.unchanged_max_age_days == 0
    assert await Unchanged(shop, run, recipes(run)).keep(await inputs_of(shop, run)) == set()


@pytest.mark.parametrize(("every_days", "unchanged"), [("1", 0), ("7", 1)])
async def test_what_others_buy_changes_nobodys_candidates_while_popularity_stands(
    shop: AsyncEngine, monkeypatch: pytest.MonkeyPatch, every_days: str, unchanged: int
) -> None:
    monkeypatch.setenv("RECSTREAM_CANDIDATES_EVERY_DAYS", every_days)
    monkeypatch.setenv("RECSTREAM_CANDIDATE_ORDER", "retrieval")
    await night()
    await add_event(shop, "b", "purchase", product_id="p11", at=NOW)  # a Tuesday

    assert (await night()).unchanged == unchanged


async def test_the_variant_of_who_keeps_his_slate_is_written_down(shop: AsyncEngine, tmp_path: Path) -> None:
    for number in range(10):
        await add_customer(shop, f"v{number}")
    (tmp_path / "recstream.toml").write_text('[[variants]]\nname = "hot"\nshare = 0.5\ntemperature = 0.9\n')
    first = await night()
    second = await night()
    of_each = "SELECT customer_id, variant FROM slates WHERE run_id = :run_id ORDER BY customer_id"

    assert second.unchanged == 12
    made = await read(shop, of_each, run_id=first.run_id)
    assert {variant for _, variant in made} == {"control", "hot"}
    assert await read(shop, of_each, run_id=second.run_id) == made


async def test_who_keeps_a_slate_that_is_rolled_back_meanwhile_is_not_served(shop: AsyncEngine) -> None:
    await night()
    second = RunId((await night()).run_id)
    assert (await read_figures(shop, second)).served == 2

    await roll_back(shop)
    await roll_back(shop)

    figures = await read_figures(shop, second)
    assert (figures.planned, figures.served, figures.kept_rows) == (2, 0, 0)
