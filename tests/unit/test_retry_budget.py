"""How much of a run may be asked twice."""

from pipeline.retrying.retry_budget import RetryBudget


def drained(budget: RetryBudget) -> int:
    """How many requests it pays for until it refuses."""
    paid = 0
    while budget.spend():
        paid += 1
    return paid


def test_a_young_run_may_begin_anew_so_often() -> None:
    assert drained(RetryBudget()) == 50


def test_one_break_of_all_streams_leaves_nobody_behind() -> None:
    assert drained(RetryBudget(at_a_time=2000)) == 2000


def test_a_fifth_of_what_went_well_is_added() -> None:
    budget = RetryBudget()
    for _ in range(1000):
        budget.earn()
    assert drained(budget) == 250
    assert budget.spent == 250


def test_an_endpoint_that_never_answers_is_not_asked_twice_for_everybody() -> None:
    budget = RetryBudget()
    asked_again = sum(budget.spend() for _ in range(10_000))
    assert asked_again == 50


def test_it_pays_again_once_something_went_well() -> None:
    budget = RetryBudget()
    drained(budget)
    for _ in range(4):
        budget.earn()
    assert drained(budget) == 0
    budget.earn()
    assert drained(budget) == 1
