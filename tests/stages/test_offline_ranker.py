"""The offline ranker as others meet it: a process of its own, spoken to by the real client over real connections."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import (
    APIConnectionError,
    APIError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    DefaultAioHttpClient,
    InternalServerError,
    NotFoundError,
    OpenAI,
    RateLimitError,
)
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from pipeline.errors import ConfigurationError
from pipeline.offline_ranker.faults import Fault, FaultPlan
from pipeline.offline_ranker.limits import Dialect, LimitPlan
from pipeline.offline_ranker.process import OfflineRanker, offline_ranker

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0
MODEL = "offline-ranker"
PROMPT = """\
Products:
1. Oak chair
2. Desk lamp
3. Yoga mat

Customer:
Recent searches: yoga mats, lamps
"""
COMPACT: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": 'Answer like {"recommendations":[{"i":4,"s":93}]}'},
    {"role": "user", "content": PROMPT},
]
FULL: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]


@pytest.fixture(scope="module")
def module_ranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineRanker]:
    with offline_ranker(tokens_per_second=0) as ranker:
        yield ranker


@pytest.fixture
def ranker(module_ranker: OfflineRanker) -> Iterator[OfflineRanker]:
    yield module_ranker
    put_plan(module_ranker, FaultPlan())
    put_limits(module_ranker, LimitPlan())


@pytest.fixture
def client(ranker: OfflineRanker) -> Iterator[OpenAI]:
    with client_of(ranker) as client:
        yield client


def client_of(ranker: OfflineRanker, api_key: str = "any") -> OpenAI:
    return OpenAI(base_url=ranker.base_url, api_key=api_key, max_retries=0, timeout=PATIENCE_S)


def put_plan(ranker: OfflineRanker, plan: FaultPlan) -> None:
    request = urllib.request.Request(ranker.faults_url, plan.model_dump_json().encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        assert response.status == 200


def put_limits(ranker: OfflineRanker, limits: LimitPlan) -> None:
    request = urllib.request.Request(ranker.limits_url, limits.model_dump_json().encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        assert response.status == 200


def suffer(ranker: OfflineRanker, *faults: Fault, **settings: Any) -> None:
    put_plan(ranker, FaultPlan(shares=dict.fromkeys(faults, 1.0), **settings))


def whole_text(client: OpenAI, messages: list[ChatCompletionMessageParam]) -> str:
    return client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content or ""


def text_of(chunk: ChatCompletionChunk) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


def streamed_text(client: OpenAI, messages: list[ChatCompletionMessageParam] = COMPACT) -> tuple[str, Exception | None]:
    """The text that arrived, and the error that ended it, if one did."""
    text = ""
    try:
        for chunk in client.chat.completions.create(model=MODEL, messages=messages, stream=True):
            text += text_of(chunk)
    except (APIError, APIConnectionError) as error:
        return text, error
    return text, None


def post(ranker: OfflineRanker, body: bytes) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"{ranker.base_url}/chat/completions", body)
    return answered(request)


def answered(request: urllib.request.Request | str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class AnswerLog:
    """The reading end of a named pipe that a ranker logs to, so that a test can wait for a line."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR)
        self._received = b""

    def next_line(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            ready, _, _ = select.select([self._descriptor], [], [], PATIENCE_S)
            assert ready, "no line was logged"
            self._received += os.read(self._descriptor, 65536)
        line, _, self._received = self._received.partition(b"\n")
        document: dict[str, Any] = json.loads(line)
        return document

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def logged_ranker(folder: Path, **settings: Any) -> Iterator[tuple[OfflineRanker, AnswerLog]]:
    with ExitStack() as stack:
        log = AnswerLog(folder / "answers")
        stack.callback(log.close)
        yield stack.enter_context(offline_ranker(log=log.path, **settings)), log


# The wire


def test_a_streamed_answer_is_the_whole_answer_in_pieces(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=COMPACT)
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=COMPACT, stream=True, stream_options={"include_usage": True}
        )
    )
    pieces = [piece for piece in map(text_of, chunks) if piece]
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == len(pieces)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert {len(piece) for piece in pieces[:-1]} == {4}


