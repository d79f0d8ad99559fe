"""The bench of limits: its ideal is the limit's own, its log tells who was refused, and what is lost is seen."""

import asyncio
import json
import math
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from bench.limits.capping import Capped, run_into_caps
from bench.limits.economy import shared
from bench.limits.foretelling import Foretold, Night
from bench.limits.ideal import least_seconds
from bench.limits.measuring import Together
from bench.limits.money import cost
from bench.limits.outcomes import Outcome, outcome, worst
from bench.limits.overhead import overhead_us
from bench.limits.plan import THOROUGH, Plan
from bench.limits.questions import first_questions
from bench.limits.real_shop import real_shop
from bench.limits.running import Ours, crew, limited_server
from bench.limits.scenarios import Scenario, scenarios
from bench.limits.sections import Demand, Figures, demand
from bench.limits.server_log import ServedRequest, ServerLog, answered, read_server_log
from bench.limits.shop import fill_shop
from bench.limits.targets import TARGETS
from bench.targets import last_line, table
from pipeline.database import libpq_url
from pipeline.embedded_postgres import EmbeddedPostgres
from pipeline.errors import InputError, UnfinishedRunError
from pipeline.offline_ranker.limits import Dialect, LimitChange, LimitPlan
from pipeline.prompts import Prompt

TINY = Plan(
    customers=24,
    requests_per_minute=1_200,
    in_flight=8,
    tokens_per_second=0,
    changes_s=(0.2, 0.4),
    killed_after_share=0.25,
    planned_customers=5,
    overhead_requests=50,
)
OPEN = Scenario("open", LimitPlan())


@pytest.fixture
def shop_url(database_url: str) -> str:
    with psycopg.connect(libpq_url(database_url)) as connection:
        fill_shop(connection, TINY.customers)
    return database_url


@pytest.fixture(scope="module")
def wanted(module_database_url: str) -> tuple[Demand, Figures]:
    """What a run asks for where nothing limits it, and its figures."""
    with psycopg.connect(libpq_url(module_database_url)) as connection:
        fill_shop(connection, TINY.customers)
    return asyncio.run(demand(module_database_url, TINY))


def together(url: str, plan: Plan = TINY) -> Together:
    return Together(url, plan, asyncio.Barrier(1))


def request(customer: str = "c1", *, refused: bool = False, charged: int = 900, sent: int = 40) -> ServedRequest:
    return ServedRequest(
        customer,
        refused,
        received_at=0,
        ended_at=1,
        prompt_tokens=700,
        cached_tokens=0,
        charged_tokens=charged,
        sent_tokens=0 if refused else sent,
    )


# What a limit allows


def test_the_least_time_is_the_rates_after_the_burst() -> None:
    limits = LimitPlan(requests_per_minute=600)
    assert least_seconds(limits, [1_000] * 300) == pytest.approx(29)
    assert least_seconds(limits, [1_000] * 10) == 0
    assert least_seconds(limits.model_copy(update={"burst_seconds": 60}), [1_000] * 600) == 0


def test_the_least_time_of_tokens_is_theirs_however_they_are_divided() -> None:
    limits = LimitPlan(tokens_per_minute=600_000)
    assert least_seconds(limits, [1_000] * 300) == pytest.approx(29)
    assert least_seconds(limits, [500, 1_500] * 150) == pytest.approx(29, abs=0.1)


def test_of_two_limits_the_scarcer_one_decides() -> None:
    limits = LimitPlan(requests_per_minute=600, tokens_per_minute=300_000)
    assert least_seconds(limits, [1_000] * 100) == pytest.approx(19)
    assert least_seconds(limits, [100] * 100) == pytest.approx(9)


def test_the_least_time_follows_limits_that_change() -> None:
    changes = (
        LimitChange(after_seconds=10, requests_per_minute=300),
        LimitChange(after_seconds=22, requests_per_minute=600),
    )
    limits = LimitPlan(requests_per_minute=600, changes=changes)
    assert least_seconds(limits, [1] * 300) == pytest.approx(22 + (300 - 10 - 100 - 60) / 10, abs=0.2)


