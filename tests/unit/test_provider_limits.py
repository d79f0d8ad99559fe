"""The limits that the offline ranker keeps, on a clock that the tests hold: what is let in, when, and what is said."""

import math
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.admission import Gate, Limited, LimitRefusal
from pipeline.offline_ranker.limit_notices import duration, limit_error, limit_headers
from pipeline.offline_ranker.limits import Dialect, LimitChange, LimitPlan
from pipeline.offline_ranker.options import Options, read_options
from pipeline.offline_ranker.prompt_cache import PromptCache
from pipeline.offline_ranker.throughput import Throughput

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def admitted(gate: Gate, now: float, tokens: float = 1) -> int:
    """How many requests get in at this moment."""
    count = 0
    while gate.refusal(tokens, now) is None:
        gate.enter(tokens, now)
        count += 1
    return count


def wait(gate: Gate, now: float, tokens: float = 1) -> float:
    refusal = gate.refusal(tokens, now)
    return 0.0 if refusal is None else refusal.wait_s


def headers(dialect: Dialect, gate: Gate, now: float) -> dict[str, str]:
    return limit_headers(dialect, gate.allowances(now), NOW)


def test_without_limits_everybody_is_let_in() -> None:
    gate = Gate(LimitPlan())
    for _ in range(10_000):
        assert gate.refusal(1e9, 0) is None
        gate.enter(1e9, 0)


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    gate = Gate(LimitPlan(requests_per_minute=600))
    assert admitted(gate, 0) == 10
    assert wait(gate, 0) == pytest.approx(0.1)
    assert admitted(gate, 0.1) == 1
    assert sum(admitted(gate, 0.1 + step / 100) for step in range(1, 101)) == 10


def test_a_bucket_holds_no_more_than_its_burst_however_long_nobody_comes() -> None:
    gate = Gate(LimitPlan(requests_per_minute=600, burst_seconds=2))
    assert admitted(gate, 0) == 20
    assert admitted(gate, 1_000) == 20


def test_a_bucket_that_holds_less_than_a_request_lets_one_in_at_a_time() -> None:
    gate = Gate(LimitPlan(requests_per_minute=6))
    assert [admitted(gate, now) for now in (0, 5, 9.9, 10, 100)] == [1, 0, 0, 1, 1]


def test_a_request_of_more_tokens_than_the_burst_is_paid_off_by_waiting() -> None:
    gate = Gate(LimitPlan(tokens_per_minute=6_000))
    assert admitted(gate, 0, tokens=1_000) == 1
    assert wait(gate, 0, tokens=1_000) == pytest.approx(10)
    assert [admitted(gate, now, tokens=1_000) for now in (9.9, 10)] == [0, 1]


def test_a_request_of_more_than_a_minutes_tokens_never_gets_in() -> None:
    gate = Gate(LimitPlan(tokens_per_minute=6_000))
    refusal = gate.refusal(6_001, 0)
    assert refusal is not None
    assert math.isinf(refusal.wait_s)
    assert "Request too large" in str(limit_error(gate.plan, refusal))


def test_a_window_gives_all_it_has_at_once_and_nothing_until_the_next() -> None:
    gate = Gate(LimitPlan(requests_per_minute=60, window_seconds=10))
    assert admitted(gate, 0) == 10
    assert wait(gate, 4) == pytest.approx(6)
    assert [admitted(gate, now) for now in (9.9, 10, 19.9, 45)] == [0, 10, 0, 10]
    assert wait(gate, 45) == pytest.approx(5)


def test_a_refused_request_takes_nothing_from_either_rate() -> None:
    gate = Gate(LimitPlan(requests_per_minute=600, tokens_per_minute=60_000))
    gate.enter(1_000, 0)
    before = gate.allowances(0)
    assert gate.refusal(1_000, 0) is not None
    assert gate.allowances(0) == before


def test_the_limit_that_is_longest_in_the_way_is_the_one_that_is_named() -> None:
    gate = Gate(LimitPlan(requests_per_minute=60, tokens_per_minute=6_000))
    gate.enter(500, 0)
    refusal = gate.refusal(100, 0)
    assert refusal is not None
    assert refusal.limited is Limited.TOKENS
    assert refusal.wait_s == pytest.approx(5)