def test_without_the_option_a_stream_carries_no_usage(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=COMPACT, stream=True))
    assert all(chunk.choices for chunk in chunks)


def test_both_forms_of_an_answer_rank_alike(client: OpenAI) -> None:
    compact = json.loads(whole_text(client, COMPACT))["recommendations"]
    full = json.loads(whole_text(client, FULL))["recommendations"]
    assert [entry["i"] for entry in compact] == [3, 2, 1]
    assert [entry["product_id"] for entry in full] == ["3", "2", "1"]
    assert [entry["product_name"] for entry in full] == ["Yoga mat", "Desk lamp", "Oak chair"]
    assert [round(entry["relevance_score"] * 100) for entry in full] == [entry["s"] for entry in compact]


async def test_the_asynchronous_client_reads_a_stream_over_its_aiohttp_transport(ranker: OfflineRanker) -> None:
    async with AsyncOpenAI(
        base_url=ranker.base_url, api_key="any", max_retries=0, http_client=DefaultAioHttpClient()
    ) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=COMPACT, stream=True)
        text = "".join([text_of(chunk) async for chunk in stream])
    assert [entry["i"] for entry in json.loads(text)["recommendations"]] == [3, 2, 1]


async def test_a_hundred_streams_are_answered_at_once(ranker: OfflineRanker) -> None:
    suffer(ranker, Fault.HELD)
    all_began = asyncio.Event()
    began = 0

    async def read(client: AsyncOpenAI) -> str:
        nonlocal began
        text = ""
        async for chunk in await client.chat.completions.create(model=MODEL, messages=COMPACT, stream=True):
            if not text and text_of(chunk):
                began += 1
                if began == 100:
                    all_began.set()
            text += text_of(chunk)
        return text

    async with AsyncOpenAI(
        base_url=ranker.base_url, api_key="any", max_retries=0, http_client=DefaultAioHttpClient()
    ) as client:
        reading = asyncio.gather(*(read(client) for _ in range(100)))
        await asyncio.wait_for(all_began.wait(), PATIENCE_S)
        await asyncio.to_thread(put_plan, ranker, FaultPlan())
        texts = await asyncio.wait_for(reading, PATIENCE_S)
    assert len(set(texts)) == 1
    assert len(json.loads(texts[0])["recommendations"]) == 3


def test_every_answer_says_that_no_language_model_made_it(client: OpenAI, ranker: OfflineRanker) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=COMPACT)
    first, *_ = client.chat.completions.create(model=MODEL, messages=COMPACT, stream=True)
    assert "not a language model" in (whole.system_fingerprint or "")
    assert "not a language model" in (first.system_fingerprint or "")
    status, models = answered(f"{ranker.base_url}/models")
    assert status == 200
    assert "not a language model" in models["data"][0]["description"]


def test_the_one_model_is_listed_and_others_are_not_found(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(NotFoundError) as refusal:
        client.models.retrieve("gpt-4")
    assert refusal.value.code == "model_not_found"
    with pytest.raises(NotFoundError) as refusal:
        client.chat.completions.create(model="gpt-4", messages=COMPACT)
    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")


def test_every_answer_has_a_request_id_of_its_own(client: OpenAI) -> None:
    answers = [client.chat.completions.with_raw_response.create(model=MODEL, messages=COMPACT) for _ in range(3)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3


def test_a_token_limit_ends_the_answer_with_its_reason(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=COMPACT, max_completion_tokens=7)
    *_, last = client.chat.completions.create(model=MODEL, messages=COMPACT, max_tokens=7, stream=True)
    assert whole.choices[0].finish_reason == last.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 7


def test_what_would_change_the_shape_of_the_answer_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refusal:
        client.chat.completions.create(model=MODEL, messages=COMPACT, n=2)
    assert refusal.value.param == "n"


def test_what_tunes_sampling_has_no_effect(client: OpenAI) -> None:
    hot = client.chat.completions.create(model=MODEL, messages=COMPACT, temperature=1.9, seed=4, top_p=0.1)
    assert hot.choices[0].message.content == whole_text(client, COMPACT)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"{}", b'{"model":"offline-ranker","messages":"hi"}'])
