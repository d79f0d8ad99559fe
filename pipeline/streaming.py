"""Asks the endpoint and yields the answer's text as it arrives. The only module that speaks HTTP.

The `openai` client sends the request (auth, base URL, proxies); its body is taken raw, because the client's typed chunk
objects cost many times what reading the bytes does.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import httpx2
import openai
from aiohttp.http_exceptions import HttpProcessingError
from openai import AsyncAPIResponse, AsyncOpenAI, AsyncStream, DefaultAioHttpClient
from openai.types.chat import ChatCompletionChunk

from pipeline.deltas import DONE, MAX_WORDS, Delta, read_delta, refusal_of
from pipeline.domain import AnswerRecord, Usage
from pipeline.errors import (
    AnswerCutError,
    AnswerLimitError,
    AnswerRefusedError,
    EndpointFatalError,
    EndpointRefusedError,
    EndpointUnreachableError,
    first_line,
)
from pipeline.prompts import Prompt
from pipeline.sse import SseDecoder

MAX_WHOLE_ANSWER_BYTES = 4_000_000
_CHARACTERS_PER_TOKEN = 4
_PATIENCE_AFTER_DONE_S = 0.5

RawAnswer = AsyncAPIResponse[AsyncStream[ChatCompletionChunk]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the model is asked, and with what patience. Times are in seconds."""

    base_url: str
    api_key: str = field(repr=False)
    model: str
    temperature: float
    connect_timeout_s: float
    idle_timeout_s: float
    answer_timeout_s: float
    is_offline_ranker: bool = False

    @property
    def provenance(self) -> str:
        """What made the ranking, as the tables have it."""
        return "offline_ranker" if self.is_offline_ranker else "language_model"


@asynccontextmanager
async def open_client(endpoint: Endpoint, *, concurrency: int) -> AsyncIterator[AsyncOpenAI]:
    """One HTTP client for many streams at a time. Its own retries are off: attempts have one owner."""
    patience = httpx2.Timeout(endpoint.idle_timeout_s, connect=endpoint.connect_timeout_s)
    places = httpx2.Limits(max_connections=concurrency * 2, max_keepalive_connections=concurrency)
    async with AsyncOpenAI(
        api_key=endpoint.api_key,
        base_url=endpoint.base_url,
        max_retries=0,
        timeout=patience,
        http_client=DefaultAioHttpClient(timeout=patience, limits=places),
    ) as client:
        yield client