def test_a_bucket_of_less_than_one_request_says_when_a_whole_one_is_there() -> None:
    gate = Gate(LimitPlan(requests_per_minute=6))
    gate.enter(1, 0)
    assert wait(gate, 0) == pytest.approx(10)
    assert gate.allowances(20)[Limited.REQUESTS].remaining == 1


def test_a_limit_that_is_taken_away_is_told_no_more() -> None:
    changes = (LimitChange(after_seconds=5, requests_per_minute=None),)
    gate = Gate(LimitPlan(requests_per_minute=600, changes=changes))
    assert Limited.REQUESTS in gate.allowances(0)
    assert Limited.REQUESTS not in gate.allowances(5)
    assert admitted_at_least(gate, 5, 1_000)


def admitted_at_least(gate: Gate, now: float, count: int) -> bool:
    for _ in range(count):
        if gate.refusal(1, now) is not None:
            return False
        gate.enter(1, now)
    return True


def test_a_limit_of_nought_lets_nobody_in_and_names_no_time() -> None:
    gate = Gate(LimitPlan(requests_per_minute=0))
    refusal = gate.refusal(1, 0)
    assert refusal is not None
    assert math.isinf(refusal.wait_s)
    error = limit_error(gate.plan, refusal)
    assert "Limit 0" in str(error)
    assert error.headers == {}
    assert headers(Dialect.OPENAI, gate, 0)["x-ratelimit-remaining-requests"] == "0"


def test_places_are_given_back() -> None:
    gate = Gate(LimitPlan(concurrency=2))
    assert admitted(gate, 0) == 2
    gate.leave()
    assert admitted(gate, 0) == 1


def test_limits_change_at_their_time_counted_from_the_first_request() -> None:
    changes = (
        LimitChange(after_seconds=10, requests_per_minute=60),
        LimitChange(after_seconds=20, requests_per_minute=None),
    )
    gate = Gate(LimitPlan(requests_per_minute=600, changes=changes))
    assert admitted(gate, 100) == 10
    assert gate.next_change_s(101) == pytest.approx(9)
    assert [admitted(gate, now) for now in (109.99, 110.0, 110.5, 111)] == [10, 0, 0, 1]
    assert gate.refusal(1, 120) is None
    assert gate.plan.requests_per_minute is None
    assert gate.next_change_s(120) is None


def test_a_change_of_one_rate_leaves_what_is_left_of_the_other() -> None:
    change = LimitChange(after_seconds=0.05, requests_per_minute=6_000)
    gate = Gate(LimitPlan(requests_per_minute=600, tokens_per_minute=6_000, changes=(change,)))
    gate.enter(100, 0)
    assert gate.allowances(0.1)[Limited.TOKENS].remaining == pytest.approx(10)


def test_changes_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="order of their times"):
        LimitPlan(changes=(LimitChange(after_seconds=2), LimitChange(after_seconds=1)))