def test_a_body_that_is_no_request_is_refused_in_the_wires_form(ranker: OfflineRanker, body: bytes) -> None:
    status, document = post(ranker, body)
    assert status == 400
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert "\n" not in document["error"]["message"]


def test_an_unknown_path_and_a_wrong_method_are_refused_in_the_wires_form(ranker: OfflineRanker) -> None:
    status, document = answered(f"{ranker.base_url}/embeddings")
    assert (status, document["error"]["type"]) == (404, "invalid_request_error")
    status, document = answered(f"{ranker.base_url}/chat/completions")
    assert (status, document["error"]["type"]) == (405, "invalid_request_error")


def test_a_ranker_with_a_key_refuses_all_who_do_not_bring_it() -> None:
    with offline_ranker(api_key="right") as ranker:
        with client_of(ranker, "wrong") as client, pytest.raises(AuthenticationError) as refusal:
            client.models.list()
        assert refusal.value.code == "invalid_api_key"
        with client_of(ranker, "right") as client:
            assert [model.id for model in client.models.list()] == [MODEL]
        status, health = answered(ranker.base_url.replace("/v1", "/health"))
    assert (status, health["status"]) == (200, "ok")


def test_a_paced_stream_arrives_whole() -> None:
    with offline_ranker(tokens_per_second=200) as ranker, client_of(ranker) as client:
        text, error = streamed_text(client)
    assert error is None
    assert len(json.loads(text)["recommendations"]) == 3


# Misbehaviour


def test_a_refusal_for_too_many_requests_says_when_to_come_back(client: OpenAI, ranker: OfflineRanker) -> None:
    suffer(ranker, Fault.REFUSED_429, retry_after_seconds=2.5)
    with pytest.raises(RateLimitError) as refusal:
        whole_text(client, COMPACT)
    assert refusal.value.response.headers["retry-after"] == "2.5"
    suffer(ranker, Fault.REFUSED_429, retry_after_seconds=None)
    with pytest.raises(RateLimitError) as refusal:
        whole_text(client, COMPACT)
    assert "retry-after" not in refusal.value.response.headers


def test_a_refusal_for_a_failure_of_the_server_has_its_status(client: OpenAI, ranker: OfflineRanker) -> None:
    suffer(ranker, Fault.REFUSED_500)
    with pytest.raises(InternalServerError) as refusal:
        whole_text(client, COMPACT)
    assert refusal.value.response.headers["x-request-id"]


@pytest.mark.parametrize(("objects", "arrived"), [(0, ""), (2, '{"recommendations":[{"i":3,"s":')])
def test_a_cut_stream_ends_without_an_end(client: OpenAI, ranker: OfflineRanker, objects: int, arrived: str) -> None:
    suffer(ranker, Fault.CUT, cut_after_objects=objects)
    text, error = streamed_text(client)
    assert isinstance(error, APIConnectionError)
    assert text.startswith(arrived)
    assert text.count('"s"') == objects


