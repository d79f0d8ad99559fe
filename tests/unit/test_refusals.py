"""An endpoint's error as ours: the kind that tells whether to try again, its words, and how long to wait."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import EndpointFatalError, EndpointRefusedError, PromptRefusedError, RateLimitedError
from pipeline.refusals import MAX_WAIT_S, MOST_HEARD, bounded, refusal_of, retry_after_of, words_of


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        ({"message": "m"}, None, EndpointRefusedError),
        ("only words", None, EndpointRefusedError),
        ({"code": "rate_limit_exceeded"}, None, RateLimitedError),
        ({"type": "rate_limit_error"}, None, RateLimitedError),
        ({"status": "RESOURCE_EXHAUSTED"}, None, RateLimitedError),
        ({"code": 429}, None, RateLimitedError),
        ({"code": "429"}, None, RateLimitedError),
        ({"code": "insufficient_quota"}, None, EndpointFatalError),
        ({"type": "authentication_error"}, None, EndpointFatalError),
        ({"code": 401}, None, EndpointFatalError),
        ({"code": 1113}, None, EndpointRefusedError),
        ({"code": 0}, None, EndpointRefusedError),
        ({"code": True}, None, EndpointRefusedError),
        ({"code": "insufficient_quota"}, 429, EndpointFatalError),
        ([{"error": {"message": "API key not valid. Please pass a valid API key."}}], 400, EndpointFatalError),
        ({}, 429, RateLimitedError),
        # No waiting makes one request smaller than what a minute allows.
        (
            {
                "message": "Request too large for gpt-4 in organization o on tokens per min (TPM): Limit 10000, "
                "Requested 15000. The input or output tokens must be reduced in order to run successfully.",
                "type": "tokens",
                "code": "rate_limit_exceeded",
            },
            429,
            PromptRefusedError,
        ),
        ({}, 400, PromptRefusedError),
        ({"code": "context_length_exceeded"}, 400, PromptRefusedError),
        ({"code": "content_filter"}, 400, PromptRefusedError),
        ({}, 401, EndpointFatalError),
        ({}, 402, EndpointFatalError),
        ({}, 403, EndpointFatalError),
        ({}, 404, EndpointFatalError),
        ({}, 405, EndpointFatalError),
        ({}, 407, EndpointFatalError),
        ({}, 408, EndpointRefusedError),
        ({}, 409, EndpointRefusedError),
        ({}, 413, PromptRefusedError),
        ({}, 422, PromptRefusedError),
        ({}, 500, EndpointRefusedError),
        ({}, 503, EndpointRefusedError),
        ({"type": "overloaded_error"}, 529, EndpointRefusedError),
    ],
)
def test_an_error_is_of_the_kind_that_tells_whether_to_try_again(
    error: object, status: int | None, kind: type[EndpointRefusedError]
) -> None:
    assert type(refusal_of(error, status=status, retry_after=None)) is kind


def test_a_refusal_knows_its_status_its_wait_and_where_it_came() -> None:
    error = refusal_of({"message": "slow down"}, status=429, retry_after=7.5)
    assert (error.status, error.retry_after, error.in_band) == (429, 7.5, False)
    assert refusal_of({"code": 503}, status=None, retry_after=None, in_band=True).status == 503


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("plain", "plain"),
        ({"message": "m", "code": "c"}, "m"),
        ({"message": "", "code": "c"}, "c"),
        ({"error": {"error": "deep"}}, "deep"),
        ([{"error": {"message": "m"}}], "m"),
        ({"detail": [{"loc": ["body", "stream_options", 0], "msg": "no"}]}, "body.stream_options.0: no"),
        ({"message": "is not supported", "param": "response_format"}, "response_format: is not supported"),
        ({"message": "'temperature' is not supported", "param": "temperature"}, "'temperature' is not supported"),
        ({"message": "m", "metadata": {"raw": "r"}}, "m: r"),
        ({"message": "m", "metadata": {"raw": '{"error":{"message":"r","type":"t"}}'}}, "m: r"),
        ({"message": "m", "metadata": {"raw": '[{"error":{"message":"r"}}]'}}, "m: r"),
        ({"error": {"message": "m", "metadata": {"raw": {"detail": "r"}}}}, "m: r"),
        ({"message": "m", "metadata": {"raw": '{"cut sh'}}, 'm: {"cut sh'),
        ({"message": "m", "metadata": {"raw": '{"unknown": 1}'}}, 'm: {"unknown": 1}'),
        ({"message": "m", "metadata": {"raw": "[" * 60_000}}, "m: " + "[" * 297 + "…"),
        ({"message": "m", "metadata": {"raw": 5}}, "m"),
        ({"message": "m", "metadata": {"raw": "m"}}, "m"),
        ({"message": "m", "metadata": "r"}, "m"),
        ({"metadata": {"raw": "r"}}, "r"),
        ("<html><title>a &amp;\n b</title></html>", "a web page titled 'a & b'"),
        (" <!doctype HTML><TITLE lang=en>x</TITLE>", "a web page titled 'x'"),
        ("<?xml version='1.0'?><html><head><title>x</title>", "a web page titled 'x'"),
        ("<html><title> </title>", "a web page without a title"),
        ("<!-- x --><body>", "a web page without a title"),
        ("<Error><Code>Denied</Code> <Why>so</Why></Error>", "Denied so"),
        ("<nil>", "<nil>"),
        ("a < b", "a < b"),
        ({"message": "<html><title>x</title>"}, "a web page titled 'x'"),
        ("  ", "it gives no reason"),
        ({}, "it gives no reason"),
        (None, "it gives no reason"),
        (5, "it gives no reason"),
    ],
)
def test_an_errors_own_words_are_found_in_each_dialect(error: object, words: str) -> None:
    assert words_of(error) == words


def test_long_words_are_bounded() -> None:
    assert len(str(refusal_of({"message": "long " * 10_000}, status=500, retry_after=None))) < 400


def test_more_words_are_kept_to_be_searched_than_are_quoted() -> None:
    error = refusal_of({"message": "long\n" * 10_000}, status=500, retry_after=None)
    assert error.words == "long\n" * (MOST_HEARD // 5)


@pytest.mark.parametrize("status", [None, 304, 400, 402, 404, 408, 413, 422, 429, 451, 500, 501, 503, 529])
@pytest.mark.parametrize("error", ["words", {}, {"code": "insufficient_quota"}, {"code": "rate_limit_exceeded"}])
def test_every_refusal_says_in_one_line_what_happened_and_what_to_do(error: object, status: int | None) -> None:
    said = str(refusal_of(error, status=status, retry_after=None))
    assert re.fullmatch(r"the endpoint (answered \d{3}|sent an error in its stream): .+ \(.{9,}\)", said)


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached", "billing_error"])
@pytest.mark.parametrize("status", [None, 400, 403, 429])
def test_an_account_without_credit_is_not_told_to_wait(code: str, status: int | None) -> None:
    said = str(refusal_of({"message": "no", "code": code}, status=status, retry_after=None))
    assert "no credit left" in said
    assert "wait" not in said


@given(st.text("<>!/ title=htm&;'\n"))
def test_a_page_of_any_shape_gives_words(page: str) -> None:
    words_of(f"<{page}")


def test_words_are_one_printable_line() -> None:
    assert bounded("a\r\n\tb\0c\ud83d\x1b[31m") == "a b\ufffdc\ufffd\ufffd[31m"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "1" * 300}, MAX_WAIT_S),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
    ],
)
def test_headers_say_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_of(headers) == seconds


def test_a_date_is_held_against_the_answers_own_however_wrong_our_clock_is() -> None:
    answered = datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC)
    headers = {"date": format_datetime(answered), "retry-after": format_datetime(answered + timedelta(seconds=2))}
    assert retry_after_of(headers) == 2


def test_a_date_to_come_is_a_wait() -> None:
    then = datetime.now(UTC) + timedelta(minutes=10)
    seconds = retry_after_of({"retry-after": format_datetime(then, usegmt=True)})
    assert seconds is not None
    assert 500 < seconds <= 600


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Rate limit reached ... Please try again in 1.2s.", 1.2),
        ("Please try again in 812ms. Visit", 0.812),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 7m26.4s", 446.4),
        ("Please try again in 1h2m3s", 3723.0),
        ("Please retry in 35.466839542s.", 35.466839542),
        ("Please retry after 20 seconds.", 20.0),
        ("No deployments available, Try again in 60 seconds", 60.0),
        ("Please try again in 5 minutes", 300.0),
        ("Please try again in 999999999h", MAX_WAIT_S),
        ("Please try again in a moment", None),
        ("Please try again in 5 more ways", None),
        ("Please try again in 3", None),
        ("it took 20 seconds", None),
    ],
)
def test_words_say_how_long_to_wait_where_no_header_does(words: str, seconds: float | None) -> None:
    waited = refusal_of({"message": words}, status=429, retry_after=None).retry_after
    assert waited == (None if seconds is None else pytest.approx(seconds))
    assert refusal_of({"message": words}, status=429, retry_after=9.0).retry_after == 9.0


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text(max_size=30)))
def test_a_wait_is_within_its_bounds_whatever_the_headers_say(headers: dict[str, str]) -> None:
    seconds = retry_after_of(headers)
    assert seconds is None or 0 <= seconds <= MAX_WAIT_S


@pytest.mark.parametrize("error", [[{}] * 100_000, {"error": [{"error": [{}] * 1_000}] * 1_000}])
def test_an_error_of_many_parts_is_not_searched_through(error: object) -> None:
    assert "gives no reason" in str(refusal_of(error, status=400, retry_after=None))


@pytest.mark.parametrize("zone", ["+99999999999999", "+" + "9" * 30])
def test_a_date_of_an_impossible_zone_says_no_wait(zone: str) -> None:
    assert retry_after_of({"retry-after": f"Mon, 01 Jan 2024 00:00:00 {zone}"}) is None