def test_a_refusal_is_worded_as_providers_word_it() -> None:
    refusal = LimitRefusal(Limited.REQUESTS, 0.1, 600, 600, 1)
    error = limit_error(LimitPlan(retry_after_ms=True), refusal)
    assert str(error) == (
        "Rate limit reached for offline-ranker in organization offline on requests per min (RPM): Limit 600, Used 600, "
        "Requested 1. Please try again in 100ms."
    )
    assert error.status == 429
    assert error.headers == {"retry-after": "1", "retry-after-ms": "100"}
    assert limit_error(LimitPlan(retry_after=False), refusal).headers == {}
    lie = LimitPlan(retry_after_seconds=86_400)
    assert limit_error(lie, refusal).headers == {"retry-after": "86400"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.02, "20ms"), (1, "1s"), (1.25, "1.25s"), (360, "6m0s"), (86.4, "1m26.4s"), (7_322.5, "2h2m2.5s")],
)
def test_durations_have_the_form_of_the_first_dialect(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_both_dialects_tell_the_same() -> None:
    gate = Gate(LimitPlan(requests_per_minute=600, tokens_per_minute=60_000))
    gate.enter(250, 0)
    assert headers(Dialect.OPENAI, gate, 0) == {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "100ms",
        "x-ratelimit-limit-tokens": "60000",
        "x-ratelimit-remaining-tokens": "750",
        "x-ratelimit-reset-tokens": "250ms",
    }
    told = headers(Dialect.ANTHROPIC, gate, 0)
    assert told["anthropic-ratelimit-requests-remaining"] == "9"
    assert told["anthropic-ratelimit-tokens-reset"] == "2026-03-01T12:00:00Z"
    assert headers(Dialect.OFF, gate, 0) == {}


def test_a_limit_that_is_not_there_is_not_told() -> None:
    gate = Gate(LimitPlan(requests_per_minute=600))
    assert not [name for name in headers(Dialect.OPENAI, gate, 0) if name.endswith("tokens")]


def test_streams_share_what_the_server_makes_and_get_it_back() -> None:
    throughput = Throughput(per_stream=50, total=100)
    throughput.open(0)
    assert throughput.progress(1) == 50
    for _ in range(3):
        throughput.open(1)
    assert throughput.rate == 25
    assert throughput.progress(3) == 100
    for _ in range(3):
        throughput.close(3)
    assert throughput.progress(4) == 150
    throughput.set_total(10, 4)
    assert throughput.progress(5) == 160


def test_a_stream_without_a_pace_is_as_fast_as_it_goes() -> None:
    throughput = Throughput(per_stream=0)
    throughput.open(0)
    assert math.isinf(throughput.rate)
    throughput.set_total(10, 5)
    assert throughput.progress(6) == 10


def test_the_beginning_that_prompts_share_is_cached_in_steps() -> None:
    cache = PromptCache()
    common = "".join(f"{number:04d}" for number in range(1_200))
    assert cache.cached_tokens(common + "a" * 4_000) == 0
    assert cache.cached_tokens(common + "b" * 4_000) == 1_152
    assert cache.cached_tokens(common + "b" * 4_000) == 2_176
    assert cache.cached_tokens("x" + common) == 0


def test_what_follows_another_beginning_is_not_cached() -> None:
    cache = PromptCache()
    rest = "r" * 4_000
    assert cache.cached_tokens("a" * 4_096 + rest) == 0
    assert cache.cached_tokens("b" * 4_096 + rest) == 0


def test_a_short_prompt_is_never_cached() -> None:
    cache = PromptCache()
    short = "a" * (1_023 * 4)
    assert [cache.cached_tokens(short) for _ in range(2)] == [0, 0]


def test_a_plan_survives_the_command_line() -> None:
    plan = LimitPlan(
        requests_per_minute=600,
        tokens_per_minute=None,
        concurrency=7,
        burst_seconds=60,
        window_seconds=10,
        headers=Dialect.ANTHROPIC,
        retry_after=False,
        retry_after_ms=True,
        retry_after_seconds=0,
        in_band=True,
        shared_tokens_per_second=100,
        prompt_cache=True,
        changes=(
            LimitChange(after_seconds=1.5, requests_per_minute=60, concurrency=None),
            LimitChange(after_seconds=2, tokens_per_minute=9),
        ),
    )
    options = Options(limits=plan)
    assert read_options(options.flags()).limits == plan


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--requests-per-minute=many", "--requests-per-minute"),
        ("--requests-per-minute=-1", "--requests-per-minute"),
        ("--tokens-per-minute=nan", "--tokens-per-minute"),
        ("--concurrency=1.5", "--concurrency"),
        ("--burst=0", "--burst"),
        ("--limit-headers=french", "--limit-headers"),
        ("--limit-in-band=perhaps", "--limit-in-band"),
        ("--limit-change=5", "--limit-change"),
        ("--limit-change=5:burst=3", "--limit-change"),
        ("--limit-change=soon:concurrency=3", "--limit-change"),
    ],
)
def test_a_flag_that_makes_no_sense_is_one_line_that_names_it(flag: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        read_options([flag])
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)