def test_who_waits_while_the_limit_rises_waits_no_longer_than_the_new_one_asks() -> None:
    limits = LimitPlan(requests_per_minute=60, changes=(LimitChange(after_seconds=0.5, requests_per_minute=6_000),))
    assert least_seconds(limits, [1, 1]) == pytest.approx(0.505)


def test_what_never_gets_in_takes_for_ever() -> None:
    assert math.isinf(least_seconds(LimitPlan(requests_per_minute=0), [1]))
    assert math.isinf(least_seconds(LimitPlan(tokens_per_minute=600), [1_000]))


def test_each_scenario_allows_about_a_tenth_of_the_demand() -> None:
    for scenario in scenarios(THOROUGH, 1_000):
        seconds = least_seconds(scenario.limits, [1_000] * THOROUGH.customers)
        assert 28 < seconds < 40, scenario.name
        assert scenario.limits.headers is Dialect.OFF
        assert scenario.told().limits.headers is Dialect.OPENAI


# What the figures are made of


def test_only_refusals_by_a_limit_count_as_refused() -> None:
    log = ServerLog([request(), request(refused=True), request("c2"), request("c2", charged=500)])
    assert (log.refused, log.refused_share) == (1, 0.25)
    assert log.tokens_used == 3 * 740
    assert ServerLog([]).refused_share == 0


def test_what_a_customer_is_asked_for_twice_is_needed_once() -> None:
    log = ServerLog([request(refused=True), request("c2", charged=800), request(), request("c2", charged=300)])
    assert log.needed_charges() == [800, 900]


def test_the_worst_of_each_figure_counts() -> None:
    one = Outcome("ours", "a", lost=1, seconds=12, ideal_s=10, requests=10, refused_share=0.1)
    other = replace(one, lost=0, seconds=15, refused_share=0.05)
    assert worst([one, other], "_x") == {"lost_x": 1, "time_vs_ideal_x": 1.5, "refused_share_x": 0.1}


def test_a_run_in_which_nothing_had_to_wait_has_no_ratio() -> None:
    unhurried = outcome("ours", OPEN, ServerLog([request()]), lost=0, seconds=3)
    assert math.isnan(unhurried.time_vs_ideal)


def test_a_cap_that_was_passed_is_an_overrun_and_one_that_was_kept_is_none() -> None:
    assert Capped("tokens", Decimal(100), Decimal(103), lost=4, seconds=1).overrun == pytest.approx(0.03)
    assert Capped("tokens", Decimal(100), Decimal(97), lost=4, seconds=1).overrun == pytest.approx(-0.03)


def test_a_plan_is_off_on_either_side() -> None:
    plans = (Night(0, 0, 0, 1.2), Night(0, 0, 0, 0.9))
    foretold = Foretold(plans, (Night(0, 0, 0, 1.0), Night(0, 0, 0, 1.0)), ServerLog([]), "run")
    assert list(foretold.errors()) == pytest.approx([0.2, 0.1])


def test_what_nights_report_is_held_against_what_the_server_knows() -> None:
    true = float(cost(2 * 700, 2 * 40))
    reported = (Night(700, 0, 40, true), Night(700, 0, 40, true / 2))
    assert Foretold(reported, reported, ServerLog([request(), request()]), "run").report_error() == pytest.approx(0.5)


def test_prompts_share_what_all_of_them_begin_with() -> None:
    prompts = [Prompt("s" * 3_998, "a" * 4_000), Prompt("s" * 3_998, "b" * 4_000)]
    assert shared(prompts).in_common_prefix == pytest.approx(0.5, abs=0.001)
    assert shared([*prompts, prompts[1]]).cached == pytest.approx((0 + 0 + 1_920) / 6_000, abs=0.01)


