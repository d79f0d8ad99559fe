"""What an endpoint says of its limits: headers of several providers, the words of refusals, and garbage in both."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.limits.dialects import DIALECTS
from pipeline.limits.notices import MOST_ALLOWED, NO_NOTICE, Allowance, Notice, read_notice
from pipeline.limits.refusal_words import cause_in
from pipeline.refusals import MAX_WAIT_S

NAMES = [name for dialects in DIALECTS.values() for names in dialects for name in names[:3]]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("1m26.4s", 86.4),
        ("7.66s", 7.66),
        ("1h0m0s", 3600),
        ("33011.382867", 33011.382867),
        ("0", 0),
    ],
)
def test_durations_are_read_in_every_form(text: str, seconds: float) -> None:
    notice = read_notice({"x-ratelimit-limit-tokens": "100", "x-ratelimit-reset-tokens": text})
    assert notice.tokens is not None
    assert notice.tokens.reset_s == pytest.approx(seconds)


def test_the_dialect_of_openai_is_read() -> None:
    notice = read_notice(
        {
            "x-ratelimit-limit-requests": "600",
            "x-ratelimit-remaining-requests": "599",
            "x-ratelimit-reset-requests": "100ms",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-tokens": "149000",
            "x-ratelimit-reset-tokens": "400ms",
        }
    )
    assert notice == Notice(Allowance(600, 599, 0.1), Allowance(150_000, 149_000, 0.4))
    assert notice.requests is not None
    assert notice.requests.per_second == 10


def test_the_dialect_of_anthropic_is_read_by_the_answers_own_clock() -> None:
    answered = datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC)
    notice = read_notice(
        {
            "date": format_datetime(answered, usegmt=True),
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": (answered + timedelta(seconds=30)).isoformat(),
            "anthropic-ratelimit-tokens-limit": "40000",
            "anthropic-ratelimit-tokens-remaining": "100",
            "anthropic-ratelimit-tokens-reset": "2031-05-04T03:03:01Z",
            "retry-after": format_datetime(answered + timedelta(seconds=7), usegmt=True),
        }
    )
    assert notice == Notice(Allowance(50, 0, 30), Allowance(40_000, 100, 60), retry_after_s=7)


def test_a_limit_of_a_day_under_the_name_of_a_minutes_is_no_rate() -> None:
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "2m59.56s",
    }
    requests = read_notice(headers).requests
    assert requests is not None
    assert requests.per_second is None
    early = read_notice({**headers, "x-ratelimit-remaining-requests": "14390", "x-ratelimit-reset-requests": "60s"})
    assert early.requests is not None
    assert early.requests.window_s == 86_400


def test_a_limit_a_minute_is_preferred_to_one_a_day() -> None:
    notice = read_notice(
        {
            "x-ratelimit-limit-requests-day": "1000",
            "x-ratelimit-limit-requests-minute": "30",
            "ratelimit-limit": "9, 9;w=1",
        }
    )
    assert notice.requests is not None
    assert notice.requests.per_second == 0.5


def test_the_window_that_a_limit_names_counts() -> None:
    requests = read_notice({"ratelimit-limit": "100, 100;w=10", "ratelimit-remaining": "99"}).requests
    assert requests is not None
    assert requests.per_second == 10


def test_a_limit_of_nothing_is_a_limit() -> None:
    assert read_notice({"x-ratelimit-limit-requests": "0"}).requests == Allowance(0)


@pytest.mark.parametrize(
    "garbage", ["", "-5", "many", "nan", "inf", "1e9", "½", "١٢", "600s", "0x10", "9" * 400, "\x00"]
)
def test_garbage_is_no_notice(garbage: str) -> None:
    assert read_notice({"x-ratelimit-limit-requests": garbage}) == NO_NOTICE


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*NAMES, "date", "retry-after", "retry-after-ms"]),
        st.text() | st.from_regex(r"\A[0-9a-zT:.;=,+ -]{0,30}\Z"),
    )
)
def test_whatever_headers_hold_values_are_bounded(headers: dict[str, str]) -> None:
    notice = read_notice(headers)
    assert notice.retry_after_s is None or 0 <= notice.retry_after_s <= MAX_WAIT_S
    for allowance in (notice.requests, notice.tokens):
        if allowance is not None:
            assert allowance.limit is None or 0 <= allowance.limit <= MOST_ALLOWED
            assert allowance.remaining is None or 0 <= allowance.remaining <= MOST_ALLOWED
            assert allowance.reset_s is None or 0 <= allowance.reset_s <= MAX_WAIT_S
            assert allowance.window_s >= 1


@pytest.mark.parametrize(
    ("words", "about", "limit"),
    [
        (
            "Rate limit reached for M in organization O on requests per min (RPM): Limit 600, Used 600, Requested 1.",
            "requests",
            600,
        ),
        ("Rate limit reached for M on tokens per min (TPM): Limit 10000, Used 9500, Requested 1200.", "tokens", 10_000),
        ("Rate limit reached for M on tokens per day (TPD): Limit 500000, Used 499000", "tokens", None),
        ("Limit: 90,000 / min. Current: 90,100 tokens per min.", "tokens", 90_000),
        ("limit: 1_500 tokens per minute", "tokens", 1_500),
        ("requests per minute limit 0.5 reached", "requests", 0.5),
        ("Limit 60.", None, None),
        ("Limit 90k tokens per min", "tokens", None),
        ("Limit 9,00 tokens per min", "tokens", None),
        ("Limit 90.000 tokens per min", "tokens", None),
        ("payload too large for your current tier: 60 requests per min", "requests", None),
        ("Number of concurrent connections has exceeded your rate limit.", "concurrency", None),
        ("Number of request tokens has exceeded your per-minute rate limit", "tokens", None),
        ("Number of requests has exceeded your per-minute rate limit", "requests", None),
        ("Too many requests", None, None),
        ("", None, None),
    ],
)
def test_the_words_of_a_refusal_say_what_it_is_about(words: str, about: str | None, limit: float | None) -> None:
    cause = cause_in(words)
    assert cause.about == about
    assert (cause.allowance.limit if cause.allowance else None) == limit