def test_a_cut_falls_at_its_share_of_the_text(client: OpenAI, ranker: OfflineRanker) -> None:
    sound = whole_text(client, COMPACT)
    suffer(ranker, Fault.CUT, cut_at_share=0.5)
    text, error = streamed_text(client)
    assert isinstance(error, APIConnectionError)
    assert text == sound[: len(sound) // 2]


def test_a_cut_whole_answer_is_no_answer(client: OpenAI, ranker: OfflineRanker) -> None:
    suffer(ranker, Fault.CUT)
    with pytest.raises(APIConnectionError):
        whole_text(client, COMPACT)


def test_an_error_inside_a_stream_comes_after_sound_objects(client: OpenAI, ranker: OfflineRanker) -> None:
    suffer(ranker, Fault.ERROR_EVENT, error_after_objects=1)
    text, error = streamed_text(client)
    assert isinstance(error, APIError)
    assert not isinstance(error, APIConnectionError)
    assert text.endswith("}")
    assert text.count('"s"') == 1


def test_a_wrapped_answer_has_prose_and_fences_around_it(client: OpenAI, ranker: OfflineRanker) -> None:
    sound = whole_text(client, COMPACT)
    suffer(ranker, Fault.WRAPPED)
    text, error = streamed_text(client)
    assert error is None
    assert f"```json\n{sound}\n```" in text


def test_a_delayed_answer_comes_whole(client: OpenAI, ranker: OfflineRanker) -> None:
    sound = whole_text(client, COMPACT)
    suffer(ranker, Fault.DELAYED, delay_seconds=0.05)
    assert streamed_text(client) == (sound, None)


def test_a_held_answer_goes_on_when_the_plan_changes(client: OpenAI, ranker: OfflineRanker) -> None:
    suffer(ranker, Fault.HELD, hold_after_objects=1)
    stream = client.chat.completions.create(model=MODEL, messages=COMPACT, stream=True)
    text = ""
    for chunk in stream:
        text += text_of(chunk)
        if text.endswith("}"):
            break
    assert text.count('"s"') == 1
    put_plan(ranker, FaultPlan())
    text += "".join(map(text_of, stream))
    assert len(json.loads(text)["recommendations"]) == 3


def test_the_plan_can_be_read_and_a_wrong_one_changes_nothing(ranker: OfflineRanker) -> None:
    suffer(ranker, Fault.DELAYED, delay_seconds=0)
    request = urllib.request.Request(ranker.faults_url, b'{"shares":{"flood":1}}', method="PUT")
    status, document = answered(request)
    assert status == 400
    assert "flood" in document["error"]["param"]
    status, plan = answered(ranker.faults_url)
    assert (status, plan["shares"]) == (200, {"delayed": 1.0})


def test_the_faults_of_a_seed_fall_on_the_same_requests(client: OpenAI, ranker: OfflineRanker) -> None:
    plan = FaultPlan(seed=5, shares={Fault.REFUSED_500: 0.5})

    def outcomes() -> list[bool]:
        put_plan(ranker, plan)
        return [streamed_or_refused(client) for _ in range(12)]

    assert outcomes() == outcomes() == [not plan.drawn(number) for number in range(1, 13)]


def streamed_or_refused(client: OpenAI) -> bool:
    _, error = streamed_text(client)
    return error is None


# Limits

ONE_A_MINUTE = LimitPlan(requests_per_minute=1, headers=Dialect.OPENAI, retry_after_ms=True)


def test_a_request_over_the_limit_is_refused_with_all_that_the_plan_lets_it_say(
    client: OpenAI, ranker: OfflineRanker
) -> None:
    put_limits(ranker, ONE_A_MINUTE)
    answer = client.chat.completions.with_raw_response.create(model=MODEL, messages=COMPACT)
    assert answer.headers["x-ratelimit-limit-requests"] == "1"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(RateLimitError, match="Limit 1, Used 1, Requested 1") as refusal:
        streamed_answer(client)
    assert refusal.value.code == "rate_limit_exceeded"
    told = refusal.value.response.headers
    assert 0 < int(told["retry-after-ms"]) <= 60_000
    assert 0 < int(told["retry-after"]) <= 60
    assert told["x-ratelimit-remaining-requests"] == "0"


def streamed_answer(client: OpenAI) -> str:
    return "".join(map(text_of, client.chat.completions.create(model=MODEL, messages=COMPACT, stream=True)))


def test_a_refusal_inside_a_stream_has_no_status_of_its_own(client: OpenAI, ranker: OfflineRanker) -> None:
    put_limits(ranker, ONE_A_MINUTE.model_copy(update={"in_band": True}))
    assert streamed_text(client)[1] is None
    text, error = streamed_text(client)
    assert text == ""
    assert isinstance(error, APIError)
    assert not isinstance(error, RateLimitError)
    assert "Rate limit reached" in error.message
    with pytest.raises(RateLimitError):
        whole_text(client, COMPACT)


def test_tokens_are_charged_by_the_prompt_and_the_most_that_is_asked_for(client: OpenAI, ranker: OfflineRanker) -> None:
    put_limits(ranker, LimitPlan(tokens_per_minute=2_000, burst_seconds=60, headers=Dialect.OPENAI))
    asked = client.chat.completions.with_raw_response.create(model=MODEL, messages=COMPACT, max_completion_tokens=900)
    usage = asked.parse().usage
    assert usage is not None
    left = 2_000 - usage.prompt_tokens - 900
    assert left <= int(asked.headers["x-ratelimit-remaining-tokens"]) <= left + 34 * PATIENCE_S
    with pytest.raises(RateLimitError, match=r"tokens per min \(TPM\): Limit 2000"):
        client.chat.completions.create(model=MODEL, messages=COMPACT, max_completion_tokens=1_900)


def test_who_comes_while_all_places_are_taken_is_refused_and_a_place_comes_back(
    client: OpenAI, ranker: OfflineRanker
) -> None:
    put_limits(ranker, LimitPlan(concurrency=1))
    suffer(ranker, Fault.HELD, hold_after_objects=1)
    held = client.chat.completions.create(model=MODEL, messages=COMPACT, stream=True)
    next(chunk for chunk in held if text_of(chunk))
    with pytest.raises(RateLimitError, match="on requests at a time: Limit 1, Used 1"):
        whole_text(client, COMPACT)
    put_plan(ranker, FaultPlan())
    list(held)
    assert streamed_text(client)[1] is None


def test_limits_can_be_read_and_wrong_ones_change_nothing(ranker: OfflineRanker) -> None:
    put_limits(ranker, ONE_A_MINUTE)
    status, document = answered(urllib.request.Request(ranker.limits_url, b'{"tokens_per_year":1}', method="PUT"))
    assert status == 400
    assert document["error"]["param"] == "tokens_per_year"
    status, limits = answered(ranker.limits_url)
    assert (status, LimitPlan.model_validate(limits)) == (200, ONE_A_MINUTE)


def test_streams_that_share_a_pace_are_slower_together_and_arrive_whole(ranker: OfflineRanker) -> None:
    put_limits(ranker, LimitPlan(shared_tokens_per_second=400))
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(ranker)) for _ in range(3)]
        streams = [client.chat.completions.create(model=MODEL, messages=COMPACT, stream=True) for client in clients]
        texts = ["".join(map(text_of, stream)) for stream in streams]
    assert [len(json.loads(text)["recommendations"]) for text in texts] == [3, 3, 3]


