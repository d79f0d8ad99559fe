"""A plan on a real database says what the night then reports, writes nothing and asks nobody."""

from functools import partial
from importlib.resources import files
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pipeline.candidates.building import build_candidates
from pipeline.candidates.recipe import CandidateRecipe
from pipeline.database import open_connection, open_engine
from pipeline.errors import ConfigurationError, DatabaseError, InputError
from pipeline.limits.sharing import account_of
from pipeline.loading import load_file
from pipeline.planning import NightPlan, Sample, plan_night, wish_of
from pipeline.planning.looking import MOST_EXACT, SAMPLE
from pipeline.planning.planning import reading_only
from pipeline.runs import RunSummary
from pipeline.settings import load_settings
from tests.fixtures.misbehaving_ranker import MisbehavingRanker
from tests.fixtures.nights import night
from tests.fixtures.shop import add_customer, add_event, add_product, change, read

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
PRICES = """
currency = "USD"
as_of = 2026-11-01
[models.offline-ranker]
input = 1
cached_input = 0.5
output = 4
"""
NEARLY = 0.15


@pytest.fixture
async def shop(
    engine: AsyncEngine, database_url: str, ranker: MisbehavingRanker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncEngine:
    """An empty shop whose nights ask a ranker that has a price."""
    (tmp_path / "prices.toml").write_text(PRICES)
    for name, value in {"DATABASE_URL": database_url, "RECSTREAM_SLATE_SIZE": "3", **ranker.settings}.items():
        monkeypatch.setenv(name, value)
    return engine


async def add_catalog(engine: AsyncEngine, products: int = 12) -> None:
    for number in range(products):
        await add_product(engine, f"p{number:02}", f"A lamp with {number} arms, for the table and the wall", price=9)


async def planned(url: str, *, most: int | None = None, refresh: bool = False) -> NightPlan:
    return await plan_night(url, wish_of(load_settings(), most=most, refresh=refresh))


def foretells(plan: NightPlan, summary: RunSummary) -> bool:
    """Whether the plan is as near to what the night reported as it promises to be."""
    assert summary.cost is not None
    pairs = (
        (plan.tokens_in, float(summary.tokens_in)),
        (plan.tokens_out, float(summary.tokens_out)),
        (float(plan.cost), float(summary.cost)),
    )
    return all(abs(foretold / reported - 1) <= NEARLY for foretold, reported in pairs)


async def test_who_would_be_skipped_is_told_with_the_reason(
    shop: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_GATE_SERVED_SHARE", "0.5")  # one of the four gets nothing
    monkeypatch.setenv("RECSTREAM_CANDIDATES_EVERY_DAYS", "7")
    await add_catalog(shop)
    build_candidates(database_url, CandidateRecipe())
    for customer_id in ("a", "b", "c"):
        await add_customer(shop, customer_id)
    await add_customer(shop, "empty", candidates=["gone"])
    await add_customer(shop, "asleep", active=False)

    first = await planned(database_url)
    await night()
    await add_event(shop, "b", "search", words="chairs")
    second = await planned(database_url)

    assert (first.customers, first.not_active, first.unchanged, first.no_candidates, first.asked) == (4, 1, 0, 1, 3)
    assert (second.unchanged, second.no_candidates, second.asked, second.requests) == (2, 1, 1, 1)
    assert not second.unchanged_unknown
    assert (await planned(database_url, refresh=True)).asked == 3
    assert (await planned(database_url, most=2)).customers == 2
    assert first.sample is None


async def test_before_candidates_are_built_anew_nobody_is_counted_as_unchanged(
    shop: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_catalog(shop)
    for customer_id in ("a", "b"):
        await add_customer(shop, customer_id)
    build_candidates(database_url, CandidateRecipe())
    await night()

    plan = await planned(database_url)
    assert (plan.unchanged, plan.unchanged_unknown, plan.asked) == (0, True, 2)
    assert not (await planned(database_url, refresh=True)).unchanged_unknown

    monkeypatch.setenv("RECSTREAM_CANDIDATES_EVERY_DAYS", "2")
    plan = await planned(database_url)
    assert (plan.unchanged, plan.unchanged_unknown, plan.asked) == (2, False, 0)


async def test_a_plan_says_what_the_night_reports_once_a_night_has_taught_it_how_the_endpoint_counts(
    shop: AsyncEngine, database_url: str
) -> None:
    await add_catalog(shop)
    for number in range(30):
        await add_customer(shop, f"c{number}", loyalty_status="Gold" * (1 + number % 5))

    first = await planned(database_url)
    summary = await night()
    again = await planned(database_url, refresh=True)

    assert (first.asked, first.models[0].runs, again.models[0].runs) == (30, 0, 1)
    assert foretells(again, summary)
    assert again.duration.seconds is not None


async def test_the_first_plan_of_a_shop_knows_how_the_offline_ranker_counts(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RECSTREAM_OFFLINE_TOKENS_PER_SECOND", "0")
    await add_catalog(engine, 40)
    for number in range(20):
        await add_customer(engine, f"c{number}", loyalty_status="Gold" * (1 + number % 5))

    plan = await planned(database_url)
    summary = await night()

    assert plan.models[0].runs == 0
    assert plan.tokens_in == summary.tokens_in
    assert plan.tokens_out == pytest.approx(summary.tokens_out, rel=NEARLY)


async def test_a_plan_leans_on_what_the_last_nights_were_reported_to_take(
    shop: AsyncEngine, admin: AsyncEngine, database_url: str
) -> None:
    await add_catalog(shop)
    for number in range(30):
        await add_customer(shop, f"c{number}")
    summary = await night()
    await change(admin, "UPDATE llm_calls SET tokens_in = tokens_in * 2, tokens_cached = tokens_in, tokens_out = 300")

    plan = await planned(database_url, refresh=True)

    assert plan.tokens_in == pytest.approx(2 * summary.tokens_in, rel=0.01)
    assert plan.tokens_cached == pytest.approx(summary.tokens_in, rel=0.01)
    assert plan.tokens_out == pytest.approx(30 * 300, rel=0.01)


async def test_a_plan_asks_nobody(shop: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await add_catalog(shop)
    await add_customer(shop, "a")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")  # where nobody can be

    assert (await planned(database_url)).asked == 1


async def test_a_plan_can_write_nothing(shop: AsyncEngine, database_url: str) -> None:
    async with open_engine(database_url, connections=1) as engine, reading_only(engine).connect() as connection:
        with pytest.raises(DatabaseError, match="read-only transaction"):
            await connection.execute(text("INSERT INTO customers (customer_id) VALUES ('a')"))
    await add_catalog(shop)
    await add_customer(shop, "a")

    await planned(database_url)

    for table in ("runs", "slates", "llm_calls", "spending"):
        assert await read(shop, f"SELECT * FROM {table}") == []


async def test_a_model_without_a_price_is_asked_for(
    shop: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_MODEL", "new-model")

    with pytest.raises(ConfigurationError, match=r"`recstream plan` needs the price of 'new-model'.*models.*new-model"):
        await planned(database_url)


async def test_a_shop_for_which_no_night_could_be_planned_is_refused(shop: AsyncEngine, database_url: str) -> None:
    with pytest.raises(InputError, match="no product that is available"):
        await planned(database_url)
    await add_catalog(shop, 1)
    with pytest.raises(InputError, match="no active customers"):
        await planned(database_url)


async def test_budgets_are_held_against_the_plan(
    shop: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_catalog(shop)
    await add_customer(shop, "a")
    cost = (await planned(database_url)).cost
    monkeypatch.setenv("RECSTREAM_BUDGET_PER_RUN", str(cost))
    monkeypatch.setenv("RECSTREAM_BUDGET_PER_DAY", str(cost))
    monkeypatch.setenv("RECSTREAM_TOKEN_BUDGET_PER_RUN", "10")
    await change(
        shop,
        "INSERT INTO spending (scope, key, cost, tokens)"
        " VALUES ('day', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'), :spent, 0)",
        spent=cost / 2,
    )

    plan = await planned(database_url)

    told = {(check.scope, check.unit): (check.suffices, check.spent) for check in plan.budgets}
    assert told == {("run", "USD"): (True, 0), ("day", "USD"): (False, cost / 2), ("run", "tokens"): (False, 0)}
    assert not plan.suffices


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Niue"])
async def test_a_plan_counts_what_a_night_would_start_from(
    shop: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("RECSTREAM_TIME_ZONE", zone)
    await add_catalog(shop)
    await add_customer(shop, "a")
    summary = await night()  # without caps: only the ledger knows what it came to
    monkeypatch.setenv("RECSTREAM_TOKEN_BUDGET_PER_DAY", "100000")

    (check,) = (await planned(database_url)).budgets

    await night(refresh=True)
    ledger = await read(shop, "SELECT sum(tokens_in + tokens_out) FROM llm_calls")
    assert check.spent == summary.tokens_in + summary.tokens_out > 0
    assert await read(shop, "SELECT tokens FROM spending WHERE scope = 'day'") == ledger
    (check,) = (await planned(database_url)).budgets
    assert [(check.spent,)] == ledger


async def test_a_variant_of_the_runs_own_model_leaves_what_was_learnt_of_it(
    shop: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    await add_catalog(shop)
    for number in range(40):
        await add_customer(shop, f"c{number}")
    await night()
    before = await planned(database_url, refresh=True)
    prompts = files("pipeline.prompts")
    (tmp_path / "brief").mkdir()
    (tmp_path / "brief" / "system.md").write_text((prompts / "system.md").read_text() + "\nBe brief.")
    (tmp_path / "brief" / "customer.md").write_text((prompts / "customer.md").read_text())
    (tmp_path / "recstream.toml").write_text(
        '[[variants]]\nname = "brief"\nshare = 0.2\nmodel = "offline-ranker"\nprompt = "brief"\n'
    )

    plan = await planned(database_url, refresh=True)

    assert plan.models[0].runs == 1
    assert plan.models[0].input_ratio == pytest.approx(before.models[0].input_ratio, rel=0.02)
    assert plan.tokens_out == before.tokens_out
    assert plan.tokens_in == pytest.approx(before.tokens_in, rel=0.05)


async def test_the_duration_follows_todays_limits(
    shop: AsyncEngine, database_url: str, ranker: MisbehavingRanker
) -> None:
    await add_catalog(shop)
    for number in range(40):
        await add_customer(shop, f"c{number}")
    assert (await planned(database_url)).duration.seconds is None

    await change(
        shop,
        "INSERT INTO endpoint_limits (endpoint, model, account, requests_per_minute, requests_from, closed_until)"
        " VALUES (:endpoint, 'offline-ranker', :account, 20, 'headers', now() + interval '1 hour'),"
        "        (:endpoint, 'offline-ranker', 'of another', 1, 'headers', NULL)",
        endpoint=ranker.process.base_url,
        account=account_of("none"),
    )

    duration = (await planned(database_url)).duration
    assert duration.seconds == pytest.approx(120 + 3600, abs=60)
    assert duration.because.startswith("offline-ranker takes 20 requests a minute, as its headers say, after 3,")


async def test_of_many_customers_a_random_sample_is_looked_at_and_its_error_is_told(
    shop: AsyncEngine, database_url: str
) -> None:
    customers = 2 * MOST_EXACT
    await add_catalog(shop, 4)
    await change(
        shop,
        "INSERT INTO customers (customer_id, attributes) SELECT n, CASE WHEN n % 2 = 0 THEN CAST(:gone AS jsonb)"
        " ELSE '{}' END FROM generate_series(1, :number) AS n",
        gone='{"candidates": ["gone"]}',
        number=customers,
    )

    plan = await planned(database_url)

    assert plan.customers == customers
    assert isinstance(plan.sample, Sample)
    assert plan.sample.customers == SAMPLE
    assert 0.01 < plan.sample.margin < 0.05
    assert plan.asked == pytest.approx(customers / 2, rel=5 * plan.sample.margin)  # five margins: never by chance
    assert plan.asked + plan.no_candidates == pytest.approx(customers, abs=1)
    assert (await planned(database_url, most=MOST_EXACT)).sample is None


@pytest.mark.skipif(not SHARED.exists(), reason="the real shop's files are not here")
async def test_a_plan_for_real_customers_is_near_to_what_the_night_reports(
    shop: AsyncEngine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSTREAM_SLATE_SIZE", "10")
    events = pq.read_table(SHARED / "events.parquet")
    some = pc.unique(events["customer_id"])[:60]
    pq.write_table(events.filter(pc.is_in(events["customer_id"], some)), tmp_path / "events.parquet")
    with open_connection(database_url) as connection:
        load = partial(load_file, connection, mapping={}, time_zone="Europe/London", rejects=tmp_path / "rejects")
        load("products", SHARED / "products.csv")
        load("events", tmp_path / "events.parquet")
    await change(shop, "INSERT INTO customers (customer_id) SELECT DISTINCT customer_id FROM events")

    await night(most=20)
    plan = await planned(database_url, refresh=True)
    summary = await night(refresh=True)

    assert summary.complete == plan.asked == 60
    assert foretells(plan, summary)
