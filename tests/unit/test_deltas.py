"""What one event of a chat completion says: text, usage, endings, errors; and nothing that crashes the reader."""

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.deltas import Delta, read_delta, refusal_of
from pipeline.domain import Usage
from pipeline.errors import (
    AnswerCutError,
    AnswerError,
    EndpointFatalError,
    EndpointRefusedError,
    PromptRefusedError,
    RateLimitedError,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine too

JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "choices", "index", "delta", "message", "content", "refusal", "finish_reason", "usage", "prompt_tokens",
    "completion_tokens", "prompt_tokens_details", "cached_tokens", "model", "error", "code", "type",
)  # fmt: skip
NEARLY_RIGHT = st.recursive(
    JSON_VALUE,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


def read(**body: object) -> Delta:
    return read_delta(json.dumps(body).encode())


def choice(**fields: object) -> list[dict[str, object]]:
    return [{"index": 0, **fields}]


def test_a_chunk_gives_its_text() -> None:
    assert read(model="m", choices=choice(delta={"content": "é\u2028"})) == Delta(text="é\u2028", model="m")


def test_a_whole_answer_gives_its_text_and_its_reason() -> None:
    delta = read(choices=choice(message={"content": "all"}, finish_reason="stop"))
    assert (delta.text, delta.finish_reason) == ("all", "stop")


def test_a_refusal_is_not_text() -> None:
    assert read(choices=choice(delta={"content": None, "refusal": "no"})) == Delta(refusal="no")


def test_reasoning_is_never_read_as_answer() -> None:
    assert read(choices=choice(delta={"reasoning_content": "hm", "reasoning": "hm", "content": ""})) == Delta()


def test_only_the_first_choice_is_ours() -> None:
    others = [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]
    assert read(choices=others).text == "a"
    assert read(choices=others[:1]).text == ""
    assert read(choices=[{"index": None, "delta": {"content": "a"}}]).text == "a"
    assert read(choices=[{"delta": {"content": "a"}}]).text == "a"


def test_usage_counts_tokens_and_cached_ones() -> None:
    counts = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}}
    assert read(choices=[], usage=counts).usage == Usage(tokens_in=7, tokens_out=2, tokens_cached=5)


@pytest.mark.parametrize("count", [None, -1, "7", 1.5, 10**30, [], {}])
def test_a_count_that_is_none_is_zero(count: object) -> None:
    assert read(usage={"prompt_tokens": count, "completion_tokens": 2}).usage == Usage(tokens_out=2)


@pytest.mark.parametrize("value", [5, True, {}, [], "", None])
def test_a_reason_or_a_model_that_is_no_text_is_unsaid(value: object) -> None:
    assert read(model=value, choices=choice(finish_reason=value)) == Delta()


@pytest.mark.parametrize(
    "data", [b"", b"oops", b"[1]", b'"text"', b"1", b"null", b"{", b'{"a":1}x', b"\xff", b"[" * 9999]
)
def test_what_is_no_json_object_is_a_cut_answer(data: bytes) -> None:
    with pytest.raises(AnswerCutError) as caught:
        read_delta(data)
    assert len(str(caught.value)) < 500


def test_an_error_object_is_raised_with_its_own_words() -> None:
    with pytest.raises(EndpointRefusedError, match="the engine is overloaded") as caught:
        read(error={"message": "the engine\nis overloaded", "type": "server_error"})
    assert type(caught.value) is EndpointRefusedError
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_an_empty_error_is_none(error: object) -> None:
    assert read(error=error, choices=choice(delta={"content": "a"})).text == "a"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        ({"message": "m"}, None, EndpointRefusedError),
        ("only words", None, EndpointRefusedError),
        ({"code": "rate_limit_exceeded"}, None, RateLimitedError),
        ({"type": "rate_limit_error"}, None, RateLimitedError),
        ({"code": 429}, None, RateLimitedError),
        ({"code": "429"}, None, RateLimitedError),
        ({"code": "insufficient_quota"}, None, EndpointFatalError),
        ({"code": 401}, None, EndpointFatalError),
        ({"code": 1113}, None, EndpointRefusedError),
        ({"code": 0}, None, EndpointRefusedError),
        ({"code": True}, None, EndpointRefusedError),
        ({"code": "insufficient_quota"}, 429, EndpointFatalError),
        ({}, 429, RateLimitedError),
        ({}, 400, PromptRefusedError),
        ({"code": "context_length_exceeded"}, 400, PromptRefusedError),
        ({"code": "content_filter"}, 400, PromptRefusedError),
        ({}, 401, EndpointFatalError),
        ({}, 402, EndpointFatalError),
        ({}, 403, EndpointFatalError),
        ({}, 404, EndpointFatalError),
        ({}, 408, EndpointRefusedError),
        ({}, 409, EndpointRefusedError),
        ({}, 413, PromptRefusedError),
        ({}, 422, PromptRefusedError),
        ({}, 500, EndpointRefusedError),
        ({}, 503, EndpointRefusedError),
    ],
)
def test_an_error_is_of_the_kind_that_tells_whether_to_try_again(
    error: object, status: int | None, kind: type[EndpointRefusedError]
) -> None:
    assert type(refusal_of(error, status=status, retry_after=None)) is kind


def test_a_refusal_knows_its_status_and_its_wait() -> None:
    error = refusal_of({"message": "slow down"}, status=429, retry_after=7.5)
    assert (error.status, error.retry_after) == (429, 7.5)
    assert refusal_of({"code": 503}, status=None, retry_after=None).status == 503


def test_long_words_are_bounded() -> None:
    assert len(str(refusal_of({"message": "long " * 1_000}, status=500, retry_after=None))) < 400


@UNHURRIED
@given(st.binary(max_size=100) | JSON_VALUE.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_delta_or_one_of_our_errors(data: bytes) -> None:
    with suppress(AnswerError):
        read_delta(data)


@UNHURRIED
@given(st.dictionaries(st.sampled_from(FIELDS), NEARLY_RIGHT, max_size=5))
def test_a_field_of_any_type_gives_a_delta_of_the_right_types(body: dict[str, object]) -> None:
    try:
        delta = read(**body)
    except AnswerError:
        return
    assert isinstance(delta.text, str)
    assert isinstance(delta.refusal, str)
    assert isinstance(delta.finish_reason, str | None)
    assert isinstance(delta.model, str | None)
    assert isinstance(delta.usage, Usage | None)