def test_the_beginning_of_a_prompt_that_came_before_is_told_as_cached(client: OpenAI, ranker: OfflineRanker) -> None:
    put_limits(ranker, LimitPlan(prompt_cache=True))
    long: list[ChatCompletionMessageParam] = [{"role": "system", "content": "rules " * 1_000}, COMPACT[1]]

    def cached() -> int | None:
        usage = client.chat.completions.create(model=MODEL, messages=long).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        return usage.prompt_tokens_details.cached_tokens

    assert [cached(), cached()] == [0, 1_408]
    put_limits(ranker, LimitPlan())
    usage = client.chat.completions.create(model=MODEL, messages=long).usage
    assert usage is not None
    assert usage.prompt_tokens_details is None


def test_the_tier_that_was_asked_for_is_told(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=COMPACT, service_tier="flex")
    first, *_ = client.chat.completions.create(model=MODEL, messages=COMPACT, service_tier="auto", stream=True)
    assert (whole.service_tier, first.service_tier) == ("flex", "default")
    assert client.chat.completions.create(model=MODEL, messages=COMPACT).service_tier is None


# The record


def test_the_record_has_what_is_needed_to_account_for_a_limit(tmp_path: Path) -> None:
    with (
        logged_ranker(tmp_path, tokens_per_second=0, limits=ONE_A_MINUTE) as (ranker, log),
        client_of(ranker) as client,
    ):
        whole = client.chat.completions.create(model=MODEL, messages=COMPACT, max_tokens=50)
        line = log.next_line()
        assert whole.usage is not None
        assert (line["limited"], line["limits"]) == (None, {"requests_per_minute": 1})
        assert line["prompt_tokens"] == whole.usage.prompt_tokens
        assert line["charged_tokens"] == whole.usage.prompt_tokens + 50
        assert line["sent_tokens"] == whole.usage.completion_tokens
        with pytest.raises(RateLimitError):
            whole_text(client, COMPACT)
        line = log.next_line()
        assert (line["limited"], line["status"], line["ended"], line["sent_tokens"]) == ("requests", 429, "refused", 0)
        assert line["ended_at"] >= line["received_at"]