def test_every_target_has_its_figure_in_the_table() -> None:
    figures = dict.fromkeys((target.key for target in TARGETS), 0.0) | {"seconds": 1.0}
    assert len(list(table(TARGETS, figures))) == len(TARGETS) + 1
    assert json.loads(last_line(TARGETS, figures))["seconds"] == 1


# The bench itself, very small


def test_what_a_run_asks_for_is_measured_where_nothing_limits_it(wanted: tuple[Demand, Figures]) -> None:
    of_a_run, figures = wanted
    assert len(of_a_run.log.requests) == TINY.customers
    assert of_a_run.most_tokens > 0
    assert figures["charged_vs_used_tokens"] > 1


async def test_a_run_of_ours_is_measured_by_the_servers_log(shop_url: str) -> None:
    limited = Scenario("limited", LimitPlan(requests_per_minute=1_200, burst_seconds=0.5))
    found = await together(shop_url).ours("ours", limited, Ours(1, TINY.in_flight))
    assert found.lost == 0
    assert found.ideal_s == pytest.approx(0.7)
    assert found.requests >= TINY.customers


async def test_what_a_killed_process_leaves_over_is_served_by_the_others(shop_url: str, tmp_path: Path) -> None:
    ours = Ours(2, TINY.in_flight, killed_after=4)
    scenario = Scenario("slow", LimitPlan(requests_per_minute=600, burst_seconds=0.1))
    found = await together(shop_url).ours("ours", scenario, ours)
    assert found.lost == 0


async def test_a_process_that_ends_unbidden_stops_the_bench(shop_url: str, tmp_path: Path) -> None:
    async with (
        limited_server(tmp_path, LimitPlan(requests_per_minute=60), tokens_per_second=0) as server,
        crew(shop_url, server, Ours(2, 4), TINY.customers) as (processes, last),
    ):
        last.kill()
        with pytest.raises(UnfinishedRunError, match="a process of the bench ended"):
            await processes.serve(None)


async def test_a_client_that_gives_up_is_seen_to_lose_customers(shop_url: str) -> None:
    prompts = await first_questions(shop_url, TINY.customers, asked=10)
    closed = Scenario("closed", LimitPlan(requests_per_minute=60, burst_seconds=1))
    found = await together(shop_url).contender(closed, prompts, retries=0, most_tokens=200)
    assert found.lost == TINY.customers - 1
    assert found.refused_share == pytest.approx(found.lost / TINY.customers)
    opened = await together(shop_url).contender(OPEN, prompts, retries=0, most_tokens=200)
    assert (opened.lost, opened.refused_share) == (0, 0)


async def test_the_log_of_a_server_that_goes_on_counts_its_answers(shop_url: str, tmp_path: Path) -> None:
    async with limited_server(tmp_path, LimitPlan(), tokens_per_second=0) as server:
        assert answered(server.log) == 0
        async with crew(shop_url, server, Ours(1, 4), customers=3) as (processes, _):
            await processes.serve(None)
        assert answered(server.log) == len(read_server_log(server.log).requests) == 3


async def test_runs_are_stopped_by_their_caps(shop_url: str, wanted: tuple[Demand, Figures]) -> None:
    of_a_run, _ = wanted
    money, tokens = await run_into_caps(shop_url, TINY, of_a_run.log)
    assert money.overrun <= 0
    assert tokens.overrun <= 0
    assert money.used > 0
    assert tokens.used > 0
    assert min(money.lost, tokens.lost) > 0


async def test_what_admission_costs_is_measured(shop_url: str) -> None:
    assert await overhead_us(shop_url, TINY) > 0


def test_a_real_shop_that_is_not_there_is_told(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"has no customers\.jsonl, products\.csv, events\.parquet"),
        real_shop(postgres, tmp_path),
    ):
        pytest.fail("it was loaded all the same")
