"""One customer's tries: what comes next after each failure, and when nothing does."""

import pytest

from pipeline.errors import (
    AnswerCutError,
    AnswerEmptyError,
    AnswerError,
    AnswerLimitError,
    EndpointClosedError,
    EndpointFatalError,
    EndpointRefusedError,
    EndpointUnreachableError,
    PromptRefusedError,
    RateLimitedError,
)
from pipeline.retrying.failures import Action, Case
from pipeline.retrying.retry_budget import RetryBudget
from pipeline.retrying.tries import LONGEST_PAUSE_S, Tries, Verdict

CUT = AnswerCutError("broke off")
OUT_OF_ORDER = EndpointRefusedError("out of order", status=500)
LIMITED = RateLimitedError("too many", status=429)
PLACED = Case(placed=True, spoke=True)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def tries(most: int = 3, budget: RetryBudget | None = None, clock: Clock | None = None, draw: float = 0.0) -> Tries:
    return Tries(most, budget or RetryBudget(), now=clock or Clock(), draw=lambda: draw)


def actions(of: Tries, problem: AnswerError | None, number: int, case: Case = PLACED) -> list[Action]:
    return [of.judge(problem, case, endpoint="main").action for _ in range(number)]


def test_a_customer_has_so_many_tries_and_no_more() -> None:
    assert actions(tries(3), OUT_OF_ORDER, 3, Case()) == [Action.RETRY, Action.RETRY, Action.GIVE_UP]


def test_a_broken_stream_is_continued_and_uses_up_tries_all_the_same() -> None:
    assert actions(tries(2), CUT, 2) == [Action.CONTINUE, Action.GIVE_UP]


def test_who_gives_up_says_why() -> None:
    assert tries(1).judge(CUT, PLACED).reason == "broke off"
    assert tries(1).judge(None, PLACED, shortfall="2 of 3").reason == "2 of 3"


def test_limits_use_up_no_tries() -> None:
    asked = tries(1)
    assert actions(asked, LIMITED, 50, Case()) == [Action.WAIT] * 50
    assert asked.judge(CUT, PLACED).action is Action.GIVE_UP


def test_a_customer_waits_for_a_limit_only_as_long_as_an_endpoint_may_be_away() -> None:
    clock = Clock()
    asked = tries(clock=clock)
    case = Case(patience_s=60)
    assert asked.judge(LIMITED, case).action is Action.WAIT
    clock.now = 59.0
    assert asked.judge(LIMITED, case).action is Action.WAIT
    clock.now = 60.0
    assert asked.judge(LIMITED, case).action is Action.GIVE_UP


def test_rows_that_came_begin_the_waiting_anew() -> None:
    clock = Clock()
    asked = tries(clock=clock)
    asked.judge(LIMITED, Case(patience_s=60))
    clock.now = 59.0
    asked.judge(RateLimitedError("x", in_band=True), Case(placed=True, spoke=True, patience_s=60))
    clock.now = 118.0
    assert asked.judge(LIMITED, Case(patience_s=60)).action is Action.WAIT


def test_an_endpoint_that_is_down_costs_nobody_a_try_however_long_it_takes() -> None:
    clock = Clock()
    asked = tries(1, clock=clock)
    for _ in range(20):
        clock.now += 100.0
        assert asked.judge(OUT_OF_ORDER, Case(down=True)).action is Action.WAIT


@pytest.mark.parametrize("problem", [EndpointUnreachableError("no such name"), LIMITED])
def test_an_endpoint_that_takes_no_request_is_waited_for(problem: AnswerError) -> None:
    assert actions(tries(1), problem, 10, Case()) == [Action.WAIT] * 10


def test_a_request_that_alone_finds_no_connection_is_not_sent_again_at_once() -> None:
    asked = tries()
    gone = EndpointUnreachableError("no such name")
    pauses = [asked.judge(gone).pause_s for _ in range(3)]
    assert pauses == [0.5, 1.0, 2.0]
    assert asked.judge(gone, Case(down=True)).pause_s == 0, "the breaker owns that wait"