def test_the_record_tells_what_was_sent_and_how_it_ended(tmp_path: Path) -> None:
    with logged_ranker(tmp_path, tokens_per_second=0) as (ranker, log), client_of(ranker) as client:
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=COMPACT, user="c-1")
        line = log.next_line()
        assert line["request_id"] == raw.headers["x-request-id"]
        assert (line["user"], line["status"], line["ended"]) == ("c-1", 200, "complete")
        assert [entry["candidate"] for entry in line["objects"]] == ["3", "2", "1"]
        assert [entry["name"] for entry in line["objects"]] == ["Yoga mat", "Desk lamp", "Oak chair"]

        suffer(ranker, Fault.CUT, Fault.NAN_SCORE, cut_after_objects=2)
        text, _ = streamed_text(client)
        line = log.next_line()
        assert (line["ended"], line["sent_characters"]) == ("cut", len(text))
        assert [(entry["candidate"], entry["spoiled"]) for entry in line["objects"]] == [
            ("3", None),
            ("2", "nan-score"),
        ]
        assert all(entry["text"] in text for entry in line["objects"])

        suffer(ranker, Fault.REFUSED_429)
        streamed_text(client)
        line = log.next_line()
        assert (line["status"], line["ended"], line["objects"]) == (429, "refused", [])


def test_the_record_tells_what_was_asked_and_when(tmp_path: Path) -> None:
    with logged_ranker(tmp_path, tokens_per_second=0) as (ranker, log), client_of(ranker) as client:
        suffer(ranker, Fault.CUT, cut_after_objects=1)
        begun = time.time()
        streamed_text(client)
        line = log.next_line()
    assert line["candidates"] == {"1": "Oak chair", "2": "Desk lamp", "3": "Yoga mat"}
    assert begun <= line["received_at"] <= time.time()
    assert len(line["objects"]) == 1


@pytest.mark.parametrize("fault", [Fault.HELD, Fault.STALLED, Fault.DELAYED])
def test_a_client_that_goes_away_ends_the_work_for_its_answer(tmp_path: Path, fault: Fault) -> None:
    plan = FaultPlan(shares={fault: 1}, delay_seconds=3600)
    with logged_ranker(tmp_path, tokens_per_second=0, faults=plan) as (ranker, log):
        host, port = ranker.base_url.removeprefix("http://").removesuffix("/v1").split(":")
        body = json.dumps({"model": MODEL, "messages": COMPACT, "stream": True}).encode()
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            if fault is Fault.HELD:
                assert connection.recv(1).startswith(b"H")
        line = log.next_line()
    assert line["ended"] == "client-left"
    assert len(line["objects"]) <= 1


