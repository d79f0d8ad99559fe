"""What one event of a chat completion says: text, usage, endings, errors; and nothing that crashes the reader."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.deltas import AnswerText, Delta, read_delta
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
    "completion_tokens", "prompt_tokens_details", "cached_tokens", "model", "error", "code", "type", "tool_calls",
    "function", "function_call", "arguments", "text", "x_groq", "object", "detail", "status", "param", "loc", "errors",
)  # fmt: skip
NEARLY_RIGHT = st.recursive(
    JSON_VALUE,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


def read(*, event: str = "message", **body: object) -> Delta:
    return read_delta(json.dumps(body).encode(), event)


def choice(**fields: object) -> list[dict[str, object]]:
    return [{"index": 0, **fields}]


def delta(**fields: object) -> Delta:
    return read(choices=choice(delta=fields))


def call(arguments: object, **fields: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": "rank", "arguments": arguments}, **fields}


def texts(delta: Delta) -> list[tuple[str, int]]:
    return [(piece.text, piece.channel) for piece in delta.texts]


def test_a_chunk_gives_its_text() -> None:
    read_back = read(model="m", choices=choice(delta={"content": "é\u2028"}))
    assert read_back == Delta(texts=(AnswerText("é\u2028", channel=0),), model="m")


def test_a_whole_answer_gives_its_text_and_its_reason() -> None:
    whole = read(choices=choice(message={"content": "all"}, finish_reason="stop"))
    assert (texts(whole), whole.finish_reason) == ([("all", 0)], "stop")


def test_an_older_completion_gives_its_text() -> None:
    assert texts(read(object="text_completion", choices=choice(text="old"))) == [("old", 0)]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "b"}], "b"),
        ([{"text": "a"}, "b", None, 5, {"type": "image_url"}, {"type": "text", "text": None}], "ab"),
        ({"type": "text", "text": "a"}, "a"),
    ],
)
def test_content_in_parts_gives_the_texts_among_them(content: object, text: str) -> None:
    assert texts(delta(content=content)) == [(text, 0)]


@pytest.mark.parametrize(
    "content", [None, "", [], {}, 5, True, [[]], [{"type": "refusal", "text": "no"}], [{"type": []}]]
)
def test_content_without_a_text_says_nothing(content: object) -> None:
    assert delta(content=content) == Delta()


def test_a_tool_calls_arguments_are_text_of_their_own_channel() -> None:
    assert texts(delta(tool_calls=[call('{"i":', index=0)])) == [('{"i":', 1)]
    assert texts(delta(content="c", tool_calls=[call("b", index=1), call("a", index=0)])) == [
        ("c", 0),
        ("b", 2),
        ("a", 1),
    ]


def test_a_tool_call_without_an_index_has_that_of_its_place() -> None:
    assert texts(delta(tool_calls=[call("a"), call("b", index=None), call("c", index="x"), call("d", index=-1)])) == [
        ("a", 1),
        ("b", 2),
        ("c", 3),
        ("d", 4),
    ]


def test_channels_are_bounded() -> None:
    many = delta(tool_calls=[call("a", index=10**9), *(call("b") for _ in range(500))])
    assert max(piece.channel for piece in many.texts) == 128
    assert texts(delta(tool_calls=[call("a", index=127), call("b", index=128)])) == [("a", 128), ("b", 2)]


def test_an_older_function_call_is_the_first_tool_call() -> None:
    assert texts(delta(content=None, function_call={"name": "rank", "arguments": "a"})) == [("a", 1)]


def test_arguments_that_the_endpoint_has_read_already_are_text_again() -> None:
    whole = read(choices=choice(message={"content": None, "tool_calls": [call({"recommendations": [{"i": 1}]})]}))
    assert [json.loads(piece.text) for piece in whole.texts] == [{"recommendations": [{"i": 1}]}]
    assert texts(delta(tool_calls=[call([{"product_name": "é\u2028"}])])) == [('[{"product_name": "é\u2028"}]', 1)]


@pytest.mark.parametrize(
    "calls", [None, {}, [None], [5], [{}], [{"function": None}], [{"function": {"name": "rank"}}], [call(None)], "x"]
)
def test_a_tool_call_without_arguments_says_nothing(calls: object) -> None:
    assert delta(tool_calls=calls) == Delta()


def test_a_refusal_is_not_text() -> None:
    assert delta(content=None, refusal="no") == Delta(refusal="no")


def test_a_refusal_holds_nothing_that_a_terminal_or_a_database_refuses() -> None:
    read_back = read_delta(b'{"choices":[{"delta":{"refusal":"n\\ud83do\\u0000"}}]}')
    assert read_back.refusal == "n?o"


def test_reasoning_is_never_read_as_answer() -> None:
    hidden = {"reasoning_content": "hm", "reasoning": "hm", "reasoning_details": [{"text": "hm"}], "thinking": "hm"}
    assert delta(**hidden, content="") == Delta()


def test_only_the_first_choice_is_ours() -> None:
    others = [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]
    assert texts(read(choices=others)) == [("a", 0)]
    assert texts(read(choices=others[:1])) == []
    assert texts(read(choices=[{"index": None, "delta": {"content": "a"}}])) == [("a", 0)]
    assert texts(read(choices=[{"delta": {"content": "a"}}, {"delta": {"content": "b"}}])) == [("a", 0)]


def test_usage_counts_tokens_and_cached_ones() -> None:
    counts = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}}
    usage = Usage(tokens_in=7, tokens_out=2, tokens_cached=5)
    assert read(choices=[], usage=counts).usage == usage
    assert read(choices=[], usage=None, x_groq={"id": "r", "usage": counts}).usage == usage
    assert read(choices=choice(delta={}, usage=counts)).usage == usage
    assert read(usage={"prompt_tokens": 7.0, "completion_tokens": 2, "prompt_cache_hit_tokens": 5}).usage == usage
    assert read(usage={"input_tokens": 7, "output_tokens": 2, "cache_read_input_tokens": 5}).usage == usage


@pytest.mark.parametrize("count", [1, 1.0, 10**9])
def test_a_count_may_be_from_one_to_a_thousand_million(count: float) -> None:
    assert read(usage={"prompt_tokens": count, "completion_tokens": 0}).usage == Usage(tokens_in=int(count))


@pytest.mark.parametrize("count", [None, 0, -1, "7", 1.5, True, 10**9 + 1, 10**30, [], {}])
def test_a_count_that_is_none_is_zero(count: object) -> None:
    assert read(usage={"prompt_tokens": count, "completion_tokens": 2}).usage == Usage(tokens_out=2)


@pytest.mark.parametrize("usage", [None, {}, [], "many", 5, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_usage_without_a_count_is_unsaid(usage: object) -> None:
    assert read(choices=[], usage=usage).usage is None


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("tool_calls", "stop"),
        ("function_call", "stop"),
        ("end_turn", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("content_filter: RECITATION", "content_filter"),
        ("SAFETY", "content_filter"),
        ("refusal", "content_filter"),
        ("repetition", "repetition"),
        ("something_new", "something_new"),
    ],
)
def test_a_finish_reason_means_the_same_in_each_dialect(said: str, meant: str) -> None:
    assert read(choices=choice(delta={}, finish_reason=said)).finish_reason == meant


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource", "MALFORMED_FUNCTION_CALL"])
def test_a_finish_reason_that_is_a_failure_is_an_error(reason: str) -> None:
    with pytest.raises(EndpointRefusedError, match=reason.lower()) as caught:
        read(choices=choice(delta={}, finish_reason=reason))
    assert caught.value.in_band


@pytest.mark.parametrize("reason", ["null", "NULL", "none", "None", {"type": None}, {"type": "null"}])
def test_a_reason_that_is_none_written_out_is_unsaid(reason: object) -> None:
    assert read(choices=choice(delta={}, finish_reason=reason)) == Delta()


@pytest.mark.parametrize("value", [5, True, {}, [], "", None])
def test_a_reason_or_a_model_that_is_no_text_is_unsaid(value: object) -> None:
    assert read(model=value, choices=choice(delta={}, finish_reason=value)) == Delta()


def test_a_models_name_is_one_short_line() -> None:
    assert read(model="x" * 200).model == "x" * 200
    assert read(model="x" * 201).model != "x" * 201
    model = read(model="gpt\n\0" + "x" * 1_000).model
    assert model is not None
    assert model.isprintable()
    assert len(model) <= 200


@pytest.mark.parametrize(
    "data", [b"", b"oops", b"[1]", b'"text"', b"1", b"null", b"{", b'{"a":1}x', b"\xff", b"[" * 9999, b"[]", b"[{}]"]
)
def test_what_is_no_json_object_is_a_cut_answer(data: bytes) -> None:
    with pytest.raises(AnswerCutError) as caught:
        read_delta(data)
    assert len(str(caught.value)) < 500


def content(escaped: bytes) -> bytes:
    return b'{"choices":[{"index":0,"delta":{"content":"' + escaped + b'"}}]}'


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (b"\\ud83d\\ude00", "😀"),
        (b"a\\ud83d", "a\ud83d"),  # the other half is in the next delta
        (b"\\ude00b", "\ude00b"),
        (b"\\u0000", "\0"),
        (b"a\xffb", "a\ufffdb"),
        (b"a\tb", "a\tb"),
        (b"\xed\xa0\xbd", "\ufffd" * 3),
        (b"\\u2028\xe2\x80\xa8", "\u2028\u2028"),
    ],
)
def test_text_that_strict_json_refuses_is_read(escaped: bytes, text: str) -> None:
    assert texts(read_delta(content(escaped))) == [(text, 0)]


@pytest.mark.parametrize(
    "odd",
    [
        b'"logprobs":NaN',
        b'"created":-Infinity',
        b'"created":1e999',
        b'"created":' + b"9" * 10_000,
        b'"created":-' + b"9" * 10_000,
        b'"choices":[],"deep":' + b"[" * 150 + b"]" * 150,
        b'"choices":[],"deep":' + b"[" * 400 + b"]" * 400,
        b'"choices":5',
    ],
)
def test_odd_values_beside_the_text_do_not_hide_it(odd: bytes) -> None:
    data = b"{" + odd + b',"choices":[{"delta":{"content":"a"}}]}'  # of a name that comes twice, the last counts
    assert texts(read_delta(data)) == [("a", 0)]


def test_arguments_that_are_nested_without_end_are_a_cut_answer() -> None:
    deep = b'{"choices":[{"message":{"tool_calls":[{"function":{"arguments":' + b"[" * 900 + b"]" * 900 + b"}}]}}]}"
    with suppress(AnswerCutError):  # where the stack is long enough, it is the text that it is
        assert len(read_delta(deep).texts) == 1


def test_an_error_object_is_raised_with_its_own_words() -> None:
    with pytest.raises(EndpointRefusedError, match="the engine is overloaded") as caught:
        read(error={"message": "the engine\nis overloaded", "type": "server_error"})
    assert type(caught.value) is EndpointRefusedError
    assert caught.value.in_band
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "event", "words", "kind"),
    [
        # OpenAI, Azure, llama.cpp, LiteLLM
        ({"error": {"message": "w", "type": "server_error", "code": 500}}, "message", "w", EndpointRefusedError),
        ({"error": {"message": "w", "code": "rate_limit_exceeded"}}, "message", "w", RateLimitedError),
        ({"error": {"message": "w", "type": "None", "code": "429"}}, "message", "w", RateLimitedError),
        # Ollama
        ({"error": "w"}, "message", "w", EndpointRefusedError),
        # Gemini
        ([{"error": {"code": 429, "message": "w", "status": "RESOURCE_EXHAUSTED"}}], "message", "w", RateLimitedError),
        ([{"error": {"code": 400, "message": "API key not valid. x"}}], "message", "API key", EndpointFatalError),
        # Anthropic
        ({"type": "error", "error": {"type": "overloaded_error", "message": "w"}}, "error", "w", EndpointRefusedError),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "w"}}, "error", "w", RateLimitedError),
        # vLLM before 0.10, Mistral
        ({"object": "error", "message": "w", "type": "BadRequestError", "code": 400}, "", "w", PromptRefusedError),
        ({"object": "error", "message": "w", "type": "rate_limited", "code": "1300"}, "message", "w", RateLimitedError),
        ({"message": "w", "request_id": "r"}, "message", "w", EndpointRefusedError),
        ({"message": "w", "status": 401}, "message", "w", EndpointFatalError),
        # what says that it is an error, and little more
        ({"object": "error", "code": 500}, "message", "500", EndpointRefusedError),
        ({"type": "error", "choices": []}, "message", "error", EndpointRefusedError),
        ({"msg": "w"}, "message", "w", EndpointRefusedError),
        ({"errors": ["w"]}, "message", "w", EndpointRefusedError),
        # FastAPI
        ({"detail": "w"}, "message", "w", EndpointRefusedError),
        (
            {"detail": [{"loc": ["body", "model"], "msg": "w", "type": "missing"}]},
            "message",
            "body.model: w",
            EndpointRefusedError,
        ),
        # OpenRouter
        (
            {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": {"message": "w"}}]},
            "message",
            "w",
            EndpointRefusedError,
        ),
        (
            {"choices": [{"delta": {}, "finish_reason": "error"}], "error": {"code": 502, "message": "w"}},
            "message",
            "w",
            EndpointRefusedError,
        ),
        # Groq
        ({"choices": [{"delta": {}}], "x_groq": {"error": "over_capacity"}}, "", "over_cap", EndpointRefusedError),
        # events by name, whatever they hold
        ({"message": "w"}, "error", "w", EndpointRefusedError),
        ({"code": 503}, "error", "503", EndpointRefusedError),
        ({}, "error", "error", EndpointRefusedError),
        ("w", "error", "w", EndpointRefusedError),
        (None, "error", "error", EndpointRefusedError),
    ],
)  # fmt: skip
def test_an_error_is_found_in_each_dialect(
    data: object, event: str, words: str, kind: type[EndpointRefusedError]
) -> None:
    with pytest.raises(kind, match=words) as caught:
        read_delta(json.dumps(data).encode(), event)
    assert type(caught.value) is kind
    assert caught.value.in_band


def test_an_error_event_may_hold_plain_words() -> None:
    with pytest.raises(EndpointRefusedError, match="upstream went away"):
        read_delta(b"upstream went away", "error")


@pytest.mark.parametrize("error", [None, {}, "", False, []])
def test_an_empty_error_is_none(error: object) -> None:
    silent = read(error=error, x_groq={"error": error}, choices=choice(delta={"content": "a"}, error=error))
    assert texts(silent) == [("a", 0)]


@pytest.mark.parametrize(
    "body",
    [
        {"type": "ping"},
        {"object": "chat.completion.chunk", "choices": []},
        {"choices": [], "prompt_filter_results": [{"content_filter_results": {}}]},
        {"choices": [], "message": "not an error beside choices"},
        {"message": {"role": "assistant"}},
        {"message": ""},
        {"detail": []},
        {"usage": None},
    ],
)
def test_an_event_that_says_nothing_is_no_error(body: dict[str, Any]) -> None:
    assert read(**body) == Delta()


@pytest.mark.parametrize("message", ["text", ["text"], 5, True, None, {}])
@pytest.mark.parametrize("field", ["delta", "message"])
def test_a_message_that_is_no_object_says_nothing(field: str, message: object) -> None:
    assert read(choices=[{"index": 0, field: message}]) == Delta()


def test_an_error_that_comes_with_text_waits_until_the_text_is_given_on() -> None:
    both = read(choices=choice(message={"content": "half"}, finish_reason="error"), error={"message": "w", "code": 502})
    assert texts(both) == [("half", 0)]
    assert both.error is not None
    assert both.error.status == 502
    assert both.error.in_band


@UNHURRIED
@given(
    st.binary(max_size=100) | JSON_VALUE.map(lambda value: json.dumps(value).encode()), st.sampled_from(["", "error"])
)
def test_any_bytes_are_a_delta_or_one_of_our_errors(data: bytes, event: str) -> None:
    with suppress(AnswerError):
        read_delta(data, event)


MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "content": NEARLY_RIGHT | st.lists(st.dictionaries(st.sampled_from(["type", "text"]), JSON_VALUE), max_size=2),
        "refusal": JSON_VALUE,
        "tool_calls": st.lists(st.dictionaries(st.sampled_from(["index", "function"]), NEARLY_RIGHT), max_size=2),
        "function_call": NEARLY_RIGHT,
    },
)
CHOICE = st.fixed_dictionaries(
    {}, optional={"index": JSON_VALUE, "delta": MESSAGE, "message": MESSAGE, "finish_reason": JSON_VALUE}
)
BODY = st.dictionaries(st.sampled_from(FIELDS), NEARLY_RIGHT, max_size=5) | st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=2)},
    optional={"usage": NEARLY_RIGHT, "x_groq": NEARLY_RIGHT, "model": JSON_VALUE},
)


@UNHURRIED
@given(BODY)
def test_a_field_of_any_type_gives_a_delta_of_the_right_types(body: dict[str, object]) -> None:
    try:
        delta = read_delta(json.dumps(body).encode())
    except AnswerError:
        return
    assert all(type(piece.text) is str and piece.channel >= 0 for piece in delta.texts)
    assert isinstance(delta.refusal, str)
    assert isinstance(delta.finish_reason, str | None)
    assert isinstance(delta.model, str | None)
    assert isinstance(delta.usage, Usage | None)
