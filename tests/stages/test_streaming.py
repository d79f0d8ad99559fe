"""The streaming stage against a real HTTP server that does what endpoints do, good and bad."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager

import pytest

from pipeline.deltas import AnswerText
from pipeline.domain import AnswerRecord, Usage
from pipeline.errors import (
    AnswerCutError,
    AnswerError,
    AnswerLimitError,
    AnswerOverdueError,
    AnswerRefusedError,
    AnswerStalledError,
    EndpointFatalError,
    EndpointRefusedError,
    EndpointUnreachableError,
    PromptRefusedError,
    RateLimitedError,
)
from pipeline.pricing.token_counts import estimated_request_tokens
from pipeline.prompts import Prompt
from pipeline.streaming import Endpoint, check_endpoint, open_client, stream
from pipeline.terms import Terms
from tests.fixtures.scripted_endpoint import (
    DONE,
    JSON,
    Answer,
    Drop,
    ScriptedEndpoint,
    Step,
    event_of,
    every_generator_closed,
    finish_event,
    happens,
    scripted_endpoint,
    text_event,
    usage_event,
    whole_stream,
)

PROMPT = Prompt(system="You rank products.", customer="1. Oak chair")


async def read(endpoint: Endpoint, record: AnswerRecord | None = None) -> tuple[str, AnswerError | None]:
    """The text that came, and the error that ended it, if one did."""
    text = ""
    try:
        async with open_client(endpoint, concurrency=1) as client:
            async for piece in stream(client, endpoint, PROMPT, record or AnswerRecord()):
                text += piece.text
    except AnswerError as error:
        return text, error
    return text, None


async def read_script(*steps: Step) -> tuple[str, AnswerError | None]:
    async with scripted_endpoint(Answer(steps)) as scripted:
        return await read(scripted.endpoint())


async def error_of(answer: Answer) -> AnswerError:
    async with scripted_endpoint(answer) as scripted:
        text, error = await read(scripted.endpoint())
    assert text == ""
    assert error is not None
    assert "\n" not in str(error)
    return error


def refusing(status: int, body: object, headers: Mapping[str, str] = {}) -> Answer:
    return Answer([json.dumps(body).encode()], status=status, headers={**JSON, **headers})


@asynccontextmanager
async def opened(scripted: ScriptedEndpoint) -> AsyncGenerator[AsyncGenerator[AnswerText]]:
    endpoint = scripted.endpoint()
    with every_generator_closed():
        async with open_client(endpoint, concurrency=1) as client:
            yield stream(client, endpoint, PROMPT, AnswerRecord())


async def fail_at_first(pieces: AsyncGenerator[AnswerText]) -> None:
    async with aclosing(pieces):
        async for _ in pieces:
            raise ZeroDivisionError


async def test_the_text_of_an_answer_comes_in_pieces_and_its_ledger_is_filled() -> None:
    record = AnswerRecord()
    async with scripted_endpoint(Answer(whole_stream("one ", "two"))) as scripted:
        text, error = await read(scripted.endpoint(), record)
    assert (text, error) == ("one two", None)
    assert record.usage == Usage(tokens_in=100, tokens_out=20, tokens_cached=64)
    assert (record.status, record.request_id, record.model) == (200, "req-1", "served-model")
    assert record.finish_reason == "stop"
    assert record.first_byte_s is not None
    assert record.whole_s is not None
    assert 0 <= record.first_byte_s <= record.whole_s


async def test_the_request_carries_model_key_temperature_and_both_messages() -> None:
    async with scripted_endpoint(Answer(whole_stream("x"))) as scripted:
        await read(scripted.endpoint())
    [body] = scripted.bodies
    assert scripted.keys == ["Bearer test-key"]
    assert (body["model"], body["temperature"], body["stream"]) == ("test-model", 0.1, True)
    assert body["stream_options"] == {"include_usage": True}
    assert [message["content"] for message in body["messages"]] == [PROMPT.system, PROMPT.customer]


async def test_the_first_piece_is_here_while_the_rest_is_held_back() -> None:
    gate = asyncio.Event()
    async with (
        scripted_endpoint(Answer([text_event("first"), gate, *whole_stream("rest")])) as scripted,
        opened(scripted) as pieces,
        aclosing(pieces),
    ):
        assert await anext(pieces) == AnswerText("first")
        assert not scripted.answered.is_set()
        gate.set()
        assert [piece async for piece in pieces] == [AnswerText("rest")]


async def test_an_event_may_be_split_anywhere() -> None:
    wire = text_event("grün\u2028") + finish_event() + DONE
    text, error = await read_script(*(wire[at : at + 1] for at in range(len(wire))))
    assert (text, error) == ("grün\u2028", None)


async def test_signs_of_life_between_the_events_are_no_text() -> None:
    alive = [b": keep-alive\n\n", b"event: ping\ndata:\n\n", b"event: ping\n\n", b"retry: 3000\n\n", b"data: \n\n"]
    text, error = await read_script(*alive, text_event("x"), *alive, finish_event(), DONE)
    assert (text, error) == ("x", None)


async def test_an_answer_without_usage_has_it_estimated_by_its_texts() -> None:
    record = AnswerRecord()
    async with scripted_endpoint(Answer([text_event("12345"), finish_event(), DONE])) as scripted:
        await read(scripted.endpoint(), record)
    tokens_in = estimated_request_tokens(PROMPT.system, PROMPT.customer)
    assert record.usage == Usage(tokens_in=tokens_in, tokens_out=2, estimated=True)


async def test_a_model_that_reaches_its_length_limit_keeps_its_text_and_its_usage() -> None:
    record = AnswerRecord()
    async with scripted_endpoint(Answer(whole_stream("half", reason="length"))) as scripted:
        text, error = await read(scripted.endpoint(), record)
    assert text == "half"
    assert isinstance(error, AnswerLimitError)
    assert record.usage.tokens_out == 20


async def test_a_content_filter_is_a_refusal_after_the_text() -> None:
    text, error = await read_script(*whole_stream("half", reason="content_filter"))
    assert text == "half"
    assert isinstance(error, AnswerRefusedError)


async def test_a_refusal_is_told_whole_although_it_streams() -> None:
    record = AnswerRecord()
    pieces = [event_of({"choices": [{"index": 0, "delta": {"refusal": word}}]}) for word in ("I am ", "sorry.\n")]
    async with scripted_endpoint(Answer([*pieces, finish_event(), usage_event(), DONE])) as scripted:
        text, error = await read(scripted.endpoint(), record)
    assert text == ""
    assert isinstance(error, AnswerRefusedError)
    assert str(error).endswith("I am sorry.")
    assert record.usage.tokens_in == 100


async def test_an_error_inside_the_stream_comes_after_the_text_before_it() -> None:
    broken = event_of({"error": {"message": "the engine is overloaded", "type": "server_error"}})
    text, error = await read_script(text_event("x"), broken)
    assert text == "x"
    assert type(error) is EndpointRefusedError
    assert "the engine is overloaded" in str(error)


async def test_a_rate_limit_inside_the_stream_is_a_rate_limit() -> None:
    _, error = await read_script(event_of({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}))
    assert isinstance(error, RateLimitedError)
    assert error.status is None


async def test_a_refused_key_is_fatal_and_says_what_to_check() -> None:
    error = await error_of(refusing(401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}))
    assert isinstance(error, EndpointFatalError)
    assert error.status == 401
    assert "Incorrect API key" in str(error)
    assert "OPENAI_API_KEY" in str(error)


async def test_an_unknown_model_is_fatal_and_says_what_to_check() -> None:
    error = await error_of(refusing(404, {"error": {"message": "The model `x` does not exist"}}))
    assert isinstance(error, EndpointFatalError)
    assert "The model `x` does not exist" in str(error)
    assert "RECSTREAM_MODEL" in str(error)


async def test_too_many_requests_say_how_long_to_wait() -> None:
    error = await error_of(refusing(429, {"error": {"message": "slow down"}}, {"Retry-After": "7"}))
    assert isinstance(error, RateLimitedError)
    assert (error.status, error.retry_after) == (429, 7.0)


@pytest.mark.parametrize("wait", ["soon", "nan", "inf", ""])
async def test_a_wait_that_is_no_number_of_seconds_counts_as_unsaid(wait: str) -> None:
    error = await error_of(refusing(429, {"error": {"message": "slow down"}}, {"Retry-After": wait}))
    assert isinstance(error, RateLimitedError)
    assert error.retry_after is None


async def test_a_spent_quota_is_fatal_although_its_status_is_429() -> None:
    error = await error_of(refusing(429, {"error": {"message": "no quota", "code": "insufficient_quota"}}))
    assert isinstance(error, EndpointFatalError)


async def test_a_prompt_that_is_too_long_stops_no_other_customer() -> None:
    error = await error_of(refusing(400, {"error": {"message": "too long", "code": "context_length_exceeded"}}))
    assert type(error) is PromptRefusedError


async def test_a_failing_endpoint_may_be_tried_again_and_its_status_is_in_the_ledger() -> None:
    record = AnswerRecord()
    answer = Answer([b"oh no"], status=500, headers={"Content-Type": "text/plain", "x-request-id": "req-2"})
    async with scripted_endpoint(answer) as scripted:
        _, error = await read(scripted.endpoint(), record)
    assert type(error) is EndpointRefusedError
    assert (record.status, record.request_id) == (500, "req-2")
    assert (record.usage.tokens_in, record.first_byte_s) == (0, None)
    assert len(scripted.bodies) == 1


async def test_a_web_page_is_told_apart_from_an_answer() -> None:
    error = await error_of(Answer([b"<html>Welcome</html>"], headers={"Content-Type": "Text/HTML; charset=utf-8"}))
    assert isinstance(error, EndpointFatalError)
    assert "OPENAI_BASE_URL" in str(error)


async def test_a_web_page_is_not_read_to_its_end() -> None:
    page = Answer([b"<html>", asyncio.Event()], headers={"Content-Type": "text/html"})
    async with scripted_endpoint(page) as scripted, opened(scripted) as pieces:
        with pytest.raises(EndpointFatalError):
            await anext(pieces)
        assert await happens(scripted.client_gone)


async def test_an_error_page_gives_one_bounded_line() -> None:
    page = b"<html>\n<body>\n" + b"<p>Bad gateway</p>\n" * 500
    error = await error_of(Answer([page], status=502, headers={"Content-Type": "text/html"}))
    assert type(error) is EndpointRefusedError
    assert len(str(error)) < 500


async def test_a_whole_answer_is_taken_although_a_stream_was_asked_for() -> None:
    record = AnswerRecord()
    body = {
        "model": "served-model",
        "choices": [{"index": 0, "message": {"content": "all at once"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3},
    }
    async with scripted_endpoint(Answer([json.dumps(body).encode()], headers=JSON)) as scripted:
        text, error = await read(scripted.endpoint(), record)
    assert (text, error) == ("all at once", None)
    assert record.usage == Usage(tokens_in=9, tokens_out=3)


async def test_an_error_in_a_whole_answer_with_a_good_status_is_an_error() -> None:
    error = await error_of(refusing(200, {"error": {"message": "no such deployment", "code": 404}}))
    assert isinstance(error, EndpointFatalError)
    assert error.status == 404


async def test_a_whole_answer_without_end_is_given_up() -> None:
    error = await error_of(Answer([b"[" + b" " * 1_000_000] * 5, headers=JSON))
    assert isinstance(error, AnswerCutError)


async def test_words_that_are_not_json_are_a_cut_answer() -> None:
    text, error = await read_script(text_event("x"), b"data: oops\n\n")
    assert text == "x"
    assert isinstance(error, AnswerCutError)


async def test_where_nobody_listens_the_address_is_named() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"
        endpoint = Endpoint(base_url, "key", "model", 0.1, 20, 20, 20, 20, Terms(base_url))
        _, error = await read(endpoint)
        with pytest.raises(EndpointUnreachableError):
            async with open_client(endpoint, concurrency=1) as client:
                await check_endpoint(client, endpoint)
    assert isinstance(error, EndpointUnreachableError)
    assert base_url in str(error)


async def test_a_cut_stream_keeps_the_text_that_was_there() -> None:
    text, error = await read_script(text_event("half"), Drop())
    assert text == "half"
    assert isinstance(error, AnswerCutError)


async def test_a_stream_that_ends_without_its_end_was_cut() -> None:
    text, error = await read_script(text_event("half"))
    assert text == "half"
    assert isinstance(error, AnswerCutError)


async def test_an_answer_without_its_first_byte_is_given_up_after_a_time_of_its_own() -> None:
    async with scripted_endpoint(Answer([asyncio.Event()])) as scripted:
        text, error = await read(scripted.endpoint(first_byte_timeout_s=0.05))
        assert text == ""
        assert isinstance(error, AnswerStalledError)
        assert "first_byte_timeout_s" in str(error)
        assert await happens(scripted.client_gone)


async def test_a_stalled_stream_ends_after_the_idle_timeout() -> None:
    async with scripted_endpoint(Answer([text_event("half"), asyncio.Event()])) as scripted:
        text, error = await read(scripted.endpoint(idle_timeout_s=0.1))
        assert text == "half"
        assert isinstance(error, AnswerStalledError)
        assert "nothing came for 0.1 s" in str(error)
        assert await happens(scripted.client_gone)


async def test_an_answer_has_a_deadline_however_lively_it_is() -> None:
    async with scripted_endpoint(Answer([text_event("half"), asyncio.Event()])) as scripted:
        text, error = await read(scripted.endpoint(answer_timeout_s=0.3))
        assert text == "half"
        assert isinstance(error, AnswerOverdueError)
        assert "0.3 s" in str(error)
        assert await happens(scripted.client_gone)


async def test_leaving_the_loop_closes_the_connection() -> None:
    async with (
        scripted_endpoint(Answer([text_event("first"), asyncio.Event()])) as scripted,
        opened(scripted) as pieces,
    ):
        async with aclosing(pieces):
            async for _ in pieces:
                break
        assert await happens(scripted.client_gone)


async def test_an_exception_of_the_reader_closes_the_connection() -> None:
    async with (
        scripted_endpoint(Answer([text_event("first"), asyncio.Event()])) as scripted,
        opened(scripted) as pieces,
    ):
        with pytest.raises(ZeroDivisionError):
            await fail_at_first(pieces)
        assert await happens(scripted.client_gone)


async def test_cancellation_closes_the_connection_while_it_waits_for_text() -> None:
    first = asyncio.Event()

    async def consume(pieces: AsyncGenerator[AnswerText]) -> None:
        async for _ in pieces:
            first.set()

    async with (
        scripted_endpoint(Answer([text_event("first"), asyncio.Event()])) as scripted,
        opened(scripted) as pieces,
    ):
        reader = asyncio.create_task(consume(pieces))
        assert await happens(first)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert await happens(scripted.client_gone)


async def test_cancellation_closes_the_connection_before_the_answer_has_begun() -> None:
    async with scripted_endpoint(Answer([asyncio.Event()])) as scripted, opened(scripted) as pieces:
        reader = asyncio.create_task(anext(pieces))
        assert await happens(scripted.asked)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert await happens(scripted.client_gone)


async def test_one_connection_serves_one_answer_after_the_other() -> None:
    ends = [asyncio.Event() for _ in range(3)]  # HTTP's own end comes after [DONE], in a packet of its own
    async with scripted_endpoint(*(Answer([*whole_stream("x"), end]) for end in ends)) as scripted:
        endpoint = scripted.endpoint()
        async with open_client(endpoint, concurrency=1) as client:
            for end in ends:
                async for _ in stream(client, endpoint, PROMPT, AnswerRecord()):
                    end.set()
    assert len(scripted.bodies) == 3
    assert len(scripted.connections) == 1


async def test_an_endpoint_that_stays_open_after_its_end_is_left() -> None:
    async with scripted_endpoint(Answer([*whole_stream("x"), asyncio.Event()])) as scripted:
        assert await read(scripted.endpoint()) == ("x", None)
        assert await happens(scripted.client_gone)


async def test_a_key_is_checked_by_asking_for_the_models() -> None:
    answer = refusing(401, {"error": {"message": "Incorrect API key"}})
    async with scripted_endpoint(answer) as scripted:
        endpoint = scripted.endpoint()
        async with open_client(endpoint, concurrency=1) as client:
            with pytest.raises(EndpointFatalError, match="Incorrect API key"):
                await check_endpoint(client, endpoint)


async def test_an_endpoint_without_a_list_of_models_passes_the_check() -> None:
    async with scripted_endpoint(refusing(404, {"error": {"message": "not here"}})) as scripted:
        endpoint = scripted.endpoint()
        async with open_client(endpoint, concurrency=1) as client:
            await check_endpoint(client, endpoint)
    assert len(scripted.keys) == 1


async def test_a_web_page_in_place_of_the_models_is_told_from_an_endpoint() -> None:
    page = Answer([b"<!doctype html>"], headers={"content-type": "text/html; charset=utf-8"})
    async with scripted_endpoint(page) as scripted:
        endpoint = scripted.endpoint()
        async with open_client(endpoint, concurrency=1) as client:
            with pytest.raises(EndpointFatalError, match="web page"):
                await check_endpoint(client, endpoint)


async def test_the_body_of_the_models_is_not_waited_for() -> None:
    endless = Answer([b"not JSON at all", asyncio.Event()], headers={"content-type": "application/json"})
    async with scripted_endpoint(endless) as scripted:
        endpoint = scripted.endpoint()
        async with open_client(endpoint, concurrency=1) as client:
            await check_endpoint(client, endpoint)
        assert await happens(scripted.client_gone)


def test_a_key_is_not_in_the_text_of_an_endpoint() -> None:
    assert "hidden" not in repr(Endpoint("http://host/v1", "hidden", "model", 0.1, 1, 1, 1, 1, Terms("http://host/v1")))
