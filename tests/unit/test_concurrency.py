"""Requests at a time: more as long as it helps, and no more than that."""

import pytest

from pipeline.limits.concurrency import Concurrency
from pipeline.offline_ranker.limits import LimitPlan
from tests.fixtures.simulated_provider import Night, Simulation, ideal_s, simulate


def test_only_a_few_are_sent_until_the_first_answer_begins() -> None:
    concurrency = Concurrency(64, 0.0)
    assert concurrency.allowed(100.0) == 4
    concurrency.begin(4, 0.1, 0.0, 100.0)
    assert concurrency.allowed(100.0) == 8


def test_the_ceiling_is_never_passed() -> None:
    outcome = simulate(Night(workers=10))
    assert outcome.most_in_flight == 10


def test_an_operators_limit_holds_and_is_taken_away() -> None:
    concurrency = Concurrency(64, 0.0)
    concurrency.bound(2)
    assert concurrency.allowed(0.0) == 2
    concurrency.bound(0)
    assert concurrency.allowed(0.0) == 0
    concurrency.bound(None)
    assert concurrency.allowed(0.0) == 4


def test_an_endpoint_without_limits_is_used_to_the_ceiling() -> None:
    night = Night(customers=3000, workers=256)
    outcome = simulate(night)
    assert outcome.most_in_flight == 256
    assert outcome.duration_s <= 1.15 * ideal_s(night)


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("retry_after", [True, False])
def test_a_limit_on_requests_at_a_time_is_found_out(retry_after: bool, says: bool) -> None:
    night = Night(plan=LimitPlan(concurrency=10, retry_after=retry_after), customers=1000, says=says)
    outcome = simulate(night)
    assert outcome.served == night.customers
    assert outcome.refused_share <= 0.05
    assert outcome.duration_s <= 1.2 * ideal_s(night)


def test_one_at_a_time_is_always_allowed() -> None:
    concurrency = Concurrency(64, 0.0)
    for moment in range(1, 50):
        concurrency.refuse(1, float(moment), float(moment))
    assert concurrency.allowed(50.0) == 1


def test_an_overloaded_endpoint_is_cut_once_a_round() -> None:
    concurrency = Concurrency(64, 0.0)
    _warm_up(concurrency, 64)
    before = concurrency.allowed(10.0)
    for _ in range(30):
        concurrency.refuse(before, 5.0, 10.0)
    assert before // 2 < concurrency.allowed(10.0) < before


def test_an_endpoint_that_grows_slower_is_asked_for_less_at_a_time() -> None:
    night = Night(plan=LimitPlan(shared_tokens_per_second=1200), customers=1000, workers=128)
    simulation = Simulation(night)
    outcome = simulation.run()
    assert outcome.served == night.customers
    assert simulation.gate(0).concurrency.allowed(simulation.now) <= 40
    assert outcome.duration_s <= 1.15 * ideal_s(night)


def test_answers_that_begin_later_and_later_lower_the_limit() -> None:
    concurrency = Concurrency(64, 0.0)
    _warm_up(concurrency, 64)
    before = concurrency.allowed(10.0)
    for moment in range(11, 40):
        concurrency.begin(before, 10.0, moment - 10.0, float(moment))
        concurrency.end(before, 100.0, moment - 10.0, float(moment))
    assert concurrency.allowed(40.0) < before


def _warm_up(concurrency: Concurrency, rounds: int) -> None:
    for _ in range(rounds):
        concurrency.begin(concurrency.allowed(1.0), 0.1, 0.5, 1.0)
        concurrency.end(concurrency.allowed(1.0), 100.0, 0.5, 1.0)