async def check_endpoint(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    """Ask for the list of models, to know before a night begins that somebody answers and takes the key.

    Raises:
        EndpointUnreachableError: nobody listens there.
        EndpointFatalError: the key is refused, or a web page answers. An endpoint without a list of models passes.
    """
    try:
        with _translated(endpoint):
            await _ask_for_models(client, endpoint)
    except AnswerCutError as error:
        raise EndpointUnreachableError(f"{error}; is OPENAI_BASE_URL right?") from error


async def _ask_for_models(client: AsyncOpenAI, endpoint: Endpoint) -> None:
    """Look at the head of the answer only: its body may be anything, and of any size."""
    try:
        async with (
            asyncio.timeout(endpoint.connect_timeout_s),
            client.models.with_streaming_response.list(timeout=endpoint.connect_timeout_s) as response,
        ):
            _refuse_web_page(endpoint, response.headers.get("content-type", "").lower())
    except openai.APIStatusError as error:
        if error.status_code in {401, 403}:
            raise


async def stream(client: AsyncOpenAI, endpoint: Endpoint, prompt: Prompt, record: AnswerRecord) -> AsyncGenerator[str]:
    """Yield the answer's text, piece by piece; `record` holds what is known of the answer at every moment.

    Closing the generator closes the connection. All text is yielded before an error is raised.

    Raises:
        EndpointUnreachableError, EndpointRefusedError (and its kinds), AnswerCutError, AnswerLimitError,
        AnswerRefusedError: see `pipeline.errors`.
    """
    begin = time.monotonic()
    deadline = asyncio.get_running_loop().time() + endpoint.answer_timeout_s
    characters, refusal = 0, ""
    try:
        async with aclosing(_deltas(client, endpoint, prompt, record, begin, deadline)) as deltas:
            async for delta in deltas:
                _take(delta, record)
                if delta.text:
                    characters += len(delta.text)
                    yield delta.text
                refusal = (refusal + delta.refusal)[:MAX_WORDS]
    finally:
        record.whole_s = time.monotonic() - begin
        _estimate_missing_usage(record, prompt, characters)
    _judge_finish(record.finish_reason, refusal)


async def _deltas(
    client: AsyncOpenAI,
    endpoint: Endpoint,
    prompt: Prompt,
    record: AnswerRecord,
    begin: float,
    deadline: float,
) -> AsyncGenerator[Delta]:
    with _translated(endpoint):
        async with _request(client, endpoint, prompt, record, deadline) as response:
            chunks = aclosing(_chunks(response, record, begin, deadline))
            read = _reader(endpoint, response.headers.get("content-type", ""))
            async with chunks as incoming, aclosing(read(incoming)) as deltas:
                async for delta in deltas:
                    yield delta


@asynccontextmanager
async def _request(
    client: AsyncOpenAI, endpoint: Endpoint, prompt: Prompt, record: AnswerRecord, deadline: float
) -> AsyncIterator[RawAnswer]:
    request = client.chat.completions.with_streaming_response.create(
        model=endpoint.model,
        temperature=endpoint.temperature,
        stream=True,
        stream_options={"include_usage": True},
        messages=[
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": prompt.customer},
        ],
    )
    try:
        async with asyncio.timeout_at(deadline):
            response = await request.__aenter__()
    except openai.APIStatusError as error:
        record.status, record.request_id = error.status_code, error.request_id
        raise
    record.status, record.request_id = response.status_code, response.request_id
    try:
        yield response
    finally:
        await request.__aexit__(None, None, None)


async def _chunks(response: RawAnswer, record: AnswerRecord, begin: float, deadline: float) -> AsyncGenerator[bytes]:
    async with aclosing(response.http_response.aiter_bytes()) as incoming:
        while True:
            async with asyncio.timeout_at(deadline):
                chunk = await anext(incoming, None)
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError  # what is buffered already never waits, so the line above lets it pass
            if chunk is None:
                return
            if record.first_byte_s is None:
                record.first_byte_s = time.monotonic() - begin
            yield chunk


def _reader(endpoint: Endpoint, content_type: str) -> Callable[[AsyncGenerator[bytes]], AsyncGenerator[Delta]]:
    kind = content_type.lower()
    _refuse_web_page(endpoint, kind)
    return _read_whole if "json" in kind else _read_events


def _refuse_web_page(endpoint: Endpoint, content_type: str) -> None:
    if "html" in content_type:
        raise EndpointFatalError(
            f"{endpoint.base_url} answered with a web page: is OPENAI_BASE_URL right (it often ends in /v1)?"
        )


async def _read_events(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[Delta]:
    decoder, finished = SseDecoder(), False
    async for chunk in chunks:
        for event in decoder.feed(chunk):
            data = event.data.strip()
            if data == DONE:
                await _read_out(chunks)
                return
            if not data:
                continue  # a sign of life
            delta = read_delta(data)
            finished = finished or delta.finish_reason is not None
            yield delta
    if not finished:
        raise AnswerCutError("the stream broke off before the answer had ended")


async def _read_out(chunks: AsyncGenerator[bytes]) -> None:
    """Wait a moment for the end that HTTP itself has, so that the connection can serve the next request."""
    with suppress(TimeoutError, httpx2.RequestError, aiohttp.ClientError, OSError):  # the answer is whole already
        async with asyncio.timeout(_PATIENCE_AFTER_DONE_S):
            async for _ in chunks:
                pass


async def _read_whole(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[Delta]:
    """Some endpoints answer whole although a stream was asked for."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_WHOLE_ANSWER_BYTES:
            raise AnswerCutError(f"the endpoint sent an answer of over {MAX_WHOLE_ANSWER_BYTES:,} bytes")
    yield read_delta(bytes(body))


def _take(delta: Delta, record: AnswerRecord) -> None:
    record.model = delta.model or record.model
    record.finish_reason = delta.finish_reason or record.finish_reason
    record.usage = delta.usage or record.usage


def _estimate_missing_usage(record: AnswerRecord, prompt: Prompt, characters: int) -> None:
    if record.status != 200 or record.usage.tokens_in:
        return
    tokens_in = (len(prompt.system) + len(prompt.customer)) // _CHARACTERS_PER_TOKEN
    tokens_out = -(-characters // _CHARACTERS_PER_TOKEN)
    record.usage = Usage(tokens_in=tokens_in, tokens_out=tokens_out, estimated=True)


def _judge_finish(finish_reason: str | None, refusal: str) -> None:
    if refusal:
        raise AnswerRefusedError(f"the model refused to answer: {' '.join(refusal.split())}")
    if finish_reason == "length":
        raise AnswerLimitError("the model stopped at its length limit: ask for fewer products")
    if finish_reason == "content_filter":
        raise AnswerRefusedError("the endpoint's content filter stopped the answer")


@contextmanager
def _translated(endpoint: Endpoint) -> Iterator[None]:
    try:
        yield
    except openai.APIStatusError as error:
        raise _refusal(error) from error
    except openai.APIConnectionError as error:
        raise EndpointUnreachableError(
            f"no answer from {endpoint.base_url}: {_root_cause(error)}; check OPENAI_BASE_URL, and that it runs"
        ) from error
    except TimeoutError as error:
        raise AnswerCutError(f"the answer was not there after {endpoint.answer_timeout_s:g} s") from error
    except httpx2.TimeoutException as error:
        raise AnswerCutError(
            f"the stream from {endpoint.base_url} stalled: nothing came for {endpoint.idle_timeout_s:g} s"
        ) from error
    except (httpx2.RequestError, aiohttp.ClientError, OSError) as error:
        raise AnswerCutError(f"the stream from {endpoint.base_url} broke off: {_root_cause(error)}") from error


def _refusal(error: openai.APIStatusError) -> EndpointRefusedError:
    body = error.body or error.message
    return refusal_of(body, status=error.status_code, retry_after=_seconds(error.response.headers.get("retry-after")))


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < float("inf") else None


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, HttpProcessingError):  # its text begins with a code that is no status of the answer
        return str(error.message)
    return first_line(error)
