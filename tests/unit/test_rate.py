"""Rates: a limit is used and not passed, whether the endpoint says it or not, in nights of virtual time."""

import itertools
import random

import pytest

from pipeline.domain import AnswerRecord
from pipeline.errors import RateLimitedError
from pipeline.limits.closing import Closing
from pipeline.limits.found_rate import FoundRate
from pipeline.limits.gate import Gate
from pipeline.limits.notices import Allowance
from pipeline.limits.rate import Pace
from pipeline.offline_ranker.limits import Dialect, LimitChange, LimitPlan
from tests.fixtures.simulated_provider import TOKENS_IN, Night, ideal_s, simulate

A_MINUTE = 600
TOKENS = A_MINUTE * (TOKENS_IN + 60)
SCENARIOS = {
    "requests": LimitPlan(requests_per_minute=A_MINUTE),
    "tokens": LimitPlan(tokens_per_minute=TOKENS),
    "both": LimitPlan(requests_per_minute=A_MINUTE, tokens_per_minute=TOKENS * 0.95),
    "changes": LimitPlan(
        requests_per_minute=A_MINUTE,
        changes=(
            LimitChange(after_seconds=10, requests_per_minute=A_MINUTE / 2),
            LimitChange(after_seconds=20, requests_per_minute=A_MINUTE * 1.5),
        ),
    ),
}
SAYINGS: dict[str, tuple[dict[str, object], bool]] = {
    "openai's headers": ({"headers": Dialect.OPENAI}, False),
    "anthropic's headers": ({"headers": Dialect.ANTHROPIC}, False),
    "words and whole seconds": ({}, True),
    "milliseconds": ({"retry_after_ms": True}, False),
    "nothing at all": ({"retry_after": False}, False),
    "in the stream": ({"in_band": True}, False),
    "in the stream, in words": ({"in_band": True}, True),
}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("saying", SAYINGS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_limit_is_used_and_hardly_passed(scenario: str, saying: str, seed: int) -> None:
    update, says = SAYINGS[saying]
    night = Night(plan=SCENARIOS[scenario].model_copy(update=update), says=says, seed=seed)
    _assert_kept(night, time_vs_ideal=1.15, refused_share=0.10)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whole_seconds_alone_cost_a_little_more(scenario: str) -> None:
    for seed in (1, 2, 3):
        _assert_kept(Night(plan=SCENARIOS[scenario], seed=seed), time_vs_ideal=1.2, refused_share=0.10)


@pytest.mark.parametrize("headers", list(Dialect))
@pytest.mark.parametrize(
    ("update", "time_vs_ideal"),
    [
        ({"burst_seconds": 60}, 1.2),
        ({"requests_per_minute": 100, "window_seconds": 60}, 1.15),
        ({"window_seconds": 10}, 1.15),
        ({"retry_after_seconds": 0}, 1.15),
        ({"changes": (LimitChange(after_seconds=10, requests_per_minute=300),)}, 1.15),
        ({"changes": (LimitChange(after_seconds=10, requests_per_minute=1200),)}, 1.25),
        ({"changes": (LimitChange(after_seconds=20, requests_per_minute=60),)}, 1.5),
        # One request at a time fits in: with whole seconds to wait, each refusal costs ten places.
        ({"burst_seconds": 0.1}, 3.0),
    ],
)
def test_limits_of_other_kinds_are_kept_too(update: dict[str, object], time_vs_ideal: float, headers: Dialect) -> None:
    plan = SCENARIOS["requests"].model_copy(update={**update, "headers": headers})
    _assert_kept(Night(plan=plan), time_vs_ideal=time_vs_ideal, refused_share=0.10)


@pytest.mark.parametrize("headers", [Dialect.OPENAI, Dialect.ANTHROPIC])
@pytest.mark.parametrize("a_minute", [6, 15, 30, 60])
def test_a_low_limit_that_headers_tell_is_used_and_hardly_passed(a_minute: int, headers: Dialect) -> None:
    """One request at a time fits in: on its way, the next one comes a moment too early as often as not."""
    for plan in (LimitPlan(requests_per_minute=a_minute), LimitPlan(tokens_per_minute=a_minute * (TOKENS_IN + 60))):
        night = Night(plan=plan.model_copy(update={"headers": headers}), customers=100)
        _assert_kept(night, time_vs_ideal=1.1, refused_share=0.08)


def test_whoever_was_told_when_to_come_back_has_room_for_one_request_then() -> None:
    pace = Pace(0.0)
    sent = pace.send(1.0, 0.0)
    pace.hear(Allowance(limit=6, remaining=0), sent, 0.0, refused=True)
    pace.refuse(sent, 0.0)
    pace.reopen(1.0, closed_s=1.0)
    assert pace.wait(1.0, 1.0) == 0.0
    pace.send(1.0, 1.0)
    assert pace.wait(1.0, 1.0) == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("a_minute", [30, 60, 100, 600])
def test_a_window_that_is_used_up_without_a_word_is_used_again_when_it_opens(a_minute: int) -> None:
    """Nothing at all is let in until it does, which says nothing of the rate."""
    plan = LimitPlan(requests_per_minute=a_minute, window_seconds=60, retry_after=False)
    _assert_kept(Night(plan=plan, customers=round(a_minute * 6.5)), time_vs_ideal=1.2, refused_share=0.3)


@pytest.mark.parametrize("headers", [Dialect.OPENAI, Dialect.OFF])
def test_answers_from_a_moment_to_twenty_seconds_leave_no_gap(headers: Dialect) -> None:
    plan = SCENARIOS["requests"].model_copy(update={"headers": headers})
    night = Night(plan=plan, answer_tokens=(20, 2400), workers=256)
    _assert_kept(night, time_vs_ideal=1.3, refused_share=0.10)


@pytest.mark.parametrize("estimate", [0.5, 2.0])
def test_a_wrong_estimate_of_tokens_is_corrected_by_what_was_used(estimate: float) -> None:
    plan = SCENARIOS["tokens"].model_copy(update={"headers": Dialect.OPENAI})
    _assert_kept(Night(plan=plan, estimate=estimate), time_vs_ideal=1.15, refused_share=0.10)


@pytest.mark.parametrize("scenario", ["tokens", "both"])
@pytest.mark.parametrize("headers", [Dialect.OPENAI, Dialect.OFF])
def test_tokens_that_are_charged_and_never_used_are_reckoned_with(headers: Dialect, scenario: str) -> None:
    plan = SCENARIOS[scenario].model_copy(update={"headers": headers, "tokens_per_minute": TOKENS * 1.3})
    _assert_kept(Night(plan=plan, charged_besides=380, says=True), time_vs_ideal=1.15, refused_share=0.10)


def test_a_wish_for_a_long_wait_is_kept_though_it_is_a_lie() -> None:
    night = Night(plan=LimitPlan(requests_per_minute=A_MINUTE, retry_after_seconds=20))
    outcome = simulate(night)
    assert outcome.served == night.customers
    groups = [moment for moment, after in _gaps(outcome.refused_at) if after > 1]
    for refused_at in groups:
        assert not [at for at in outcome.arrivals if refused_at + 0.1 < at < refused_at + 20]


def test_after_a_pause_requests_come_paced() -> None:
    plan = LimitPlan(requests_per_minute=A_MINUTE, window_seconds=60, headers=Dialect.OFF)
    outcome = simulate(Night(plan=plan, customers=900))
    pauses = [at for (at, after) in _gaps(outcome.arrivals) if after > 5]
    assert pauses
    for before in pauses:
        begin = min(at for at in outcome.arrivals if at > before)
        assert sum(begin <= at < begin + 0.1 for at in outcome.arrivals) <= 25


def test_several_processes_do_not_wake_in_the_same_instant() -> None:
    plan = LimitPlan(requests_per_minute=A_MINUTE, window_seconds=60)
    outcome = simulate(Night(plan=plan, customers=900, processes=4))
    before = max(_gaps(outcome.arrivals), key=lambda gap: gap[1])[0]
    begin = min(at for at in outcome.arrivals if at > before)
    assert sum(begin <= at < begin + 0.02 for at in outcome.arrivals) <= 10


def test_a_limit_of_nothing_closes() -> None:
    assert simulate(Night(plan=LimitPlan(requests_per_minute=0, headers=Dialect.OPENAI))).closed
    assert simulate(Night(plan=LimitPlan(requests_per_minute=0), says=True)).closed


def test_an_endpoint_that_refuses_everything_closes_when_patience_ends() -> None:
    outcome = simulate(Night(plan=LimitPlan(requests_per_minute=0, retry_after=False), patience_s=300))
    assert outcome.closed
    assert outcome.duration_s > 300
    assert outcome.requests < 100


def test_without_a_known_limit_nothing_waits() -> None:
    assert Pace(0.0).wait(1.0, 0.0) == 0.0


def test_what_is_left_is_used_at_once() -> None:
    pace = Pace(0.0)
    first = pace.send(1.0, 0.0)
    pace.hear(Allowance(limit=60, remaining=59, reset_s=1), first, 0.0, refused=False)
    sent = 0
    while not pace.wait(1.0, 0.0):
        pace.send(1.0, 0.0)
        sent += 1
    assert 50 <= sent <= 59


def test_a_word_of_what_is_left_that_is_never_true_is_not_believed_for_ever() -> None:
    pace = Pace(0.0)
    now = 0.0
    for _ in range(40):
        now += max(pace.wait(1.0, now), 0.001)
        sent = pace.send(1.0, now)
        pace.hear(Allowance(limit=60_000, remaining=59_000), sent, now, refused=True)
        pace.refuse(sent, now)
    rate = pace.rate(now)
    assert rate is not None
    assert rate < 100


@pytest.mark.parametrize("a_minute", [0.1, 6.0, 30.0])
def test_a_rate_that_was_found_far_too_low_grows_though_it_is_shared_every_second(a_minute: float) -> None:
    found, now, rate = FoundRate(), 1_000.0, None
    found.allotted(a_minute / 60, 1.0, now, fresh=False)
    for _ in range(90):
        now += 1.1
        rate = found.at(now)
        assert rate is not None
        found.in_the_way(now)
        found.allotted(rate, 1.0, now + 0.005, fresh=True)
    assert rate is not None
    assert rate > 10


def test_a_shared_rate_is_taken_as_it_is_and_goes_on_where_it_was() -> None:
    found = FoundRate()
    found.allotted(2.0, 1.0, 0.0, fresh=True)
    for now in (1.0, 5.0, 8.0):
        rate = found.at(now)
        assert rate is not None
        found.allotted(rate / 3, 1.0, now, fresh=True)
        assert found.at(now) == pytest.approx(rate / 3)


@pytest.mark.parametrize(("portion", "held_s"), [(1.0, 4.8), (0.25, 2.5), (0.5, 2.5), (0.01, 2.5)])
def test_how_long_a_rate_is_held_to_goes_by_the_whole_of_it(portion: float, held_s: float) -> None:
    """A process of four waits no four times as long: what the others are refused teaches it as well."""
    found, whole = FoundRate(), 2.5 if portion == 1 else 10.0
    found.allotted(whole * portion, portion, 0.0, fresh=True)
    held, grown = found.at(held_s - 0.01), found.at(held_s + 0.5)
    assert held is not None
    assert grown is not None
    assert held <= whole * portion < grown


def test_a_found_limit_that_is_lifted_is_left_behind_however_far() -> None:
    pace, now = Pace(0.0), 0.0
    for _ in range(20):
        now += 2.0
        pace.send(1.0, now)
    pace.refuse(pace.send(1.0, now), now)
    until, sent = now + 240.0, 0
    while now < until and sent < 50_000:
        now += max(pace.wait(1.0, now), 0.001)
        pace.send(1.0, now)
        sent += 1
    assert (pace.rate(now) or 0.0) > 500


def test_a_found_limit_that_nobody_is_held_up_by_does_not_grow_without_end() -> None:
    found = FoundRate()
    found.allotted(1.0, 1.0, 0.0, fresh=True)
    assert found.at(1e6) == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("at_a_time", [1, 4])
@pytest.mark.parametrize(
    ("head", "words"),
    [(200, "too many requests"), (429, "payload too large for your current tier"), (429, "Rate limit exceeded")],
)
def test_an_endpoint_that_refuses_every_request_is_left_alone_longer_and_longer(
    head: int, words: str, at_a_time: int
) -> None:
    gate, now, asked = _gate(), 0.0, 0
    while now < 8.0:
        wait_s = gate.wait(100, now)
        if wait_s:
            now += wait_s
            continue
        requests = [gate.send(100, now) for _ in range(at_a_time)]
        asked += at_a_time
        now += 0.01
        for request in requests:
            gate.hear(request, head, {}, now)
        for request in requests:
            status = head if head >= 400 else None
            refusal = RateLimitedError("no", status=status, words=words, in_band=head < 400)
            gate.end(request, AnswerRecord(), refusal, now)
    assert asked <= 16 * at_a_time


def test_a_first_refusal_is_followed_by_a_pause_where_no_rate_is_known() -> None:
    gate = _gate()
    request = gate.send(100, 0.0)
    gate.hear(request, 200, {}, 0.1)
    gate.end(request, AnswerRecord(), RateLimitedError("no", in_band=True), 0.1)
    assert gate.wait(100, 0.1) >= 0.05


def test_nothing_is_found_out_from_refusals_inside_the_stream_before_anybody_was_answered() -> None:
    gate, now = _gate(), 0.0
    for _ in range(20):
        now += gate.wait(100, now)
        requests = [gate.send(100, now) for _ in range(4)]
        for request in requests:
            gate.hear(request, 200, {}, now + 0.01)
        now += 1.2
        for request in (requests[2], requests[0], requests[1], requests[3]):
            gate.end(request, AnswerRecord(), RateLimitedError("no", in_band=True), now)
    assert gate.report(now).requests_per_minute is None


def test_a_time_in_which_nobody_asks_is_no_part_of_an_outage() -> None:
    closing = Closing(random.Random(1))
    closing.refuse(0.0, 30.0, "no")
    closing.refuse(100.0, None, "no")
    assert closing.refused_since == 0.0
    closing.refuse(2_000.0, None, "no")
    assert closing.refused_since == 2_000.0


def test_refusals_that_come_while_it_is_closed_make_the_pause_no_longer() -> None:
    closing = Closing(random.Random(1))
    for moment in (0.0, 0.2, 0.5):
        closing.refuse(moment, None, "no", paced=False)
    assert closing.wished_for_s(0.5) == pytest.approx(0.2)
    for _ in range(5):
        closing.refuse(0.6, None, "no", paced=False)
    assert closing.wished_for_s(0.6) == pytest.approx(0.2, abs=0.11)


def _gate() -> Gate:
    return Gate(16, name="m", patience_s=900, chance=random.Random(1), now=0.0)


def _assert_kept(night: Night, *, time_vs_ideal: float, refused_share: float) -> None:
    outcome = simulate(night)
    assert outcome.served == night.customers
    assert outcome.duration_s <= time_vs_ideal * ideal_s(night)
    assert outcome.refused_share <= refused_share


def _gaps(moments: list[float]) -> list[tuple[float, float]]:
    return [(earlier, later - earlier) for earlier, later in itertools.pairwise(sorted(moments))]