def test_a_client_that_leaves_a_slow_stream_stops_it(tmp_path: Path) -> None:
    with logged_ranker(tmp_path, tokens_per_second=1) as (ranker, log), client_of(ranker) as client:
        with client.chat.completions.create(model=MODEL, messages=COMPACT, stream=True) as stream:
            next(iter(stream))
        line = log.next_line()
    assert (line["ended"], line["objects"]) == ("client-left", [])


def test_answers_in_progress_are_recorded_when_the_server_is_stopped(tmp_path: Path) -> None:
    log = tmp_path / "answers.jsonl"
    held = FaultPlan(shares={Fault.HELD: 1})
    with offline_ranker(tokens_per_second=0, faults=held, log=log) as ranker, client_of(ranker) as client:
        stream = client.chat.completions.create(model=MODEL, messages=COMPACT, stream=True)
        text = ""
        for chunk in stream:
            text += text_of(chunk)
            if text.endswith("}"):
                break
        os.kill(ranker.pid, signal.SIGTERM)
        with pytest.raises(APIConnectionError):
            list(stream)
    line = json.loads(log.read_text())
    assert line["ended"] == "server-stopped"
    assert [entry["candidate"] for entry in line["objects"]] == ["3"]


# The process


@contextmanager
def started(*flags: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.offline_ranker", *flags],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_document(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    document: dict[str, Any] = json.loads(process.stdout.readline())
    return document


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_cleanly(number: signal.Signals, status: int) -> None:
    with started() as process:
        document = first_document(process)
        assert document["pid"] == process.pid
        process.send_signal(number)
        rest, complaints = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, rest) == (status, "")
    assert complaints.count("\n") == 1
    assert "not a language model" in complaints


def test_the_end_of_standard_input_ends_it_where_that_is_watched() -> None:
    with started("--watch-stdin") as process:
        first_document(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


def test_a_taken_port_is_one_line_and_status_2(ranker: OfflineRanker) -> None:
    port = ranker.base_url.rpartition(":")[2].removesuffix("/v1")
    with started("--port", port) as process:
        output, complaints = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (2, "")
    assert complaints.count("\n") == 1
    assert port in complaints


def test_a_log_that_cannot_be_written_is_one_line_and_status_2(tmp_path: Path) -> None:
    with started("--log", str(tmp_path / "nowhere" / "log")) as process:
        _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert complaints.count("\n") == 1
    assert "--log" in complaints


def test_a_child_that_cannot_start_tells_its_own_reason(ranker: OfflineRanker) -> None:
    port = int(ranker.base_url.rpartition(":")[2].removesuffix("/v1"))
    with pytest.raises(ConfigurationError, match=str(port)), offline_ranker(port=port):
        pytest.fail("it listens on a port that is taken")


def test_it_starts_from_another_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with offline_ranker(log=Path("answers.jsonl")) as ranker, client_of(ranker) as client:
        whole_text(client, COMPACT)
    assert json.loads((tmp_path / "answers.jsonl").read_text())["ended"] == "complete"


def test_it_ends_with_the_block_even_when_the_block_fails() -> None:
    with pytest.raises(RuntimeError), offline_ranker() as ranker:
        raise RuntimeError
    with pytest.raises(ProcessLookupError):
        os.kill(ranker.pid, 0)


def test_it_ends_when_its_parent_is_killed() -> None:
    program = (
        "import sys; from pipeline.offline_ranker.process import offline_ranker\n"
        "with offline_ranker() as ranker:\n"
        "    print(ranker.base_url, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        base_url = parent.stdout.readline().strip()
        host, port = base_url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
            parent.kill()
            assert connection.recv(1) == b"", "the orphan is still there"