def test_pauses_grow_up_to_a_bound() -> None:
    asked = tries(10, draw=1.0)
    assert [asked.judge(OUT_OF_ORDER).pause_s for _ in range(7)] == [1, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_rows_that_came_make_the_next_pause_a_short_one_again() -> None:
    asked = tries(10)
    for _ in range(4):
        asked.judge(OUT_OF_ORDER)
    asked.judge(CUT, PLACED)
    assert asked.judge(OUT_OF_ORDER).pause_s == 1.0


def test_two_customers_do_not_come_back_in_the_same_moment() -> None:
    assert tries(draw=0.1).judge(OUT_OF_ORDER).pause_s != tries(draw=0.9).judge(OUT_OF_ORDER).pause_s


def test_an_endpoint_that_says_when_is_asked_then_and_not_before() -> None:
    asked = tries(draw=0.5)
    assert asked.judge(EndpointRefusedError("x", status=503, retry_after=120)).pause_s == 120.25


@pytest.mark.parametrize("problem", [AnswerEmptyError("nothing"), AnswerLimitError("too long"), None])
def test_where_a_pause_would_change_nothing_there_is_none(problem: AnswerError | None) -> None:
    verdict = tries().judge(problem, Case(spoke=True))
    assert (verdict.goes_on, verdict.pause_s) == (True, 0)


@pytest.mark.parametrize("problem", [EndpointFatalError("wrong key"), EndpointClosedError("for a day")])
def test_the_run_stops_where_nobody_can_be_served_and_there_is_no_other_endpoint(problem: AnswerError) -> None:
    assert tries().judge(problem, endpoint="main").action is Action.STOP


@pytest.mark.parametrize("problem", [EndpointFatalError("wrong key"), PromptRefusedError("too long")])
def test_another_endpoint_is_asked_where_this_one_is_of_no_use(problem: AnswerError) -> None:
    asked = tries()
    verdict = asked.judge(problem, endpoint="main", others=["fallback"])
    assert (verdict.action, set(asked.barred)) == (Action.NEXT_ENDPOINT, {"main"})


def test_a_key_that_is_refused_takes_its_endpoint_out_and_a_long_prompt_does_not() -> None:
    assert tries().judge(EndpointFatalError("wrong key"), endpoint="fallback", others=["main"]).takes_out
    assert not tries().judge(PromptRefusedError("too long"), endpoint="fallback", others=["main"]).takes_out


def test_who_was_refused_elsewhere_does_not_stop_the_run_for_those_who_are_served_there() -> None:
    asked = tries()
    asked.judge(PromptRefusedError("too long"), endpoint="fallback", others=["main"])
    assert asked.judge(EndpointClosedError("away"), others=["fallback"]).action is Action.GIVE_UP


def test_the_run_stops_where_every_endpoint_that_may_be_asked_is_closed() -> None:
    assert tries().judge(EndpointClosedError("away"), others=["main", "fallback"]).action is Action.STOP


def test_an_endpoint_that_asks_to_be_left_alone_for_a_day_stops_the_run() -> None:
    verdict = tries().judge(RateLimitedError("tomorrow", status=429, retry_after=86_400))
    assert verdict == Verdict(Action.STOP, 0.0, "tomorrow", takes_out=True)


def test_there_are_tries_at_each_endpoint_and_none_is_gone_back_to() -> None:
    asked = tries(2)
    judged = [
        asked.judge(OUT_OF_ORDER, endpoint=endpoint, others={"main", "fallback"} - {endpoint}).action
        for endpoint in ("main", "main", "fallback", "fallback")
    ]
    assert judged == [Action.RETRY, Action.NEXT_ENDPOINT, Action.RETRY, Action.GIVE_UP]


def test_a_run_that_has_spent_its_retries_leaves_the_customer() -> None:
    budget = RetryBudget()
    while budget.spend():
        pass
    verdict = tries(budget=budget).judge(AnswerEmptyError("nothing"), Case(spoke=True), others=["fallback"])
    assert verdict.action is Action.GIVE_UP
    assert verdict.reason.startswith("nothing; ")
    assert "retries of this run" in verdict.reason


@pytest.mark.parametrize(
    ("problem", "case"),
    [(OUT_OF_ORDER, Case()), (CUT, PLACED), (None, PLACED), (LIMITED, Case()), (AnswerLimitError("x"), PLACED)],
)
def test_what_was_not_charged_or_brought_rows_does_not_count_as_a_retry(
    problem: AnswerError | None, case: Case
) -> None:
    budget = RetryBudget()
    assert tries(budget=budget).judge(problem, case).goes_on
    assert budget.spent == 0


def test_beginning_anew_after_what_was_charged_counts_as_a_retry() -> None:
    budget = RetryBudget()
    assert tries(budget=budget).judge(CUT, Case(spoke=True)).action is Action.RETRY
    assert budget.spent == 1
    tries(1, budget=budget).judge(CUT, Case(spoke=True))
    assert budget.spent == 1, "who gives up spends nothing"
